"""Rate limits over all processes: on a storage of the ``limits`` library (extra ``limits``), or on our link to Redis.

On the link a request is one script, which also says what remains and until when; the library asks twice, and both
questions look through more of the window than the one answer needs.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from hashlib import sha1
from typing import TYPE_CHECKING, Any, Final, Self

from prefsync.adapters.memory import MemoryRateLimiter
from prefsync.errors import MissingExtraError, UnavailableError
from prefsync.ports import Permit, ReadyRateLimiter
from prefsync.recent import Recent

try:
    from limits.aio.storage import MovingWindowSupport
    from limits.errors import StorageError
except ImportError as error:
    raise MissingExtraError("rate limits shared by processes (prefsync.adapters.limits)", "limits") from error

if TYPE_CHECKING:
    from prefsync.adapters.redis.cluster import RedisClusterLink
    from prefsync.adapters.redis.link import RedisLink
    from prefsync.clock import Clock
    from prefsync.ports import Rate

__all__ = ["LimitsRateLimiter"]

logger = logging.getLogger("prefsync")

# A process takes several permits at once where the limit is so high that this part of what is left does not
# matter: from about 4,000 in a window on. Below, each request is counted by itself, and exactly the limit passes.
_LEASED_PART: Final = 1 / 4096

# Seconds for which leased permits are good. The shared window is longer by as much, so that a permit that is used late
# still leaves no window of the promised length with more requests than the limit.
_LEASE_LIFE: Final = 5.0

_REMEMBERED_LEASES: Final = 50_000

_MICROSECONDS: Final = 1_000_000

# A list of what was counted, newest first, each as its time, the count before it and the count after it: how much a
# window holds is told by its two ends, whatever the entries cost. The time is Redis' own, in microseconds, and never
# goes back within a list.
_COUNT: Final = """
local limit, window, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local function entry(index)
  local at, before, after = string.match(redis.call('LINDEX', KEYS[1], index) or '', '^(%d+) (%d+) (%d+)$')
  return tonumber(at), tonumber(before), tonumber(after)
end
local newest, _, total = entry(0)
local oldest, before
if newest then
  now = math.max(now, newest)
  oldest, before = entry(-1)
  while oldest and oldest <= now - window do
    redis.call('RPOP', KEYS[1])
    oldest, before = entry(-1)
  end
end
local count = oldest and total - before or 0
local allowed = count + cost <= limit
if allowed then
  total = total or 0
  redis.call('LPUSH', KEYS[1], string.format('%.0f %.0f %.0f', now, total, total + cost))
  redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
  oldest, count = oldest or now, count + cost
end
return {allowed and 1 or 0, limit - count, (oldest or now) + window - now}
"""
_COUNT_DIGEST: Final = sha1(_COUNT.encode(), usedforsecurity=False).hexdigest()


@dataclass(slots=True)
class _Lease:
    permits: int
    expires: float
    remaining: int
    reset_at: float


class LimitsRateLimiter(ReadyRateLimiter):
    """An exact moving window: no window of the rate's length ever sees more, and exactly the limit can pass.

    From 4,096 in a window on, processes take permits in advance, and what they do not use within 5 s is lost: then a
    little less than the limit can pass.

    While the shared storage does not answer, each process counts by itself: the limit then holds for each process.

    Args:
        rate: What may pass.
        storage: Where to count: a link to Redis or to a cluster, or a storage of ``limits.aio.storage`` made with
            ``wrap_exceptions=True``.
        clock: For counting by process.
    """

    def __init__(
        self,
        rate: Rate,
        storage: RedisLink | RedisClusterLink | MovingWindowSupport,
        clock: Clock | None = None,
    ) -> None:
        self.rate = rate
        self._link: RedisLink | RedisClusterLink | None = None
        self._storage: Any = None
        if isinstance(storage, MovingWindowSupport):
            self._storage = storage
        else:
            self._link = storage
        self._local = MemoryRateLimiter(rate, clock)
        self._leases: Recent[_Lease] = Recent(_REMEMBERED_LEASES)
        self._leasing: set[str] = set()
        self._leases_permits = rate.limit * _LEASED_PART >= 1
        self._window = math.ceil(rate.window + (_LEASE_LIFE if self._leases_permits else 0))

    async def __aenter__(self) -> Self:
        if self._link is not None:
            await self._link.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._link is not None:
            await self._link.__aexit__()

    def abandon(self) -> None:
        """Forget, in a forked process, the permits that its parent has taken: that uses them itself."""
        self._leases.clear()
        self._leasing.clear()

    @property
    def is_ready(self) -> bool:
        return self._leases_permits

    def take(self, key: str, cost: int = 1) -> Permit | None:
        lease = self._leases.get(key)
        if lease is None or lease.permits < cost or lease.expires <= (now := time.time()):
            return None
        lease.permits -= cost
        # By position: each name would cost as much as all the rest here.
        return Permit(True, lease.remaining + lease.permits, _left(lease.reset_at, now))  # noqa: FBT003

    async def acquire(self, key: str, cost: int = 1) -> Permit:
        if not self._leases_permits:
            return await self._count(key, cost)
        if (permit := self.take(key, cost)) is not None:
            return permit
        if key in self._leasing:
            return await self._count(key, cost)
        now, lease = time.time(), self._leases.get(key)
        spare = int((lease.remaining if lease else self.rate.limit) * _LEASED_PART)
        self._leasing.add(key)
        try:
            permit = await self._count(key, cost + spare)
            if spare and not permit.allowed:
                spare, permit = 0, await self._count(key, cost)
            reset_at = now + permit.reset_after
            self._leases.put(key, _Lease(spare, now + _LEASE_LIFE, permit.remaining, reset_at), 1)
        finally:
            self._leasing.discard(key)
        return Permit(permit.allowed, permit.remaining + spare, permit.reset_after)

    async def _count(self, key: str, amount: int) -> Permit:
        try:
            return await self._count_shared(key, amount)
        except (StorageError, UnavailableError):
            logger.debug("a request is counted by this process alone")
        return await self._local.acquire(key, amount)

    async def _count_shared(self, key: str, amount: int) -> Permit:
        limit, window = self.rate.limit, self._window
        if self._link is not None:
            words = [limit, window * _MICROSECONDS, amount]
            place = f"{self._link.prefix}:limit:1:{key}"
            allowed, remaining, left = await self._link.script(_COUNT, _COUNT_DIGEST, [place], words)
            return Permit(bool(allowed), max(0, remaining), max(1, math.ceil(left / _MICROSECONDS)))
        allowed = await self._storage.acquire_entry(key, limit, window, amount)
        start, count = await self._storage.get_moving_window(key, limit, window)
        return Permit(bool(allowed), max(0, limit - count), min(window, _left(start + window, time.time())))


def _left(moment: float, now: float) -> int:
    return max(1, math.ceil(moment - now))

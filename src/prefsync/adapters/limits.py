"""Rate limits counted by the ``limits`` library (extra ``limits``), over all processes that share its storage."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from prefsync.adapters.memory import MemoryRateLimiter
from prefsync.caching import Recent
from prefsync.errors import MissingExtraError, UnavailableError
from prefsync.ports import Permit, RateLimiter

try:
    from limits.aio.storage import MovingWindowSupport, RedisStorage
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
_LARGEST_LEASE: Final = 64

# Seconds for which leased permits are good. The shared window is longer by as much, so that a permit that is used late
# still leaves no window of the promised length with more requests than the limit.
_LEASE_LIFE: Final = 5.0

_REMEMBERED_LEASES: Final = 50_000


@dataclass(slots=True)
class _Lease:
    permits: int
    expires: float
    remaining: int
    reset_at: float


class LimitsRateLimiter(RateLimiter):
    """An exact moving window: no window of the rate's length ever sees more, and exactly the limit can pass.

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
        self._shared: Any = None
        if isinstance(storage, MovingWindowSupport):
            self._shared = storage
        else:
            self._link = storage
        self._local = MemoryRateLimiter(rate, clock)
        self._leases: Recent[_Lease] = Recent(_REMEMBERED_LEASES)
        self._leasing: set[str] = set()
        self._leases_permits = rate.limit * _LEASED_PART >= 1
        self._window = math.ceil(rate.window + (_LEASE_LIFE if self._leases_permits else 0))

    async def __aenter__(self) -> Self:
        if self._link is not None:
            self._shared = _LinkedStorage(await self._link.__aenter__())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._link is not None:
            self._shared = None
            await self._link.__aexit__()

    async def acquire(self, key: str, cost: int = 1) -> Permit:
        if not self._leases_permits:
            return await self._count(key, cost)
        now = time.time()
        lease = self._leases.get(key)
        if lease is not None and lease.permits >= cost and lease.expires > now:
            lease.permits -= cost
            remaining = lease.remaining + lease.permits
            return Permit(allowed=True, remaining=remaining, reset_after=_left(lease.reset_at, now))
        if key in self._leasing:
            return await self._count(key, cost)
        spare = min(_LARGEST_LEASE, int((lease.remaining if lease else self.rate.limit) * _LEASED_PART))
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
        storage, limit, window = self._shared, self.rate.limit, self._window
        hit = storage.acquire_entry(key, limit, window, amount)
        if self._link is None:
            allowed = await hit
            start, count = await storage.get_moving_window(key, limit, window)
        else:
            # Started together, in this order: they travel as one pipeline, and the window is read as the hit left it.
            look = storage.get_moving_window(key, limit, window)
            allowed, (start, count) = await asyncio.gather(hit, look)
        return Permit(bool(allowed), max(0, limit - count), min(window, _left(start + window, time.time())))


def _left(moment: float, now: float) -> int:
    return max(1, math.ceil(moment - now))


class _LinkedStorage(RedisStorage):
    """The Redis storage of ``limits``, its commands gathered with everybody else's."""

    STORAGE_SCHEME: list[str] = []  # noqa: RUF012  # not to be found by URL; declared as limits does

    def __init__(self, link: RedisLink | RedisClusterLink) -> None:
        self._link = link
        super().__init__(
            "async+redis://",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix=f"{link.prefix}:limit",
        )

    def configure_bridge(self) -> None:
        bridge: Any = self.bridge
        bridge.connection_getter = lambda _readonly: self._link.client

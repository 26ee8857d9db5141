"""How often whoever calls may ask, and what an answer tells of it (protocol.md, "Rate limit")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from prefsync.errors import RateLimitedError
from prefsync.ports import ReadyRateLimiter
from prefsync.ports.part import short_way

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from prefsync.ports import Operation, Permit, RateLimiter

__all__ = ["Headers", "Quota", "Quotas"]

Headers: TypeAlias = list[tuple[bytes, bytes]]

_STREAM_PATHS: Final = frozenset({"/events", "/ws", "/ticket"})
_WRITE_METHODS: Final = frozenset({"PUT", "PATCH", "DELETE"})


class Quota:
    """What may be used up of one policy, by each that is counted under it.

    Args:
        name: Of the policy, as answers tell it; also keeps its counts apart from those of others.
        limiter: Counts.
    """

    __slots__ = ("_limiter", "_name", "_policy", "_prefix", "_take")

    def __init__(self, name: str, limiter: RateLimiter) -> None:
        rate = limiter.rate
        self._limiter = limiter
        self._take: Callable[[str], Permit | None] | None = None
        if getattr(limiter, "is_ready", False):
            self._take = short_way(limiter, ReadyRateLimiter, "take", past="acquire")
        self._prefix = f"{name}:"
        self._name = name.encode()
        self._policy = (b"ratelimit-policy", f'"{name}";q={rate.limit};w={rate.window}'.encode())

    @property
    def is_ready(self) -> bool:
        """Whether :meth:`take` is worth asking."""
        return self._take is not None

    async def count(self, whom: str, headers: Headers) -> None:
        """Count a request.

        Args:
            whom: Whose it is.
            headers: Where to tell what is left, as draft-ietf-httpapi-ratelimit-headers does.

        Raises:
            RateLimitedError: There were too many.
        """
        permit = await self._limiter.acquire(self._prefix + whom)
        headers += self._told(permit)
        if not permit.allowed:
            raise RateLimitedError(permit.reset_after)

    def take(self, whom: str) -> Headers | None:
        """Count a request that may pass without asking anybody, and return what to tell of what is left.

        ``None``: it was not counted; do so by :meth:`count`.
        """
        permit = None if self._take is None else self._take(self._prefix + whom)
        return None if permit is None or not permit.allowed else self._told(permit)

    def _told(self, permit: Permit) -> Headers:
        left = b'"%b";r=%d;t=%d' % (self._name, permit.remaining, permit.reset_after)
        return [self._policy, (b"ratelimit", left)]


@dataclass(frozen=True, slots=True)
class Quotas:
    """All quotas of a mount. Operations that the host gives no rate of their own share one.

    Attributes:
        reads: Of requests that are neither of the two below, by subject.
        writes: Of requests that write, over HTTP or a socket, by subject.
        streams: Of streams that are opened and of tickets for them, by subject.
        failures: Of tokens and tickets that are not good, by address.
    """

    reads: Quota
    writes: Quota
    streams: Quota
    failures: Quota

    @classmethod
    def of(cls, limiter: RateLimiter, operations: Mapping[Operation, RateLimiter]) -> Self:
        """Return the quotas of a mount.

        Args:
            limiter: Counts what has no limiter of its own.
            operations: Those that have.
        """
        shared = Quota("user", limiter)
        own = {name: Quota(f"user-{name}", counts) for name, counts in operations.items()}
        return cls(
            own.get("reads", shared),
            own.get("writes", shared),
            own.get("streams", shared),
            Quota("address", limiter),
        )

    def of_request(self, method: str, path: str) -> Quota:
        """Return the quota that a request below the prefix counts under, whatever becomes of it."""
        if path in _STREAM_PATHS:
            return self.streams
        return self.writes if method in _WRITE_METHODS else self.reads

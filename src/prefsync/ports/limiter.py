"""What the core asks of whoever counts requests."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias

from prefsync.ports.part import Part

__all__ = ["Operation", "Permit", "Rate", "RateLimiter", "ReadyRateLimiter"]

Operation: TypeAlias = Literal["reads", "writes", "streams"]
"""What may have a rate of its own."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How much may pass: no window of this length ever sees more.

    Attributes:
        limit: Requests.
        window: Seconds.
    """

    limit: int
    window: int


class Permit(NamedTuple):
    """A limiter's answer.

    Attributes:
        allowed: Whether the request may pass; a refused one counts nothing.
        remaining: How many more could pass now.
        reset_after: Whole seconds, rounded up, until more can pass than now; the ``Retry-After`` of a refused one.
    """

    allowed: bool
    remaining: int
    reset_after: int


class RateLimiter(Part, Protocol):
    """Counts requests by key over all processes that share the limiter."""

    rate: Rate

    @abstractmethod
    async def acquire(self, key: str, cost: int = 1) -> Permit:
        """Count a request if it fits: exact under concurrency, at most ``rate.limit`` in any ``rate.window``.

        Never raises ``UnavailableError``: where the shared count is out of reach, it counts by process.
        """


class ReadyRateLimiter(RateLimiter, Protocol):
    """A limiter that can have permits at hand. It has to be a subclass of this one for ``take`` to be called.

    It is not called where ``acquire`` was overridden after it.
    """

    @property
    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it ever has; by its rate, say."""

    @abstractmethod
    def take(self, key: str) -> Permit | None:
        """Count a request without asking anybody, as exactly as :meth:`acquire`; ``None`` where that cannot be."""

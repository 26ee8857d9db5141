"""Time, as a value that can be handed in."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> int:
        """Return ms since 1970; may jump when somebody sets the clock."""

    def monotonic(self) -> float:
        """Return seconds since some moment; never goes backwards."""


class SystemClock:
    """The machine's clock."""

    monotonic = staticmethod(time.monotonic)  # which each request asks several times

    def now(self) -> int:
        """Return ms since 1970."""
        return time.time_ns() // 1_000_000

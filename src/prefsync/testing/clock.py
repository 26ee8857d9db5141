"""A clock that stands still until a test moves it."""

from __future__ import annotations

from prefsync.clock import Clock

__all__ = ["FakeClock"]


class FakeClock(Clock):
    """Time as a test wants it.

    The wall clock and the steady one are two, as on a real machine: :meth:`advance` moves both, :meth:`set` only the
    wall clock, backwards too, as somebody who sets a machine's clock does.

    Args:
        now: The wall clock to begin with, in ms since 1970.
    """

    def __init__(self, now: int = 1_795_000_000_000) -> None:
        self._now = float(now)
        self._monotonic = 1_000.0

    def now(self) -> int:
        """Return ms since 1970."""
        return int(self._now)

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        return self._monotonic

    def set(self, now: int) -> None:
        """Set the wall clock to a time in ms since 1970, a later or an earlier one."""
        self._now = float(now)

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            ValueError: The time is negative; use :meth:`set` to turn the wall clock back.
        """
        if seconds < 0:
            message = "time passes forwards; use set() to turn the wall clock back"
            raise ValueError(message)
        self._now += seconds * 1_000
        self._monotonic += seconds

"""How long to wait, decided without waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

__all__ = ["Backoff"]

# Whatever the base, longer than any pause: 2 to higher powers would overflow after days of failures.
_MOST_DOUBLINGS = 16


class Backoff:
    """Exponential backoff with full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

    Args:
        base: Seconds, of the longest pause after the first failure.
        most: Seconds, of the longest pause at all.
        random: Where chance comes from.
    """

    def __init__(self, base: float, most: float, random: Random) -> None:
        self.base = base
        self._most = most
        self._random = random
        self._failures = 0

    @property
    def is_fresh(self) -> bool:
        """Whether nothing has failed since the beginning, or since something worked."""
        return self._failures == 0

    def pause(self) -> float:
        """Return the seconds to wait after one more failure."""
        longest = self.base * 2 ** min(self._failures, _MOST_DOUBLINGS)
        self._failures += 1
        return self._random.uniform(0, min(longest, self._most))

    def reset(self) -> None:
        """Forget the failures: something worked."""
        self._failures = 0

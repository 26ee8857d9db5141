"""What was asked for, and what was found: the closing table."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Outcome"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One line of the closing table.

    Attributes:
        what: The work.
        target: What was asked for.
        found: What was found: the median, and the range where there is one.
        reached: Whether it is as good as it has to be.
    """

    what: str
    target: str
    found: str
    reached: bool

    @classmethod
    def at_least(cls, what: str, target: float, unit: str, found: Sequence[float]) -> Self:
        """Return the outcome of what is the better the more it is."""
        return cls(what, f"at least {target:g} {unit}", _told(found), median(found) >= target)

    @classmethod
    def at_most(cls, what: str, target: float, unit: str, found: Sequence[float]) -> Self:
        """Return the outcome of what is the better the less it is."""
        return cls(what, f"at most {target:g} {unit}", _told(found), median(found) <= target)


def _told(found: Sequence[float]) -> str:
    middle, least, most = (_digits(value) for value in (median(found), min(found), max(found)))
    return f"{middle} ({least} to {most})" if len(found) > 1 else middle


def _digits(value: float) -> str:
    if value >= 20:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"

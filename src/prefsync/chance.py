"""Chance that spreads load, so that what began together does not come back together."""

from __future__ import annotations

import os
import random
from typing import Final

__all__ = ["between"]

# Not the generator that the host may have seeded, nor one that forked processes share. The system's own would ask the
# kernel for each number, and each write needs one.
_OWN: Final = random.Random()  # noqa: S311  # nobody gains by guessing it

if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_OWN.seed)


def between(least: float, most: float) -> float:
    """Return a number from a range, each as likely as any other."""
    return _OWN.uniform(least, most)

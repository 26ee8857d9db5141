"""What a forked process has got from its parent: kept for ever, because to let go of it would reach the parent.

Connections write their farewell to a socket that is the parent's as well. Event loops and their transports take file
descriptors out of an epoll instance that is the parent's as well, whose loop hears of them no more.
"""

from __future__ import annotations

import ctypes

__all__ = ["keep_for_ever"]

_KEPT: list[tuple[object, ...]] = []


def keep_for_ever(*inherited: object) -> None:
    """Let objects, and all that they hold, never be finalized: not now, and not when the interpreter ends."""
    _KEPT.append(inherited)
    # The interpreter empties modules at its end. Where it does not count references, it finalizes nothing then.
    if increase := getattr(getattr(ctypes, "pythonapi", None), "Py_IncRef", None):
        increase(ctypes.py_object(inherited))

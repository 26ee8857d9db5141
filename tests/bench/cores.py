"""Who runs on which core: two that compete for one measure the scheduler."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Cores", "choose", "pin"]


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where; an empty set for "anywhere".

    Attributes:
        server: The one core of the servers under measurement.
        load: The one core of the load generator.
        rest: Of a private Redis; the load generator's core where there is no other.
        note: What readers of the figures should know.
    """

    server: frozenset[int]
    load: frozenset[int]
    rest: frozenset[int]
    note: str


def choose() -> Cores:
    """Choose among the cores that this process may use."""
    nobody = frozenset[int]()
    if not hasattr(os, "sched_setaffinity"):
        return Cores(nobody, nobody, nobody, "nothing is pinned: this system cannot")
    usable = sorted(os.sched_getaffinity(0))
    server = usable[0]
    # Two threads of one physical core would slow one another down.
    others = [core for core in usable if core not in _siblings(server)] or usable[1:]
    if not others:
        return Cores(nobody, nobody, nobody, "one core for everything: the server is slowed by its load")
    rest = others[1:] or others
    of_redis = ", ".join(map(str, rest))
    note = f"server on core {server}, load on core {others[0]}, Redis on {of_redis}, PostgreSQL anywhere"
    return Cores(frozenset({server}), frozenset({others[0]}), frozenset(rest), note)


def pin(cores: frozenset[int]) -> None:
    """Keep this process, and those that it starts from now on, to these cores."""
    if cores:
        os.sched_setaffinity(0, cores)


def _siblings(core: int) -> set[int]:
    """Return the logical cores that share a physical one with this one, itself included."""
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    found = {core}
    if path.exists():
        for part in path.read_text().strip().split(","):
            first, _, last = part.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    return found

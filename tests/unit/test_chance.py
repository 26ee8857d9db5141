"""What is spread by chance."""

from __future__ import annotations

import multiprocessing
import random
from typing import TYPE_CHECKING

from prefsync.chance import between

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


def draw(pipe: Connection) -> None:
    """Send numbers."""
    pipe.send(numbers())


def numbers() -> list[float]:
    """Draw some."""
    return [between(0.9, 1) for _ in range(100)]


def test_it_lies_within_its_range() -> None:
    """No number lies outside, and they are not all the same."""
    drawn = numbers()
    assert 0.9 <= min(drawn) < max(drawn) <= 1


def test_it_is_nobody_elses() -> None:
    """A host that seeds Python's generator makes nothing the same."""
    random.seed(1)
    first = numbers()
    random.seed(1)
    assert numbers() != first


def test_forked_processes_draw_their_own() -> None:
    """Workers that were forked from one process do not all do the same at the same time."""
    forks = multiprocessing.get_context("fork")
    drawn = []
    for _ in range(2):
        mine, theirs = forks.Pipe()
        child = forks.Process(target=draw, args=(theirs,))
        child.start()
        drawn.append(mine.recv())
        child.join()
    assert drawn[0] != drawn[1]
    assert numbers() not in drawn

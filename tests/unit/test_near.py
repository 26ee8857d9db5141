"""The near cache: what it may be asked for, what it must forget, and what it takes."""

from __future__ import annotations

import gc
import math
import tracemalloc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsync.document import Document
from prefsync.near import NearCache
from prefsync.testing import FakeClock

if TYPE_CHECKING:
    from prefsync.near import Place

KEY, OTHER = "key", "other"


def document(revision: int, size: int = 0) -> Document:
    """Return a document of a revision, and of at least so many bytes."""
    return Document(revision, {"plugins": {"x": "x" * size}}, {"plugins": revision})


class Believed(NearCache):
    """A near cache that is believed, with a clock of its own."""

    def __init__(self, bound: int = 2**20, life: float = 300) -> None:
        self.clock = FakeClock()
        super().__init__(bound, life, self.clock)
        self.believe(math.inf)

    def read(self, key: str, what: Document) -> None:
        """Keep what was just read."""
        self.keep(key, self.place(key), what)


def test_it_is_believed_for_less_than_two_seconds() -> None:
    """What is kept is shown while announcements were known to arrive less than 2 s ago, and again as soon as they are."""
    clock = FakeClock()
    near = NearCache(2**20, 300, clock)
    near.keep(KEY, near.place(KEY), document(1))
    assert near.get(KEY) is None
    near.believe(clock.monotonic())
    assert near.get(KEY) == document(1)
    clock.advance(1.7)
    assert near.get(KEY) == document(1)
    clock.advance(0.2)
    assert near.get(KEY) is None
    near.believe(clock.monotonic() - 0.5)
    assert near.get(KEY) == document(1)


def test_an_earlier_moment_takes_nothing_back() -> None:
    """A sign of life that comes late does not shorten the time that a later one gave."""
    near = Believed()
    near.believe(0)
    near.read(KEY, document(1))
    assert near.get(KEY) == document(1)


@pytest.mark.parametrize(("announced", "is_kept"), [(4, True), (5, True), (6, False)])
def test_a_newer_state_is_heard_of(announced: int, *, is_kept: bool) -> None:
    """What is older than an announced version is forgotten, and only that, for that subject alone."""
    near = Believed()
    near.read(KEY, document(5))
    near.read(OTHER, document(1))
    near.hear(KEY, announced)
    assert (near.get(KEY) is not None) is is_kept
    assert near.get(OTHER) is not None


def test_what_was_read_before_an_announcement_is_not_kept() -> None:
    """A reader that is overtaken by a write puts nothing back; the next one does."""
    near = Believed()
    place = near.place(KEY)
    near.hear(KEY, 6)
    near.keep(KEY, place, document(5))
    assert near.get(KEY) is None
    near.read(KEY, document(6))
    assert near.get(KEY) == document(6)


def test_an_older_state_replaces_no_newer_one() -> None:
    """Of two readers of one subject the slower one does not win."""
    near = Believed()
    slow = near.place(KEY)
    near.read(KEY, document(6))
    near.keep(KEY, slow, document(5))
    assert near.get(KEY) == document(6)


def test_a_place_that_was_dropped_is_of_no_use() -> None:
    """While a subject has no place nothing is heard of it: who took one before keeps nothing in the next one."""
    near = Believed(bound=10_000)
    slow = near.place(KEY)
    for number in range(30):
        near.place(f"other {number}")
    assert KEY not in near
    near.hear(KEY, 6)
    near.place(KEY)
    near.keep(KEY, slow, document(5))
    assert near.get(KEY) is None


def test_missed_announcements_empty_it() -> None:
    """After a gap, and while the link is lost, it has nothing; nor does it keep what was read before."""
    for end in (NearCache.forget, NearCache.doubt):
        near = Believed()
        near.read(KEY, document(5))
        slow = near.place(OTHER)
        end(near)
        near.keep(OTHER, slow, document(5))
        near.believe(math.inf)
        assert near.get(KEY) is None
        assert near.get(OTHER) is None


def test_a_lost_link_silences_it() -> None:
    """What is read while the link is lost is not shown until announcements are known to arrive."""
    near = Believed()
    near.doubt()
    near.read(KEY, document(5))
    assert near.get(KEY) is None


def test_nothing_is_kept_for_ever() -> None:
    """Whatever is heard, the time to live of the shared cache holds here too."""
    near = Believed(life=300)
    near.read(KEY, document(5))
    near.clock.advance(299)
    assert near.get(KEY) is not None
    near.clock.advance(2)
    assert near.get(KEY) is None


@pytest.mark.parametrize("size", [50, 600, 20_000])
def test_it_takes_no_more_memory_than_it_says(size: int) -> None:
    """However many documents come, they take at most the bound, and a good part of it."""
    bound = 4 * 2**20
    near = Believed(bound)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(4 * bound // (size + 1_500)):
            held = Document.decode(document(number + 1, size).encode())
            held.encode()
            near.read(f"{number:020}", held)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 0.2 * bound < taken <= bound


@dataclass
class World:
    """One subject: what is stored, what was announced and not heard yet, and who reads."""

    near: Believed = field(default_factory=lambda: Believed(bound=6_000))
    stored: int = 0
    heard: int = 0
    under_way: list[int] = field(default_factory=list)
    readers: list[tuple[Place, int | None]] = field(default_factory=list)

    def write(self) -> None:
        """Another process writes and announces."""
        self.stored += 1
        self.under_way.append(self.stored)

    def hear(self) -> None:
        """The next announcement arrives."""
        if self.under_way:
            self.heard = self.under_way.pop(0)
            self.near.hear(KEY, self.heard)

    def begin(self) -> None:
        """A reader takes a place."""
        self.readers.append((self.near.place(KEY), None))

    def look(self) -> None:
        """The oldest reader that has not looked yet does."""
        for index, (place, seen) in enumerate(self.readers):
            if seen is None:
                self.readers[index] = (place, self.stored)
                return

    def end(self) -> None:
        """The newest reader that has looked keeps what it saw."""
        for index, (place, seen) in reversed(list(enumerate(self.readers))):
            if seen is not None:
                self.near.keep(KEY, place, document(seen))
                del self.readers[index]
                return

    def crowd_out(self) -> None:
        """Others take all places."""
        for number in range(10):
            self.near.place(f"other {number}")


STEPS = [World.write, World.hear, World.begin, World.look, World.end, World.crowd_out]


@given(st.lists(st.sampled_from(STEPS), max_size=40))
def test_nothing_is_older_than_what_was_heard(steps: list[object]) -> None:
    """In whatever order writes, announcements and readers come, what is shown is as new as what was heard."""
    world = World()
    for step in steps:
        step(world)  # type: ignore[operator]
        shown = world.near.get(KEY)
        assert shown is None or shown.revision >= world.heard

"""The stale-set race, forced for many subjects at once.

A reader has read a document, and before it puts that into the cache, somebody replaces it. (Nishtala et al., "Scaling
Memcache at Facebook", NSDI 2013, section 3.2.1, calls it a stale set.)
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prefsync.testing.doubles import PausingRepository
from tests.unit.support import PATIENCE, Process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from prefsync import Subject
    from prefsync.document import Document
    from prefsync.ports import PreferenceCache, PreferenceRepository


class GatedRepository(PausingRepository):
    """A repository whose readers wait, with what they have read, until as many have come as are expected and it is opened."""

    def __init__(self, inner: PreferenceRepository) -> None:
        super().__init__(inner)
        self._waiting = 0
        self._expected = 0
        self._come = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()

    def close(self, expected: int) -> None:
        """Let the next readers wait."""
        self._waiting, self._expected = 0, expected
        self._come.clear()
        self._open.clear()

    async def come(self) -> None:
        """Return when all that are expected wait."""
        async with asyncio.timeout(PATIENCE):
            await self._come.wait()

    def open(self) -> None:
        """Let all of them go on."""
        self._open.set()

    async def load(self, subject: Subject) -> Document:
        """Read, and wait."""
        document = await super().load(subject)
        self._waiting += 1
        if self._waiting == self._expected:
            self._come.set()
        await self._open.wait()
        return document


async def race(
    repository: PreferenceRepository,
    caches: Sequence[PreferenceCache],
    empty: Callable[[Sequence[Subject]], Awaitable[None]],
    subjects: Sequence[Subject],
    rounds: int,
) -> int:
    """Force the race for each of some subjects, again and again, and return how many reads are stale afterwards.

    Args:
        repository: Where all of them store.
        caches: The sides that three processes have of one cache: the slow readers', the writers', and somebody else's.
        empty: Makes the cache empty for subjects.
        subjects: Whose.
        rounds: How often.
    """
    gate = GatedRepository(repository)
    slow, writing = Process(gate, caches[0]), Process(repository, caches[1])
    await asyncio.gather(*(writing.patch(subject, "plugins", n=-1) for subject in subjects))
    stale = 0
    for n in range(rounds):
        await empty(subjects)
        gate.close(len(subjects))
        async with asyncio.TaskGroup() as tasks:
            reads = [tasks.create_task(slow.service.read(subject)) for subject in subjects]
            await gate.come()
            await asyncio.gather(*(writing.patch(subject, "plugins", n=n) for subject in subjects))
            gate.open()
        assert {read.result().values["plugins"]["n"] for read in reads} == {n - 1}, "nobody was overtaken"
        for process in (slow, Process(repository, caches[2])):
            answers = await asyncio.gather(*(process.service.read(subject) for subject in subjects))
            stale += sum(answer.values["plugins"]["n"] != n for answer in answers)
    return stale

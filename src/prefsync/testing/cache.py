"""The contract of :class:`prefsync.ports.PreferenceCache`."""

from __future__ import annotations

import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import anyio.lowlevel
import pytest

from prefsync.document import Document
from prefsync.errors import UnavailableError
from prefsync.ports import CacheEntry
from prefsync.testing.samples import (
    CANCELLED_BY,
    HOSTILE_SUBJECTS,
    PATIENCE,
    cut_short,
    fresh_subject,
    other_tasks,
    settled,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from prefsync.document import Subject
    from prefsync.ports import PreferenceCache
    from prefsync.testing.outage import Outage
    from prefsync.testing.samples import CancelledBy

__all__ = ["CacheContract", "CacheOutageContract"]

# Seconds within which a call has to have found out that the cache is away: it is there to save time.
BOUND = 5.0


def _entry(version: int, text: str = "payload") -> CacheEntry:
    return CacheEntry(version, f"{text} of {version}".encode())


async def _get(cache: PreferenceCache, subject: Subject) -> CacheEntry | None:
    return await cache.get(subject)


async def _put(cache: PreferenceCache, subject: Subject, entry: CacheEntry) -> None:
    await cache.put(subject, entry)


class _CacheFixtures:
    # Whether no task may be left; not where the outage has tasks of its own.
    watches_tasks: ClassVar[bool] = True

    def in_use(self, cache: Any) -> int:
        """Return how many connections are out, for adapters that have any."""
        del cache
        return 0

    @pytest.fixture
    def subject(self) -> Subject:
        """A subject of which nothing is cached."""
        return fresh_subject()

    @pytest.fixture(autouse=True)
    async def _nothing_is_left(self, cache: PreferenceCache) -> AsyncIterator[None]:
        tasks = other_tasks()
        yield
        await settled(lambda: self.in_use(cache) == 0, "a connection is still out")
        if self.watches_tasks:
            await settled(lambda: other_tasks() <= tasks, f"still running: {other_tasks() - tasks}")


@pytest.mark.anyio
class CacheContract(_CacheFixtures):
    """What every cache promises. Subclass it, name the class ``Test...`` and give the fixtures.

    Fixtures of the subclass:
        cache: The adapter, open, with a time to live of a minute or more.
        short_lived_cache: The same with a time to live of ``short_ttl`` seconds.
        twin: Another open instance that shares the first one's entries, where there can be one; else leave it out.

    Attributes:
        short_ttl: Seconds.
    """

    short_ttl: ClassVar[float] = 0.4

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, for the cache; override it where the adapter takes a clock."""
        await anyio.sleep(seconds)

    @pytest.fixture
    def twin(self, cache: PreferenceCache) -> PreferenceCache:
        """Another open instance that shares the first one's entries; override it where there can be one."""
        return cache

    async def test_what_was_not_put_is_not_there(self, cache: PreferenceCache, subject: Subject) -> None:
        """There is no entry, and no error, for a subject of which nothing was put."""
        assert await cache.get(subject) is None

    async def test_what_is_put_is_there(
        self, cache: PreferenceCache, twin: PreferenceCache, subject: Subject
    ) -> None:
        """Version and payload come back, through another instance too."""
        document = Document(1_795_000_000_123, {"plugins": {"a": "é"}}, {"plugins": 1_795_000_000_123}, 7)
        await cache.put(subject, CacheEntry(document.version, document.encode()))
        for one in (cache, twin):
            entry = await one.get(subject)
            assert entry is not None
            assert entry.version == document.version
            assert Document.decode(entry.payload) == document

    @pytest.mark.parametrize("newer", [2, 9, 10, 99, 100, 1_795_000_000_123, 10**15, 2**53 - 1])
    async def test_only_a_newer_version_replaces(
        self, cache: PreferenceCache, twin: PreferenceCache, subject: Subject, newer: int
    ) -> None:
        """An older version and the same one leave the entry as it is, a newer one takes its place."""
        await cache.put(subject, _entry(newer - 1))
        await twin.put(subject, _entry(newer))
        assert await cache.get(subject) == _entry(newer)
        for late in (newer - 1, 0, newer // 10):
            await cache.put(subject, _entry(late))
            assert await twin.get(subject) == _entry(newer)
        await cache.put(subject, _entry(newer, "something else"))
        assert await twin.get(subject) == _entry(newer)

    async def test_version_0_is_a_version(self, cache: PreferenceCache, subject: Subject) -> None:
        """That nothing is stored can be remembered, and is replaced by the first write."""
        await cache.put(subject, _entry(0))
        assert await cache.get(subject) == _entry(0)
        await cache.put(subject, _entry(1))
        assert await cache.get(subject) == _entry(1)

    @pytest.mark.parametrize(
        "payload",
        [
            bytes(range(256)),
            b"",
            b"\x00",
            b"\r\n$-1\r\n*0\r\n",
            b"0000000000000099",
            b"9" * 40,
            "{\U0001f469}".encode(),
            bytes(range(256)) * 1_000,
        ],
        ids=["all bytes", "nothing", "nul", "protocol", "digits", "more digits", "astral", "large"],
    )
    async def test_payloads_come_back_to_the_byte(
        self, cache: PreferenceCache, subject: Subject, payload: bytes
    ) -> None:
        """The payload is opaque: any bytes, none included, come back as they are, and are replaced by any others."""
        await cache.put(subject, CacheEntry(5, payload))
        assert await cache.get(subject) == CacheEntry(5, payload)
        await cache.put(subject, CacheEntry(4, b"older"))
        assert await cache.get(subject) == CacheEntry(5, payload)
        await cache.put(subject, CacheEntry(6, b"newer"))
        assert await cache.get(subject) == CacheEntry(6, b"newer")

    async def test_no_two_subjects_are_mixed_up(self, cache: PreferenceCache, twin: PreferenceCache) -> None:
        """Ids with separators, quotes, wildcards, look-alikes and 255 characters each have an entry of their own."""
        for number, subject in enumerate(HOSTILE_SUBJECTS):
            assert await cache.get(subject) is None, subject
            await cache.put(subject, _entry(number + 1))
        for number, subject in enumerate(HOSTILE_SUBJECTS):
            assert await twin.get(subject) == _entry(number + 1), subject

    async def test_an_entry_ends_with_its_time(
        self, short_lived_cache: PreferenceCache, subject: Subject
    ) -> None:
        """An entry is there within its time to live and gone after it, and may then be replaced by any other."""
        started = time.monotonic()
        await short_lived_cache.put(subject, _entry(5))
        entry = await short_lived_cache.get(subject)
        if time.monotonic() - started < self.short_ttl / 2:
            assert entry == _entry(5)
        await self.pass_time(self.short_ttl)
        with anyio.fail_after(PATIENCE):
            while await short_lived_cache.get(subject) is not None:
                await anyio.sleep(0.01)
        await short_lived_cache.put(subject, _entry(3))
        assert await short_lived_cache.get(subject) in {_entry(3), None}

    async def test_of_concurrent_puts_the_newest_stays(
        self, cache: PreferenceCache, twin: PreferenceCache
    ) -> None:
        """Whatever the order of many concurrent puts, through two instances, the highest version is there at the end."""
        chance = random.Random(20)  # the order of a test, no secret
        for _ in range(10):
            subject = fresh_subject()
            versions = chance.sample(range(10**15), 30)
            async with anyio.create_task_group() as tasks:
                for version in versions:
                    through = twin if version % 2 else cache
                    tasks.start_soon(_put, through, subject, _entry(version))
            assert await cache.get(subject) == _entry(max(versions))

    async def test_versions_never_go_backwards(
        self, cache: PreferenceCache, twin: PreferenceCache, subject: Subject
    ) -> None:
        """Who reads again and again while others put in any order never sees an older version after a newer one."""
        chance = random.Random(21)  # the order of a test, no secret
        versions = chance.sample(range(10**6), 200)
        seen: list[int] = []

        async def read() -> None:
            while True:
                entry = await twin.get(subject)
                seen.append(entry.version if entry else -1)
                await anyio.lowlevel.checkpoint()

        async def put(some: list[int]) -> None:
            for version in some:
                await cache.put(subject, _entry(version))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            async with anyio.create_task_group() as putting:
                for start in range(4):
                    putting.start_soon(put, versions[start::4])
            tasks.cancel_scope.cancel()
        assert seen == sorted(seen)

    async def test_a_question_can_be_asked_before_it_is_awaited(
        self, cache: PreferenceCache, subject: Subject
    ) -> None:
        """The answer to an early question is right as of its asking or its awaiting, and several can be under way."""
        others = [fresh_subject() for _ in range(10)]
        for number, other in enumerate(others):
            await cache.put(other, _entry(number))
        questions = [cache.get(other) for other in [*others, subject]]
        await anyio.lowlevel.checkpoint()
        answers = [await question for question in questions]
        assert answers == [*(_entry(number) for number in range(10)), None]

    @pytest.mark.parametrize("kind", CANCELLED_BY)
    async def test_cancelled_calls_reach_nobody_else(self, cache: PreferenceCache, kind: CancelledBy) -> None:
        """After many cancelled calls, nobody gets an entry of another subject, and no put is half done."""
        subjects = [fresh_subject() for _ in range(8)]
        for number, subject in enumerate(subjects):
            await cache.put(subject, _entry(10, f"mine {number}"))
        for steps in range(26):
            calls: list[Callable[[], Awaitable[object]]] = []
            for number, subject in enumerate(subjects):
                calls.append(partial(_get, cache, subject))
                calls.append(partial(_put, cache, subject, _entry(11 + steps, f"mine {number}")))
            await cut_short(steps, kind, *calls)
            for number, subject in enumerate(subjects):
                entry = await cache.get(subject)
                assert entry is not None
                assert 10 <= entry.version <= 11 + steps
                assert entry == _entry(entry.version, f"mine {number}")

    async def test_versions_are_told_without_the_entries(
        self, cache: PreferenceCache, twin: PreferenceCache
    ) -> None:
        """The versions of many subjects come in the order asked for, ``None`` where there is no entry."""
        subjects = list(HOSTILE_SUBJECTS)
        for number, subject in enumerate(subjects[::2]):
            await cache.put(subject, _entry(10**15 + number))
        expected: list[int | None] = [None] * len(subjects)
        expected[::2] = [10**15 + number for number in range(len(subjects[::2]))]
        assert list(await twin.versions(subjects)) == expected
        assert list(await twin.versions(subjects[:1] * 3)) == [10**15] * 3
        assert list(await twin.versions([])) == []

    async def test_it_can_be_closed_and_opened_again(self, cache: PreferenceCache, subject: Subject) -> None:
        """A cache that was closed works when it is opened again."""
        await cache.put(subject, _entry(1))
        await cache.__aexit__(None, None, None)
        await cache.__aenter__()
        assert await cache.get(subject) in {_entry(1), None}
        await cache.put(subject, _entry(2))
        assert await cache.get(subject) == _entry(2)


@pytest.mark.anyio
class CacheOutageContract(_CacheFixtures):
    """What a cache promises while its server is out of reach; for adapters that have one.

    Fixtures of the subclass:
        cache: The adapter, open.
        outage: Takes the server away and brings it back, see :class:`prefsync.testing.Outage`.
    """

    watches_tasks = False

    async def test_every_call_says_so_in_time(
        self, cache: PreferenceCache, outage: Outage, subject: Subject
    ) -> None:
        """Reading and putting raise ``UnavailableError``, soon at first and at once after a while."""
        await cache.put(subject, _entry(1))
        await outage.begin()
        try:
            for _ in range(5):
                with anyio.fail_after(BOUND):
                    with pytest.raises(UnavailableError):
                        await cache.get(subject)
                    with pytest.raises(UnavailableError):
                        await cache.put(subject, _entry(2))
                    with pytest.raises(UnavailableError):
                        await cache.versions([subject])
            started = time.monotonic()
            for _ in range(200):
                with pytest.raises(UnavailableError):
                    await cache.get(subject)
            assert time.monotonic() - started < BOUND, "each call waits for a server that is known to be away"
        finally:
            await outage.end()

    async def test_it_goes_on_afterwards(
        self, cache: PreferenceCache, outage: Outage, subject: Subject
    ) -> None:
        """When the server is back, so is the cache, and its guard still holds."""
        await cache.put(subject, _entry(5))
        await outage.begin()
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await cache.get(subject)
        await outage.end()
        with anyio.fail_after(PATIENCE):
            while True:
                try:
                    await cache.put(subject, _entry(4))
                except UnavailableError:
                    await anyio.sleep(0.02)
                else:
                    break
        assert await cache.get(subject) == _entry(5)

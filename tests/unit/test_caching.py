"""Reading through the cache, with every race forced."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsync.adapters.memory import MemoryCache, MemoryRepository
from prefsync.adapters.redis import RedisCache
from prefsync.errors import UnavailableError
from prefsync.ports import CacheEntry
from prefsync.recent import Recent
from prefsync.testing import FailingCache, FailingRepository, PausingRepository
from tests.contracts.support import patient_link
from tests.unit.support import PATIENCE, Process, new_subject

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prefsync.document import Snapshot, Subject
    from prefsync.ports import PreferenceCache


@pytest.fixture(params=["memory", "redis"])
async def caches(request: pytest.FixtureRequest) -> AsyncIterator[tuple[PreferenceCache, PreferenceCache]]:
    """Two processes' sides of one cache."""
    if request.param == "memory":
        cache = MemoryCache()
        yield cache, cache
        return
    url, prefix = request.getfixturevalue("redis_url"), request.getfixturevalue("redis_prefix")
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(RedisCache(patient_link(url, prefix))) for _ in range(2)
        ]
        yield one, other


async def start_read(tasks: asyncio.TaskGroup, process: Process, subject: Subject) -> asyncio.Task[Snapshot]:
    """Start a read."""
    return tasks.create_task(process.service.read(subject))


async def test_a_stale_fill_never_wins(caches: tuple[PreferenceCache, PreferenceCache]) -> None:
    """A reader held between its query and its cache write cannot put back what a writer replaced meanwhile."""
    repository = PausingRepository(MemoryRepository())
    subject = new_subject()
    await Process(repository).patch(subject, "appearance", theme="light")
    reading, writing = Process(repository, caches[0]), Process(repository, caches[1])
    hold = repository.hold("load", after=True)
    async with asyncio.TaskGroup() as tasks:
        slow = await start_read(tasks, reading, subject)
        await hold.reached()
        written = await writing.patch(subject, "appearance", theme="dark")
        hold.release()
    assert slow.result().values["appearance"]["theme"] == "light"  # it came before the write
    for process in (reading, writing, Process(repository, caches[0])):
        answer = await process.service.read(subject)
        assert answer.values["appearance"]["theme"] == "dark"
        assert answer.revision == written.revision


async def test_a_fill_that_comes_very_late_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process read before it was frozen goes to its readers, and no more to the cache: the guard may have gone."""
    monkeypatch.setattr("prefsync.caching._LATEST_PUT", 0.0)
    cache, subject = FailingCache(MemoryCache()), new_subject()
    process = Process(cache=cache)
    await Process(process.repository).patch(subject, "appearance", theme="light")
    assert (await process.service.read(subject)).values["appearance"]["theme"] == "light"
    assert cache.calls["put"] == 0
    monkeypatch.undo()
    await process.service.read(subject)
    assert cache.calls["put"] == 1


async def test_a_stale_fill_never_brings_an_erased_subject_back(
    caches: tuple[PreferenceCache, PreferenceCache],
) -> None:
    """A reader that is overtaken by an erase leaves nothing of the subject in the cache."""
    repository = PausingRepository(MemoryRepository())
    subject = new_subject()
    await Process(repository).patch(subject, "plugins", secret="mine")
    reading, erasing = Process(repository, caches[0]), Process(repository, caches[1])
    hold = repository.hold("load", after=True)
    async with asyncio.TaskGroup() as tasks:
        await start_read(tasks, reading, subject)
        await hold.reached()
        await erasing.service.erase(subject)
        hold.release()
    for process in (reading, erasing):
        assert (await process.service.read(subject)).values["plugins"] == {}
    entry = await caches[0].get(subject)
    assert entry is not None
    assert b"mine" not in entry.payload


async def test_a_reader_never_gets_a_query_that_left_before_it_came(
    caches: tuple[PreferenceCache, PreferenceCache],
) -> None:
    """Whoever reads after an acknowledged write sees it, though an older query for the subject is still under way."""
    repository = PausingRepository(MemoryRepository())
    subject = new_subject()
    await Process(repository).patch(subject, "appearance", theme="light")
    failing = FailingCache(caches[0])
    process, elsewhere = Process(repository, failing), Process(repository, caches[1])
    hold = repository.hold("load", after=True)
    async with asyncio.TaskGroup() as tasks:
        first = await start_read(tasks, process, subject)
        await hold.reached()
        await elsewhere.patch(subject, "appearance", theme="dark")
        failing.fail("get")  # so that the later reader comes as far as the query
        second = await start_read(tasks, process, subject)
        while failing.calls["get"] < 2:
            await asyncio.sleep(0)
        hold.release()
    assert first.result().values["appearance"]["theme"] == "light"
    assert second.result().values["appearance"]["theme"] == "dark"


@pytest.mark.parametrize("down", [False, True])
async def test_a_thousand_concurrent_misses_are_one_load(*, down: bool) -> None:
    """Readers that miss together share one query, whether the cache is empty or away."""
    repository = PausingRepository(MemoryRepository())
    cache = FailingCache(MemoryCache())
    cache.is_down = down
    process, subject = Process(repository, cache), new_subject()
    answers = await asyncio.gather(*(process.service.read(subject) for _ in range(1_000)))
    assert {answer.revision for answer in answers} == {0}
    assert repository.calls["load"] == 1


async def test_readers_that_wait_share_the_next_query() -> None:
    """Those who come while a query is under way need one more, all together, even where nothing can be cached."""
    repository = PausingRepository(MemoryRepository())
    cache = FailingCache(MemoryCache())
    cache.is_down = True
    process, subject = Process(repository, cache), new_subject()
    hold = repository.hold("load", after=True)
    async with asyncio.TaskGroup() as tasks:
        await start_read(tasks, process, subject)
        await hold.reached()
        for _ in range(100):
            await start_read(tasks, process, subject)
        while cache.calls["get"] < 101:
            await asyncio.sleep(0)
        hold.release()
    assert repository.calls["load"] == 2


@pytest.mark.parametrize("after", [False, True])
async def test_a_cancelled_leader_strands_nobody(*, after: bool) -> None:
    """When the reader whose query others wait for is cancelled, they get their answer all the same."""
    repository = PausingRepository(MemoryRepository())
    process, subject = Process(repository), new_subject()
    await Process(repository).patch(subject, "appearance", theme="dark")
    hold = repository.hold("load", after=after)
    with anyio.fail_after(PATIENCE):
        async with asyncio.TaskGroup() as tasks:
            leader = await start_read(tasks, process, subject)
            others = [await start_read(tasks, process, subject) for _ in range(10)]
            await hold.reached()
            late = [await start_read(tasks, process, subject) for _ in range(10)]
            leader.cancel()
    assert leader.cancelled()
    for other in (*others, *late):
        assert other.result().values["appearance"]["theme"] == "dark"
    assert process.documents._flights == {}


async def test_a_failed_query_fails_those_who_shared_it_and_no_later_ones() -> None:
    """Readers of a query that failed hear of it; the next reader asks again."""
    repository = FailingRepository(MemoryRepository())
    process, subject = Process(repository), new_subject()
    repository.fail("load")
    answers = await asyncio.gather(*(process.service.read(subject) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(answer, UnavailableError) for answer in answers)
    assert repository.calls["load"] == 1
    assert (await process.service.read(subject)).revision == 0


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff\xfe", b"null", b"[1,2]", b'{"a":1}', b'["1",0,{},{}]', b"[1,0,{},{}", b"[1,0,[],{}]"],
)
async def test_a_corrupt_entry_is_a_miss(payload: bytes) -> None:
    """What cannot be read in the cache costs a query and nothing else."""
    repository, cache = PausingRepository(MemoryRepository()), FailingCache(MemoryCache())
    subject = new_subject()
    written = await Process(repository, cache).patch(subject, "appearance", theme="dark")
    cache.corrupt = lambda entry: CacheEntry(entry.version, payload)
    reader = Process(repository, cache)
    assert await reader.service.read(subject) == written
    assert repository.calls["load"] == 2


async def test_a_cache_that_is_away_is_a_miss() -> None:
    """Without the cache, reads and writes go on, and every reader sees the newest state."""
    repository, cache = MemoryRepository(), FailingCache(MemoryCache())
    writing, reading, subject = Process(repository, cache), Process(repository, cache), new_subject()
    await writing.patch(subject, "appearance", theme="light")
    cache.is_down = True
    written = await writing.patch(subject, "appearance", theme="dark")
    assert await reading.service.read(subject) == written


async def test_what_was_erased_is_not_read_from_a_cache_that_still_has_it() -> None:
    """Not by a process that heard of the erase: a cache of its own may not have, nor a shared one that lost its guard."""
    repository, cache, subject = MemoryRepository(), MemoryCache(), new_subject()
    process = Process(repository, cache)
    await process.patch(subject, "plugins", note="secret")
    process.documents.forget(subject, await repository.erase(subject))
    held = await cache.get(subject)
    assert held is not None
    assert b"secret" in held.payload
    assert (await process.service.read(subject)).values["plugins"] == {}
    held = await cache.get(subject)
    assert held is not None
    assert b"secret" not in held.payload


async def test_a_read_that_must_be_new_passes_over_an_older_entry() -> None:
    """An entry below the revision that is asked for is not good enough, and is replaced."""
    repository, cache = MemoryRepository(), FailingCache(MemoryCache())
    process, subject = Process(repository, cache), new_subject()
    await process.patch(subject, "appearance", theme="light")
    cache.loses = True
    written = await Process(repository).patch(subject, "appearance", theme="dark")
    cache.loses = False
    assert await process.service.read(subject, at_least=written.revision) == written
    assert await process.service.read(subject) == written


async def test_a_cached_answer_says_when_the_database_is_away() -> None:
    """While the database does not answer, what the cache has is given, marked as possibly old."""
    repository = FailingRepository(MemoryRepository())
    process, known, unknown = Process(repository), new_subject(), new_subject()
    await process.patch(known, "appearance", theme="dark")
    repository.is_down = True
    with pytest.raises(UnavailableError):
        await process.service.read(unknown)
    answer = await process.service.read(known)
    assert answer.stale
    assert answer.values["appearance"]["theme"] == "dark"


class AwayForWrites(MemoryCache):
    """A cache that cannot be written for a time, and then has what it had before."""

    is_away = False

    async def put(self, subject: Subject, entry: CacheEntry) -> None:
        """Write, or be away."""
        if self.is_away:
            raise UnavailableError("cache")
        await super().put(subject, entry)


async def test_a_process_sees_its_own_write_in_a_cache_that_was_away() -> None:
    """What is there again afterwards is known to be behind, before the relay has looked."""
    cache = AwayForWrites()
    process, subject = Process(cache=cache), new_subject()
    await process.patch(subject, "appearance", theme="light")
    cache.is_away = True
    new = await process.patch(subject, "appearance", theme="dark")
    cache.is_away = False
    assert (await process.service.read(subject)).revision == new.revision
    entry = await cache.get(subject)
    assert entry is not None
    assert entry.version == new.revision


def test_what_is_remembered_stays_within_its_bound() -> None:
    """Beyond the bound, what was not used for long goes; what alone is larger is not kept, and nobody goes for it."""
    recent: Recent[int] = Recent(10)
    for n in range(5):
        recent.put(n, n, 3)
        assert recent.get(0) == 0
    assert [recent.get(n) for n in range(5)] == [0, None, None, 3, 4]
    recent.put(9, 9, 11)
    assert recent.get(9) is None
    assert len(recent) == 3
    recent.put(1, 1, 10)  # all others were used, and go all the same
    assert [recent.get(n) for n in range(5)] == [None, 1, None, None, None]


def test_nobody_waits_for_all_that_were_used() -> None:
    """Where everything was used since, the first hundred are passed over and not all of them."""
    recent: Recent[int] = Recent(1_000)
    for n in range(1_000):
        recent.put(n, n, 1)
        assert recent.get(n) == n
    recent.put(1_000, 1_000, 1)
    assert [n for n in range(1_001) if n not in recent] == [100]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 12))))
def test_what_is_remembered_is_what_was_put_last(steps: list[tuple[bool, int, int]]) -> None:
    """Whatever is put and asked for: within the bound, and never anything but the last that was put."""
    recent, last, at = Recent[int](10), dict[int, tuple[int, int]](), 0
    for puts, key, size in steps:
        if puts:
            at += 1
            recent.put(key, at, size)
            last[key] = at, size
            assert (recent.get(key) == at) == (size <= 10)
        assert recent.get(key) in {None, last.get(key, (None, 0))[0]}
        assert sum(last[key][1] for key in last if key in recent) <= 10

"""The relay makes good what was written and not told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from prefsync.adapters.memory import MemoryCache, MemoryNotifier, MemoryRepository
from prefsync.errors import UnavailableError
from prefsync.merge import difference
from prefsync.ports import Announcement, Outcome, Write
from prefsync.strictjson import Limits
from prefsync.testing import FailingCache, FailingRepository, FakeClock, PausingRepository, UnreliableNotifier
from tests.unit.support import PATIENCE, Process, new_subject, patch

if TYPE_CHECKING:
    from prefsync.document import Document, Subject


async def write_untold(process: Process, subject: Subject, theme: str) -> Document:
    """Write as a process does that dies right after its commit."""
    before = await process.repository.load(subject)
    after = patch("appearance", theme=theme).apply(process.schema, before, Limits())
    step = difference(before, after, now=process.clock.now(), origin=None, limits=Limits())
    assert step is not None
    document, change = step
    assert await process.repository.write(subject, Write(before, document, change)) is Outcome.WRITTEN
    return document


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("known", [False, True])
async def test_a_write_that_was_not_told_is_told_at_the_next_look(*, shared: bool, known: bool) -> None:
    """Cache and subscribers get the state of a write whose process died before it told anybody."""
    process, subject = Process(shared=shared), new_subject()
    if known:
        await process.patch(subject, "appearance", theme="light")
    document = await write_untold(process, subject, "dark")
    async with process.notifier.subscribe() as announcements:
        assert await process.relay.look() == 1
        with anyio.fail_after(PATIENCE):
            announcement: Any = await anext(announcements)
    assert announcement.subject == subject
    assert announcement.version == document.version
    answer = await process.service.read(subject)
    assert answer.revision == document.revision
    assert answer.values["appearance"]["theme"] == "dark"


async def test_a_waiting_client_hears_of_a_write_that_was_not_told() -> None:
    """A long poll ends with the change at the relay's next look."""
    process, subject = Process(shared=True), new_subject()
    async with process.listening(), asyncio.TaskGroup() as tasks:
        poll = tasks.create_task(process.polls.page(subject, 0, wait=30))
        await process.followed(subject)
        document = await write_untold(process, subject, "dark")
        assert not poll.done()
        await process.relay.look()
        with anyio.fail_after(PATIENCE):
            page = await poll
    assert page.revision == document.revision


@pytest.mark.parametrize("shared", [False, True])
async def test_what_was_told_is_not_told_again(*, shared: bool) -> None:
    """Where every writer told of its write, a look loads no document and announces nothing, nor does the next."""
    repository, notifier = PausingRepository(MemoryRepository()), UnreliableNotifier(MemoryNotifier())
    clock = FakeClock()
    process = Process(repository, notifier=notifier, clock=clock, shared=shared)
    for _ in range(3):
        await process.patch(new_subject(), "appearance", theme="dark")
    repository.calls.clear()
    for _ in range(3):
        assert await process.relay.look() == 0
        clock.advance(1)
    assert repository.calls["load"] == 0
    assert notifier.calls["publish"] == 3
    await write_untold(process, new_subject(), "dark")
    repository.calls.clear()
    assert [await _look(process, clock) for _ in range(3)] == [1, 0, 0]
    assert repository.calls["load"] == (1 if shared else 0)


async def _look(process: Process, clock: FakeClock) -> int:
    clock.advance(1)
    return await process.relay.look()


async def test_one_relay_at_a_time_looks_where_the_cache_is_shared() -> None:
    """Of several processes that look at the same time, one looks through the log; the others do after its pause."""
    repository, cache, clock = PausingRepository(MemoryRepository()), MemoryCache(), FakeClock()
    processes = [Process(repository, cache, clock=clock, shared=True) for _ in range(5)]
    await write_untold(processes[0], new_subject(), "dark")
    told = await asyncio.gather(*(process.relay.look() for process in processes))
    assert sorted(told) == [0, 0, 0, 0, 1]
    assert repository.calls["logged_since"] == 2  # what is new, and once more what has settled
    clock.advance(1)
    await write_untold(processes[0], new_subject(), "dark")
    assert await processes[4].relay.look() == 1


async def test_each_process_looks_for_itself_where_nothing_is_shared() -> None:
    """A process with a cache of its own brings that up to date, whatever others did about theirs."""
    repository, subject = MemoryRepository(), new_subject()
    one, other = Process(repository), Process(repository)
    await one.patch(subject, "appearance", theme="light")
    await other.service.read(subject)
    await one.patch(subject, "appearance", theme="dark")
    assert (await other.service.read(subject)).values["appearance"]["theme"] == "light"
    await one.relay.look()
    await other.relay.look()
    assert (await other.service.read(subject)).values["appearance"]["theme"] == "dark"


@pytest.mark.parametrize("shared", [False, True])
async def test_an_outage_of_the_cache_is_made_good_after_it(*, shared: bool) -> None:
    """What was written while the cache was away is in it after the first look that reaches it, however late."""
    cache, clock = FailingCache(MemoryCache(ttl=10_000)), FakeClock()
    process, subject = Process(cache=cache, clock=clock, shared=shared), new_subject()
    await process.patch(subject, "appearance", theme="light")
    await process.relay.look()
    cache.is_down = True
    written = await process.patch(subject, "appearance", theme="dark")
    for _ in range(100):
        clock.advance(3)
        with pytest.raises(UnavailableError):
            await process.relay.look()
    cache.is_down = False
    clock.advance(1)
    assert await process.relay.look() == 1
    assert await process.service.read(subject) == written


async def look_for(process: Process, seconds: int) -> int:
    """Look each second, and return how many subjects were told of."""
    told = 0
    for _ in range(seconds):
        process.clock.advance(1)
        told += await process.relay.look()
    return told


@pytest.mark.parametrize("is_late", [False, True])
async def test_an_old_entry_that_comes_to_a_flushed_cache_is_replaced(*, is_late: bool) -> None:
    """A reader that was overtaken puts back what it read where the guard is gone: right again within seconds."""
    cache = MemoryCache(ttl=10_000)
    process, subject = Process(cache=cache, shared=True), new_subject()
    old = await process.patch(subject, "appearance", theme="light")
    entry = await cache.get(subject)
    assert entry is not None
    await look_for(process, 30)
    new = await process.patch(subject, "appearance", theme="dark")
    assert await look_for(process, 5 if is_late else 0) == 0
    cache._entries.drop(subject)  # flushed, or evicted
    await cache.put(subject, entry)
    other = Process(process.repository, cache)
    assert (await other.service.read(subject)).revision == old.revision
    assert await look_for(process, 14) == 1
    assert (await other.service.read(subject)).revision == new.revision
    assert await look_for(process, 30) == 0


async def test_what_settles_is_looked_at_once_more_whatever_its_number() -> None:
    """Old entries of more subjects than a page holds are all replaced."""
    cache = MemoryCache(ttl=10_000)
    process, subjects = Process(cache=cache, shared=True), [new_subject() for _ in range(1_203)]
    old = []
    for subject in subjects:
        await process.patch(subject, "appearance", theme="light")
        old.append(await cache.get(subject))
    await look_for(process, 30)
    for number, subject in enumerate(subjects):
        await process.patch(subject, "appearance", theme="dark")
        if number % 7 == 0:
            process.clock.advance(0.001)
    assert await look_for(process, 2) == 0
    for subject, entry in zip(subjects, old, strict=True):
        assert entry is not None
        cache._entries.drop(subject)
        await cache.put(subject, entry)
    assert await look_for(process, 14) == len(subjects)
    assert await look_for(process, 14) == 0


async def test_a_cache_that_went_back_in_time_is_brought_up_to_date(caplog: pytest.LogCaptureFixture) -> None:
    """Restored from an old snapshot, it is right again after the next look, however old the snapshot."""
    cache = MemoryCache(ttl=10_000)
    process, subject, unchanged = Process(cache=cache, shared=True), new_subject(), new_subject()
    for each in (subject, unchanged):
        await process.patch(each, "appearance", theme="light")
    await look_for(process, 1)
    snapshot = dict(cache._entries._line)
    for theme in ("dark", "light", "dark"):
        await look_for(process, 30)
        new = await process.patch(subject, "appearance", theme=theme)
    await look_for(process, 30)
    cache._entries._line.clear()
    cache._entries._line.update(snapshot)
    other = Process(process.repository, cache)
    assert (await other.service.read(subject)).revision < new.revision
    assert await look_for(process, 1) == 1
    assert (await other.service.read(subject)).revision == new.revision
    assert await look_for(process, 30) == 0
    assert caplog.text.count("went back in time") == 1


async def test_an_outage_of_the_database_loses_no_look() -> None:
    """The look after a failed one begins where the failed one did."""
    repository, clock = FailingRepository(MemoryRepository()), FakeClock()
    process, subject = Process(repository, clock=clock, shared=True), new_subject()
    await process.relay.look()
    document = await write_untold(process, subject, "dark")
    for _ in range(5):
        clock.advance(60)
        repository.fail("logged_since")
        with pytest.raises(UnavailableError):
            await process.relay.look()
    clock.advance(1)
    assert await process.relay.look() == 1
    assert (await process.service.read(subject)).revision == document.revision


async def test_a_write_that_commits_late_is_found() -> None:
    """A change whose time lies before the last look's, because its commit took long, is told all the same."""
    clock = FakeClock()
    process, slow = Process(clock=clock, shared=True), new_subject()
    began = clock.now()
    clock.advance(4)
    await process.relay.look()
    now = clock.now()
    clock.set(began)
    await write_untold(process, slow, "dark")
    clock.set(now + 1_000)
    assert await process.relay.look() == 1


async def test_more_changes_than_a_page_are_all_told() -> None:
    """Every one of many subjects that were not told of is told of in one look, and none twice."""
    process = Process(shared=True)
    subjects = [new_subject() for _ in range(1_203)]
    for n, subject in enumerate(subjects):
        await write_untold(process, subject, "dark")
        if n % 7 == 0:
            process.clock.advance(0.001)
    assert await process.relay.look() == len(subjects)
    process.clock.advance(1)
    assert await process.relay.look() == 0
    assert None not in await process.cache.versions(subjects)


class LeavingNotifier(MemoryNotifier):
    """A real notifier that can be out of reach for those who publish."""

    is_away = False

    async def publish(self, announcement: Announcement) -> None:
        """Publish, or say that it cannot be done."""
        if self.is_away:
            raise UnavailableError("notifier")
        await super().publish(announcement)


async def test_a_process_tells_itself_what_it_could_not_tell() -> None:
    """A write whose announcement failed is announced as soon as that works, though the cache has it already."""
    notifier = LeavingNotifier()
    process, subject = Process(notifier=notifier, shared=True), new_subject()
    notifier.is_away = True
    written = await process.patch(subject, "appearance", theme="dark")
    assert (await process.cache.versions([subject])) == [written.revision]
    with pytest.raises(UnavailableError):
        await process.relay.tell_own()
    notifier.is_away = False
    async with process.notifier.subscribe() as announcements:
        await process.relay.tell_own()
        with anyio.fail_after(PATIENCE):
            announcement: Any = await anext(announcements)
        await process.relay.tell_own()
        other = await process.patch(new_subject(), "appearance", theme="light")
        with anyio.fail_after(PATIENCE):
            following: Any = await anext(announcements)
    assert (announcement.subject, announcement.version) == (subject, written.revision)
    assert following.version == other.revision, "told once, and not again"

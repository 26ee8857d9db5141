"""Writes: upon what they are decided, what changes nothing, what is left of them when somebody goes away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from prefsync.adapters.memory import MemoryCache, MemoryNotifier, MemoryRepository
from prefsync.document import Document
from prefsync.errors import (
    InvalidPreferencesError,
    PreconditionFailedError,
    UnavailableError,
)
from prefsync.merge import Mutation, Replace, Reset
from prefsync.ports import Announcement, Outcome
from prefsync.service import IdempotentRequest
from prefsync.strictjson import Limits
from prefsync.testing import (
    FailingCache,
    FailingNotifier,
    PausingNotifier,
    PausingRepository,
)
from tests.unit.support import PATIENCE, Process, new_subject, patch

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefsync.document import Snapshot


def of_revision(revision: int) -> Callable[[Snapshot], None]:
    """Return the condition that a subject's revision be this one."""

    def condition(snapshot: Snapshot) -> None:
        if snapshot.revision != revision:
            raise PreconditionFailedError("another revision")

    return condition


async def test_a_condition_is_decided_on_the_databases_document() -> None:
    """A condition that holds in the database is not refused because this process remembers an older state."""
    repository = MemoryRepository()
    one, other, subject = Process(repository), Process(repository), new_subject()
    await one.patch(subject, "appearance", theme="dark")
    newer = await other.patch(subject, "appearance", theme="light")
    condition = of_revision(newer.revision)
    answer = await one.service.write(subject, patch("editor", tab_size=2), condition=condition)
    assert answer.values["appearance"]["theme"] == "light"
    assert answer.values["editor"]["tab_size"] == 2


async def test_a_condition_that_only_a_remembered_state_meets_is_refused() -> None:
    """A condition about a state that was replaced by another process is refused, and nothing is written."""
    repository = MemoryRepository()
    one, other, subject = Process(repository), Process(repository), new_subject()
    older = await one.patch(subject, "appearance", theme="dark")
    newer = await other.patch(subject, "appearance", theme="light")
    with pytest.raises(PreconditionFailedError):
        await one.service.write(subject, patch("editor", tab_size=2), condition=of_revision(older.revision))
    assert (await repository.load(subject)).revision == newer.revision


async def test_a_limit_is_decided_on_the_databases_document() -> None:
    """A write that is too large upon a remembered state is accepted where another process made room."""
    repository, limits = MemoryRepository(), Limits(fields=3)
    one, other = (Process(repository, limits=limits) for _ in range(2))
    subject = new_subject()
    await one.patch(subject, "plugins", a=1, b=1, c=1)
    await other.patch(subject, "plugins", a=None)
    answer = await one.patch(subject, "plugins", d=1)
    assert answer.values["plugins"] == {"b": 1, "c": 1, "d": 1}
    with pytest.raises(InvalidPreferencesError):
        await other.patch(subject, "plugins", e=1)


async def test_what_changes_nothing_is_decided_on_the_databases_document() -> None:
    """A write of what this process remembers is no no-op where another process changed it."""
    repository = MemoryRepository()
    one, other, subject = Process(repository), Process(repository), new_subject()
    await one.patch(subject, "appearance", theme="dark")
    newer = await other.patch(subject, "appearance", theme="light")
    answer = await one.patch(subject, "appearance", theme="dark")
    assert answer.revision > newer.revision
    assert (await repository.load(subject)).values["appearance"] == {"theme": "dark"}


async def test_a_condition_is_asked_again_after_a_lost_race() -> None:
    """A condition that held when the write began and does not when it is stored refuses it."""
    repository = PausingRepository(MemoryRepository())
    one, other, subject = Process(repository), Process(repository), new_subject()
    first = await one.patch(subject, "appearance", theme="dark")
    asked = []

    def condition(snapshot: Snapshot) -> None:
        asked.append(snapshot.revision)
        of_revision(first.revision)(snapshot)

    hold = repository.hold("write")
    async with asyncio.TaskGroup() as tasks:
        losing = tasks.create_task(
            _outcome(one.service.write(subject, patch("editor", tab_size=2), condition=condition))
        )
        await hold.reached()
        newer = await other.patch(subject, "appearance", theme="light")
        hold.release()
    assert isinstance(losing.result(), PreconditionFailedError)
    assert asked == [first.revision, newer.revision]
    assert (await repository.load(subject)).revision == newer.revision


async def test_a_write_that_loses_a_race_is_made_upon_the_winner() -> None:
    """Both of two racing patches are there, and the one stored later has the later revision."""
    repository = PausingRepository(MemoryRepository())
    one, other, subject = Process(repository), Process(repository), new_subject()
    hold = repository.hold("write")
    async with asyncio.TaskGroup() as tasks:
        losing = tasks.create_task(one.patch(subject, "appearance", theme="dark"))
        await hold.reached()
        winner = await other.patch(subject, "editor", tab_size=8)
        hold.release()
    answer = losing.result()
    assert answer.revision > winner.revision
    assert answer.values["appearance"]["theme"] == "dark"
    assert answer.values["editor"]["tab_size"] == 8


async def _outcome(work: Any) -> Any:
    try:
        return await work
    except Exception as error:  # noqa: BLE001  # what it was is what the test asks
        return error


async def test_writers_that_never_win_are_told_to_come_back() -> None:
    """A write that loses every race ends, as unavailable, instead of trying for ever."""

    class Lost(MemoryRepository):
        async def write(self, *_: Any) -> Outcome:
            await anyio.lowlevel.checkpoint()
            return Outcome.CONFLICT

    with pytest.raises(UnavailableError):
        await Process(Lost()).patch(new_subject(), "editor", tab_size=2)


@pytest.mark.parametrize(
    "mutation",
    [
        patch("appearance", theme="dark"),
        patch("appearance"),
        patch("appearance", font_size=None),
        patch("appearance", extras={"a": 1}),
        patch("appearance", extras={"missing": None}),
        Mutation({"appearance": Replace({"theme": "dark", "extras": {"a": 1.0}})}),
        Mutation({"plugins": Reset()}),
        Mutation({}),
    ],
    ids=repr,
)
async def test_what_changes_nothing_makes_no_revision_and_no_announcement(mutation: Mutation) -> None:
    """A write that leaves the stored values as they are succeeds, and nobody hears of it."""
    notifier = PausingNotifier(MemoryNotifier())
    process, subject = Process(notifier=notifier), new_subject()
    before = await process.patch(subject, "appearance", theme="dark", extras={"a": 1})
    assert await process.service.write(subject, mutation) == before
    assert notifier.calls["publish"] == 1
    assert len((await process.feed.page(subject, 0)).changes) == 1


async def test_a_field_set_to_its_own_default_is_stored() -> None:
    """Setting a field to its default is a change: it stays, whatever the default becomes."""
    process, subject = Process(), new_subject()
    answer = await process.patch(subject, "appearance", theme="system")
    assert answer.revision > 0
    assert (await process.repository.load(subject)).values == {"appearance": {"theme": "system"}}


@pytest.mark.parametrize("after", [False, True])
async def test_a_cancelled_writer_still_writes_through(*, after: bool) -> None:
    """A writer that is cancelled once its write is on its way leaves its state in the cache."""
    repository = PausingRepository(MemoryRepository())
    process, subject = Process(repository), new_subject()
    hold = repository.hold("write", after=after)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: process.patch(subject, "appearance", theme="dark"))
            await hold.reached()
            tasks.cancel_scope.cancel()
            hold.release()
        stored = await repository.load(subject)
        assert stored.values == {"appearance": {"theme": "dark"}}
        entry = await process.cache.get(subject)
        assert entry is not None
        assert Document.decode(entry.payload) == stored


async def test_a_cancelled_writer_still_announces() -> None:
    """A subscriber hears of the write of somebody who was cancelled in the middle of it."""
    repository = PausingRepository(MemoryRepository())
    process, subject = Process(repository), new_subject()
    hold = repository.hold("write")
    with anyio.fail_after(PATIENCE):
        async with process.notifier.subscribe() as announcements:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: process.patch(subject, "appearance", theme="dark"))
                await hold.reached()
                tasks.cancel_scope.cancel()
                hold.release()
            announcement: Any = await anext(announcements)
    assert announcement.subject == subject
    assert announcement.change.assigned == {"appearance": {"theme": "dark"}}


async def test_a_write_stands_though_nobody_can_be_told() -> None:
    """With cache and notifier away, an acknowledged write is in the database, and read from it."""
    cache, notifier = FailingCache(MemoryCache()), FailingNotifier(MemoryNotifier())
    process, subject = Process(cache=cache, notifier=notifier), new_subject()
    cache.is_down = notifier.is_down = True
    written = await process.patch(subject, "appearance", theme="dark")
    assert await process.service.read(subject) == written


async def test_a_write_is_told_to_the_cache_before_the_subscribers() -> None:
    """Whoever hears of a change and reads finds it: while the announcement is held, the cache has it already."""
    notifier = PausingNotifier(MemoryNotifier())
    process, subject = Process(notifier=notifier), new_subject()
    hold = notifier.hold("publish")
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(process.patch(subject, "appearance", theme="dark"))
        await hold.reached()
        assert (await process.service.read(subject)).values["appearance"]["theme"] == "dark"
        assert not writing.done()
        hold.release()


@pytest.mark.parametrize("processes", [1, 3])
async def test_concurrent_patches_of_members_of_one_field_all_survive(processes: int) -> None:
    """Fifty patches at once, each of its own member of one field, are all there afterwards, each in one change."""
    repository, cache = MemoryRepository(), MemoryCache()
    services = [Process(repository, cache) for _ in range(processes)]
    subject = new_subject()
    answers = await asyncio.gather(
        *(services[n % processes].patch(subject, "appearance", extras={f"member{n}": n}) for n in range(50))
    )
    expected = {f"member{n}": n for n in range(50)}
    assert (await services[0].service.read(subject)).values["appearance"]["extras"] == expected
    assert len({answer.revision for answer in answers}) == 50
    assert len((await repository.changes(subject, 0, 100)).changes) == 50
    for n, answer in enumerate(answers):
        assert answer.values["appearance"]["extras"][f"member{n}"] == n
    assert all(process.service._turns._waiting == {} for process in services)


async def test_an_erase_uses_up_every_revision() -> None:
    """After an erase nothing is left, and the next revision is beyond all others, even with the clock set back."""
    process, subject = Process(), new_subject()
    request = IdempotentRequest("key", b"1")
    last = await process.service.write(subject, patch("editor", tab_size=2), request=request)
    await process.service.erase(subject)
    assert (await process.service.read(subject)).revision == 0
    process.clock.set(last.revision - 100_000)  # type: ignore[attr-defined]  # a FakeClock
    again = await process.service.write(subject, patch("editor", tab_size=2), request=request)
    assert again.revision > last.revision


async def test_an_erase_that_the_cache_missed_says_so() -> None:
    """An erase during an outage of the cache is an error, and calling it again removes what the cache still has."""
    cache = FailingCache(MemoryCache())
    process, subject = Process(cache=cache), new_subject()
    await process.patch(subject, "plugins", secret="mine")
    cache.is_down = True
    with pytest.raises(UnavailableError):
        await process.service.erase(subject)
    cache.is_down = False
    await process.service.erase(subject)
    assert (await process.service.read(subject)).values["plugins"] == {}


async def test_an_erase_that_nobody_heard_of_says_so() -> None:
    """Near caches of other processes would keep what was erased; called again, it tells them."""
    notifier = FailingNotifier(MemoryNotifier())
    process, subject = Process(notifier=notifier), new_subject()
    await process.patch(subject, "plugins", secret="mine")
    notifier.is_down = True
    with pytest.raises(UnavailableError):
        await process.service.erase(subject)
    assert process.service.announcer.untold == {subject}
    notifier.is_down = False
    async with notifier.subscribe() as heard:
        await process.service.erase(subject)
        with anyio.fail_after(PATIENCE):
            announced = await anext(heard)
    assert isinstance(announced, Announcement)
    assert (announced.subject, announced.erased) == (subject, True)


async def test_the_log_of_one_subject_is_cut_back() -> None:
    """A subject that is written to without end keeps its newest thousand changes or little more."""
    process, subject = Process(), new_subject()
    for n in range(1_150):
        await process.patch(subject, "plugins", n=n)
    log = await process.repository.changes(subject, (await process.service.read(subject)).revision - 1, 1)
    assert log.complete
    rows: Any = process.repository
    assert 1_000 <= len(rows._rows[subject].changes) <= 1_100

"""One subscription a process, handed out to whoever follows a subject."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from prefsync.adapters.memory import MemoryNotifier, MemoryRepository
from prefsync.errors import UnavailableError
from prefsync.polling import Waiter
from prefsync.testing import FailingRepository
from prefsync.testing.samples import HOSTILE_SUBJECTS, settled
from tests.unit.support import ANNA, BERT, PATIENCE, Process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from prefsync.document import Subject
    from prefsync.ports import Alive, Announcement, Gap, Lost


class MovingNotifier(MemoryNotifier):
    """A real notifier whose subscriptions a test can end, break or interrupt."""

    def __init__(self) -> None:
        super().__init__()
        self.subscriptions = 0
        self.refusals = 0
        self.wanted: Callable[[str], bool] | None = None
        self._end: Exception | None = None
        self._ended = anyio.Event()

    def end(self, error: Exception | None = None) -> None:
        """End the subscription that is on, well or with an error."""
        self._end = error
        self._ended.set()
        self._ended = anyio.Event()

    @asynccontextmanager
    async def subscribe(
        self, wanted: Callable[[str], bool] | None = None, *, pulse: bool = False
    ) -> AsyncIterator[AsyncIterator[Announcement | Lost | Gap | Alive]]:
        """Subscribe, or fail as often as ``refusals`` says."""
        self.wanted = wanted
        if self.refusals:
            self.refusals -= 1
            message = "refused"
            raise OSError(message)
        async with super().subscribe(wanted, pulse=pulse) as announcements:
            self.subscriptions += 1
            yield self._until_ended(announcements, self._ended)

    async def _until_ended(
        self, announcements: AsyncIterator[Announcement | Lost | Gap | Alive], ended: anyio.Event
    ) -> AsyncIterator[Announcement | Lost | Gap | Alive]:
        while not ended.is_set():
            got: list[Announcement | Lost | Gap | Alive] = []

            async def take(
                tasks: anyio.abc.TaskGroup, got: list[Announcement | Lost | Gap | Alive] = got
            ) -> None:
                got.append(await anext(announcements))
                tasks.cancel_scope.cancel()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take, tasks)
                await ended.wait()
                tasks.cancel_scope.cancel()
            for one in got:
                yield one
        if self._end is not None:
            raise self._end


@pytest.fixture
def notifier() -> MovingNotifier:
    """A notifier of the test's own."""
    return MovingNotifier()


@pytest.fixture
async def process(notifier: MovingNotifier) -> AsyncIterator[Process]:
    """A process whose hub listens and has seen to what came before."""
    process = Process(notifier=notifier)
    async with process.listening():
        await settled(
            lambda: process.hub._reconciler.has_caught_up, "the hub did not look at what came before it"
        )
        yield process
    assert not notifier._subscriptions, "the subscription was left"


@asynccontextmanager
async def following(process: Process, subject: Subject) -> AsyncIterator[Waiter]:
    """Follow a subject for the length of a block."""
    waiter = Waiter()
    joined = await process.hub.join(subject, waiter)
    await waiter.wait(0)  # the first look may have woken it; what the test is about comes later
    try:
        yield waiter
    finally:
        process.hub.leave(joined.channel, waiter)


async def woken(waiter: Waiter) -> bool:
    """Wait for somebody who should wake."""
    return await waiter.wait(PATIENCE)


def untold(process: Process) -> Process:
    """Return a process on the same database whose changes are announced to nobody else."""
    return Process(process.repository, clock=process.clock)


async def test_a_change_wakes_all_who_follow_its_subject(process: Process) -> None:
    """All who follow the subject wake, and those of no other."""
    async with (
        following(process, ANNA) as one,
        following(process, ANNA) as other,
        following(process, BERT) as elsewhere,
    ):
        await process.patch(ANNA, "plugins", a=1)
        assert await woken(one)
        assert await woken(other)
        assert not await elsewhere.wait(0)


async def test_an_erase_wakes_too(process: Process) -> None:
    """An announcement without a change is a reason to look as well."""
    await process.patch(ANNA, "plugins", a=1)
    async with following(process, ANNA) as waiter:
        await process.service.erase(ANNA)
        assert await woken(waiter)
        assert process.hub._channels[ANNA.key].revision == 0


async def test_what_happened_before_the_wait_ends_it_at_once(process: Process) -> None:
    """Who follows wakes by a change that came when it was not waiting, and by each change once."""
    async with following(process, ANNA) as waiter, following(process, ANNA) as witness:
        await process.patch(ANNA, "plugins", a=1)
        await woken(witness)
        assert await waiter.wait(0)
        assert not await waiter.wait(0), "one change wakes once"


async def test_a_wait_ends_with_its_time(process: Process) -> None:
    """Where nothing happens, the wait ends and says so."""
    async with following(process, ANNA) as waiter:
        with anyio.fail_after(PATIENCE):
            assert not await waiter.wait(0.02)


async def test_no_two_subjects_are_mixed_up(process: Process) -> None:
    """Subjects that look alike wake their own followers."""
    async with following(process, HOSTILE_SUBJECTS[-1]) as last:
        for subject in HOSTILE_SUBJECTS[:-1]:
            await process.patch(subject, "plugins", a=1)
        assert not await last.wait(0.01)
        await process.patch(HOSTILE_SUBJECTS[-1], "plugins", a=1)
        assert await woken(last)


async def test_only_subjects_that_somebody_follows_are_wanted(
    process: Process, notifier: MovingNotifier
) -> None:
    """The notifier is told what it may leave out, and what it may not, at any moment."""
    assert notifier.wanted is not None
    assert not notifier.wanted(ANNA.key)
    async with following(process, ANNA):
        assert notifier.wanted(ANNA.key)
        async with following(process, ANNA):
            assert not notifier.wanted(BERT.key)
        assert notifier.wanted(ANNA.key)
    assert not notifier.wanted(ANNA.key)


async def test_what_was_lost_in_a_gap_is_found(process: Process, notifier: MovingNotifier) -> None:
    """Where announcements may be missing, the hub looks for all who follow anything."""
    async with following(process, ANNA) as one, following(process, BERT) as other:
        for subject in (ANNA, BERT):
            await untold(process).patch(subject, "plugins", a=1)
        for inbox in notifier._subscriptions:
            inbox.lost()
            inbox.back()
        assert await woken(one)
        assert await woken(other)
        assert process.hub._channels[BERT.key].revision == (await untold(process).read(BERT)).revision


@pytest.mark.parametrize("error", [None, OSError("lost"), ValueError("a bug")], ids=["ended", "lost", "bug"])
async def test_the_listener_never_dies(
    process: Process, notifier: MovingNotifier, error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    """However a subscription ends, it is made again, what came meanwhile is found, and the log says what happened."""
    async with following(process, ANNA) as waiter:
        await untold(process).patch(ANNA, "plugins", a=1)
        notifier.end(error)
        assert await woken(waiter)
        await settled(
            lambda: notifier.subscriptions == 2 and process.hub._reconciler.has_caught_up,
            "the hub does not listen any more",
        )
        while await waiter.wait(0):
            pass
        await process.patch(ANNA, "plugins", a=2)
        assert await woken(waiter)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_a_notifier_that_refuses_is_asked_again(process: Process, notifier: MovingNotifier) -> None:
    """Failing to subscribe is tried again with pauses until it works."""
    notifier.refusals = 2
    async with following(process, ANNA) as waiter:
        await untold(process).patch(ANNA, "plugins", a=1)
        notifier.end()
        await settled(lambda: notifier.subscriptions == 2, "the hub gave up")
        assert await woken(waiter)


async def test_followers_come_and_go(process: Process) -> None:
    """Who leaves, also by an error, is forgotten, and changes that nobody follows cost nothing."""
    for _ in range(100):
        with pytest.raises(ZeroDivisionError):
            async with following(process, ANNA):
                raise ZeroDivisionError
    assert not process.hub._channels
    await process.patch(ANNA, "plugins", a=1)
    async with following(process, ANNA) as waiter:
        await process.patch(ANNA, "plugins", a=2)
        assert await woken(waiter)


async def test_who_cannot_be_placed_does_not_follow() -> None:
    """Where the state cannot be read, joining says so and leaves nothing behind."""
    repository = FailingRepository(MemoryRepository())
    process = Process(repository)
    async with process.listening():
        repository.is_down = True
        with pytest.raises(UnavailableError):
            await process.hub.join(ANNA, Waiter())
        assert not process.hub._channels


async def test_a_wait_can_be_cancelled(process: Process) -> None:
    """A cancelled wait takes nothing from the next one."""
    async with following(process, ANNA) as waiter:
        with anyio.move_on_after(0.005):
            await waiter.wait(60)
        await process.patch(ANNA, "plugins", a=1)
        assert await woken(waiter)

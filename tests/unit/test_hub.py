"""One subscription a process, handed out to whoever waits."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from prefsync.adapters.memory import MemoryNotifier
from prefsync.document import Change
from prefsync.hub import Hub, Waiter
from prefsync.ports import Announcement, Gap, Lost
from prefsync.testing.samples import HOSTILE_SUBJECTS, settled
from tests.unit.support import ANNA, BERT, PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from prefsync.document import Subject


def said(subject: Subject, revision: int = 1) -> Announcement:
    """Return an announcement of a subject."""
    return Announcement(subject, Change(revision, revision - 1, revision), revision)


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
        self, wanted: Callable[[str], bool] | None = None
    ) -> AsyncIterator[AsyncIterator[Announcement | Lost | Gap]]:
        """Subscribe, or fail as often as ``refusals`` says."""
        self.wanted = wanted
        if self.refusals:
            self.refusals -= 1
            message = "refused"
            raise OSError(message)
        async with super().subscribe(wanted) as announcements:
            self.subscriptions += 1
            yield self._until_ended(announcements, self._ended)

    async def _until_ended(
        self, announcements: AsyncIterator[Announcement | Lost | Gap], ended: anyio.Event
    ) -> AsyncIterator[Announcement | Lost | Gap]:
        while not ended.is_set():
            got: list[Announcement | Lost | Gap] = []

            async def take(tasks: anyio.abc.TaskGroup, got: list[Announcement | Lost | Gap] = got) -> None:
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
async def hub(notifier: MovingNotifier) -> AsyncIterator[Hub]:
    """A hub that listens."""
    hub = Hub(notifier)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hub.run)
        await settled(lambda: notifier.subscriptions == 1, "the hub does not listen")
        yield hub
        tasks.cancel_scope.cancel()
    assert not hub._waiters, "a waiter was left"
    assert not notifier._subscriptions, "the subscription was left"


async def woken(waiter: Waiter) -> bool:
    """Wait for a waiter that should wake."""
    return await waiter.wait(PATIENCE)


async def test_an_announcement_wakes_all_who_wait_for_its_subject(hub: Hub, notifier: MovingNotifier) -> None:
    """All waiters of the subject wake, and those of no other."""
    with hub.waiter(ANNA) as one, hub.waiter(ANNA) as other, hub.waiter(BERT) as elsewhere:
        await notifier.publish(said(ANNA))
        assert await woken(one)
        assert await woken(other)
        assert not await elsewhere.wait(0)


async def test_an_erase_wakes_too(hub: Hub, notifier: MovingNotifier) -> None:
    """An announcement without a change is a reason to look as well."""
    with hub.waiter(ANNA) as waiter:
        await notifier.publish(Announcement(ANNA, None, 5))
        assert await woken(waiter)


async def test_what_happened_before_the_wait_ends_it_at_once(hub: Hub, notifier: MovingNotifier) -> None:
    """A waiter that was made before an announcement wakes by it, though it was not waiting at that moment."""
    with hub.waiter(ANNA) as waiter, hub.waiter(ANNA) as witness:
        await notifier.publish(said(ANNA))
        await woken(witness)
        assert await waiter.wait(0)
        assert not await waiter.wait(0), "one announcement wakes once"


async def test_a_wait_ends_with_its_time(hub: Hub) -> None:
    """Where nothing happens, the wait ends and says so."""
    with hub.waiter(ANNA) as waiter, anyio.fail_after(PATIENCE):
        assert not await waiter.wait(0.02)


async def test_no_two_subjects_are_mixed_up(hub: Hub, notifier: MovingNotifier) -> None:
    """Subjects that look alike wake their own waiters."""
    with hub.waiter(HOSTILE_SUBJECTS[-1]) as last:
        for subject in HOSTILE_SUBJECTS[:-1]:
            await notifier.publish(said(subject))
        assert not await last.wait(0.01)
        await notifier.publish(said(HOSTILE_SUBJECTS[-1]))
        assert await woken(last)


async def test_only_subjects_that_somebody_waits_for_are_wanted(hub: Hub, notifier: MovingNotifier) -> None:
    """The notifier is told what it may leave out, and what it may not, at any moment."""
    assert notifier.wanted is not None
    assert not notifier.wanted(ANNA.key)
    with hub.waiter(ANNA):
        assert notifier.wanted(ANNA.key)
        with hub.waiter(ANNA):
            pass
        assert notifier.wanted(ANNA.key)
        assert not notifier.wanted(BERT.key)
    assert not notifier.wanted(ANNA.key)


async def test_a_gap_wakes_everybody(hub: Hub, notifier: MovingNotifier) -> None:
    """Where announcements may be missing, everybody looks for themselves."""
    with hub.waiter(ANNA) as one, hub.waiter(BERT) as other:
        for stream in notifier._subscriptions:
            stream.send_nowait(Gap())
        assert await woken(one)
        assert await woken(other)


@pytest.mark.parametrize("error", [None, OSError("lost"), ValueError("a bug")], ids=["ended", "lost", "bug"])
async def test_the_listener_never_dies(
    hub: Hub, notifier: MovingNotifier, error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    """However a subscription ends, it is made again, everybody is told to look, and the log says what happened."""
    with hub.waiter(ANNA) as waiter:
        notifier.end(error)
        assert await woken(waiter)
        await settled(lambda: notifier.subscriptions == 2, "the hub does not listen any more")
        while await waiter.wait(0):
            pass
        await notifier.publish(said(ANNA))
        assert await woken(waiter)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_a_notifier_that_refuses_is_asked_again(hub: Hub, notifier: MovingNotifier) -> None:
    """Failing to subscribe is tried again with pauses until it works."""
    notifier.refusals = 2
    with hub.waiter(ANNA) as waiter:
        notifier.end()
        await settled(lambda: notifier.subscriptions == 2, "the hub gave up")
        assert await woken(waiter)


async def test_waiters_come_and_go(hub: Hub, notifier: MovingNotifier) -> None:
    """Waiters that leave, also by an error, are forgotten, and announcements for nobody cost nothing."""
    for _ in range(100):
        with pytest.raises(ZeroDivisionError), hub.waiter(ANNA):
            raise ZeroDivisionError
    assert not hub._waiters
    await notifier.publish(said(ANNA))
    with hub.waiter(ANNA) as waiter:
        await notifier.publish(said(ANNA))
        assert await woken(waiter)


async def test_a_wait_can_be_cancelled(hub: Hub, notifier: MovingNotifier) -> None:
    """A cancelled wait takes nothing from the next one."""
    with hub.waiter(ANNA) as waiter:
        with anyio.move_on_after(0.005):
            await waiter.wait(60)
        await notifier.publish(said(ANNA))
        assert await woken(waiter)

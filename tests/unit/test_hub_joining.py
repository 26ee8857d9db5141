"""Joining: subscribe, then position, then state, then deliver; nothing is lost on the way, and nothing told twice."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from prefsync.adapters.memory import MemoryNotifier, MemoryRepository
from prefsync.errors import UnavailableError
from prefsync.polling import Waiter
from prefsync.ports import Gap, Lost
from prefsync.sessions import Sessions
from prefsync.testing import FailingRepository, PausingRepository, UnreliableNotifier
from prefsync.testing.samples import settled
from tests.unit.streams import Client, connected, in_step
from tests.unit.support import ANNA, PATIENCE, Process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from prefsync.document import Document, Snapshot, Subject
    from prefsync.ports import ChangeLog


class Overtaken(MemoryRepository):
    """A repository in which something happens at a point, once."""

    def __init__(self) -> None:
        super().__init__()
        self.point = ""
        self.happens: Callable[[], Awaitable[None]] | None = None

    async def _pass(self, point: str) -> None:
        if self.point == point and self.happens is not None:
            happens, self.happens = self.happens, None
            await happens()

    async def changes(self, subject: Subject, since: int, limit: int) -> ChangeLog:
        """Read the log, with two points on the way."""
        await self._pass("before the log is read")
        log = await super().changes(subject, since, limit)
        await self._pass("after the log was read")
        return log

    async def load(self, subject: Subject) -> Document:
        """Read the state, with two points on the way."""
        await self._pass("before the state is read")
        document = await super().load(subject)
        await self._pass("after the state was read")
        return document


POINTS = (
    "before the log is read",
    "after the log was read",
    "before the state is read",
    "after the state was read",
)


async def rounds() -> None:
    """Let everybody do what they can do at once."""
    for _ in range(30):
        await asyncio.sleep(0)


@pytest.fixture
async def process() -> AsyncIterator[Process]:
    """A process that listens and has nothing to catch up with."""
    process = Process(Overtaken())
    async with process.listening():
        await settled(
            lambda: process.hub._reconciler.has_caught_up, "the hub did not look at what came before it"
        )
        yield process


def statements(repository: Any) -> int:
    """Return how often the database was asked for anything that joining needs."""
    return sum(repository.calls[name] for name in ("changes", "load", "revisions"))


@pytest.mark.parametrize("is_heard", [True, False], ids=["heard at once", "heard later"])
@pytest.mark.parametrize("happening", ["writes", "erase", "erase and write"])
@pytest.mark.parametrize("behind", [None, 0, 2, 40], ids=["new", "up to date", "behind", "far behind"])
@pytest.mark.parametrize("is_followed", [False, True], ids=["alone", "not alone"])
@pytest.mark.parametrize("point", POINTS)
async def test_what_happens_while_somebody_joins_is_told_once(
    process: Process,
    point: str,
    behind: int | None,
    happening: str,
    *,
    is_followed: bool,
    is_heard: bool,
) -> None:
    """Whatever is committed at any point of a join, the client ends on the newest state, by an unbroken chain."""
    assert isinstance(process.repository, Overtaken)
    snapshots: list[Snapshot] = [await process.merge("plugins", {"n": n, f"n{n}": n}) for n in range(43)]
    had = None if behind is None else snapshots[-1 - behind]
    client = Client(had.revision, dict(had.values)) if had else Client()
    sessions = Sessions(process.hub, process.clock)

    async def happens() -> None:
        if happening.startswith("erase"):
            await process.service.erase(ANNA)
        if happening != "erase":
            for n in range(2):
                await process.merge("plugins", {"n": -1 - n, "n1": None})
        if is_heard:
            await rounds()

    async with AsyncExitStack() as stack:
        first = Client()
        if is_followed:
            await stack.enter_async_context(connected(sessions, ANNA, first))
        process.repository.point, process.repository.happens = point, happens
        await stack.enter_async_context(connected(sessions, ANNA, client))
        if process.repository.happens is not None:
            process.repository.happens = None
            await happens()  # the point was not passed: this join needed less
        await in_step(process, ANNA, client, *([first] if is_followed else []))
        await rounds()
        told = [revision for kind, revision in client.heard if kind == "change"]
        assert told == sorted(set(told))
    assert process.hub._asking == {}


@pytest.mark.parametrize("behind", [None, 0, 5, 99], ids=["new", "up to date", "behind", "unknown revision"])
async def test_many_who_join_at_once_cost_one_query(behind: int | None) -> None:
    """However many come for one subject at once, the database is asked once; twice where their revision is not there."""
    repository = FailingRepository(MemoryRepository())
    process = Process(repository)
    snapshots = [await process.merge("plugins", {"n": n}) for n in range(10)]
    if behind is None:
        clients = [Client() for _ in range(50)]
    elif behind == 99:
        clients = [Client(1) for _ in range(50)]
    else:
        had = snapshots[-1 - behind]
        clients = [Client(had.revision, dict(had.values)) for _ in range(50)]
    sessions = Sessions(process.hub, process.clock)
    async with process.listening():
        await settled(
            lambda: process.hub._reconciler.has_caught_up, "the hub did not look at what came before it"
        )
        before = statements(repository)
        stop = anyio.Event()

        async def follow(client: Client) -> None:
            async with connected(sessions, ANNA, client):
                await stop.wait()

        async with anyio.create_task_group() as tasks:
            for client in clients:
                tasks.start_soon(follow, client)
            await settled(lambda: all(client.heard for client in clients), "somebody was not greeted")
            assert statements(repository) - before == (2 if behind == 99 else 1)
            async with connected(sessions, ANNA, Client()) as late:
                assert late.revision == snapshots[-1].revision
            assert statements(repository) - before == (2 if behind == 99 else 1)
            await in_step(process, ANNA, *clients)
            stop.set()


async def test_a_question_that_left_before_is_not_shared_while_nothing_is_heard() -> None:
    """While the notifier is lost, who joins is not given an answer from before a write that was acknowledged."""
    repository, notifier = PausingRepository(MemoryRepository()), MemoryNotifier()
    process = Process(repository, notifier=notifier)
    sessions = Sessions(process.hub, process.clock)
    async with process.listening():
        await settled(
            lambda: process.hub._reconciler.has_caught_up, "the hub did not look at what came before it"
        )
        for stream in notifier._subscriptions:
            stream.put(Lost(), 0)
        await settled(lambda: not process.hub.is_listening, "the loss was not noticed")
        process.clock.advance(60)
        hold = repository.hold("load", after=True)
        early, late = Client(), Client()
        async with anyio.create_task_group() as tasks:

            async def join_early() -> None:
                async with connected(sessions, ANNA, early):
                    await in_step(process, ANNA, early)

            tasks.start_soon(join_early)
            await hold.reached()
            written = await Process(repository, clock=process.clock).merge("plugins", {"a": 1})
            with anyio.fail_after(PATIENCE):
                async with connected(sessions, ANNA, late):
                    await settled(lambda: bool(late.heard), "nobody was greeted")
            assert late.heard[0] == ("reset", written.revision)
            for stream in notifier._subscriptions:
                stream.put(Gap(), 0)
            hold.release()


async def test_joining_works_while_the_notifier_is_lost() -> None:
    """Who joins while nothing is heard gets the newest state, and what comes later from the reconcile."""
    notifier = UnreliableNotifier(MemoryNotifier())
    process = Process(notifier=notifier)
    sessions = Sessions(process.hub, process.clock)
    async with process.listening():
        await settled(
            lambda: process.hub._reconciler.has_caught_up, "the hub did not look at what came before it"
        )
        for stream in notifier.inner._subscriptions:  # type: ignore[attr-defined]
            stream.put(Lost(), 0)
        await settled(lambda: not process.hub.is_listening, "the loss was not noticed")
        notifier.loses = True
        await process.merge("plugins", {"a": 1})
        client = Client()
        async with connected(sessions, ANNA, client):
            await in_step(process, ANNA, client)
            await process.merge("plugins", {"a": 2})
            assert await process.hub.reconcile() == 1
            await in_step(process, ANNA, client)


@pytest.mark.parametrize("since", [None, 0, 7])
async def test_joining_while_the_database_is_away_is_refused(since: int | None) -> None:
    """It says so to each who joins, nobody follows afterwards, and nothing is left; when it is back, joining works."""
    repository = FailingRepository(MemoryRepository())
    process = Process(repository)
    sessions = Sessions(process.hub, process.clock)
    async with process.listening():
        await settled(
            lambda: process.hub._reconciler.has_caught_up, "the hub did not look at what came before it"
        )
        repository.is_down = True

        async def refused() -> None:
            with pytest.raises(UnavailableError) as caught:
                async with connected(sessions, ANNA, Client(since)):
                    pytest.fail("it joined")
            assert caught.value.part == "database"

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(refused)
        assert process.hub._channels == {}
        assert process.hub._asking == {}
        assert len(sessions) == 0
        repository.is_down = False
        client = Client()
        async with connected(sessions, ANNA, client):
            await in_step(process, ANNA, client)


async def test_leaving_leaves_nothing() -> None:
    """Ten thousand joins and leaves of many subjects leave no channel, no question and no session."""
    process = Process()
    sessions = Sessions(process.hub, process.clock)
    subjects = [type(ANNA)(f"user {n}") for n in range(100)]
    async with process.listening():
        for n in range(10_000):
            joined = await process.hub.join(subjects[n % 100], waiter := Waiter(), since=n % 3 or None)
            process.hub.leave(joined.channel, waiter)
        assert process.hub._channels == {}
        assert process.hub._asking == {}
    assert len(sessions) == 0


async def test_who_is_cancelled_while_joining_leaves_nothing() -> None:
    """Wherever a join is cancelled, nobody follows afterwards, and those who stay get their answer."""
    for rounds_before in range(12):
        process = Process()
        await process.merge("plugins", {"n": 1})
        sessions = Sessions(process.hub, process.clock)
        async with process.listening():
            stays = Client()
            async with anyio.create_task_group() as tasks:

                async def follow(sessions: Sessions = sessions) -> None:
                    async with connected(sessions, ANNA, Client()):
                        await anyio.sleep_forever()

                tasks.start_soon(follow)
                for _ in range(rounds_before):
                    await asyncio.sleep(0)
                async with connected(sessions, ANNA, stays):
                    tasks.cancel_scope.cancel()
            assert process.hub._channels == {}
            assert len(sessions) == 0


@pytest.mark.parametrize("since", [None, 0])
@pytest.mark.parametrize("rounds_before", range(8))
async def test_who_joins_while_the_hub_stops_is_refused(since: int | None, rounds_before: int) -> None:
    """Whoever has no answer when the process shuts down is refused, and not told that nothing was missed."""
    repository = PausingRepository(MemoryRepository())
    process = Process(repository)
    await process.merge("plugins", {"n": 1})
    hold = repository.hold("load" if since is None else "changes")
    errors: list[UnavailableError] = []
    async with anyio.create_task_group() as joining:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(process.hub.run)
            await rounds()

            async def join() -> None:
                try:
                    await process.hub.join(ANNA, Waiter(), since=since)
                except UnavailableError as error:
                    errors.append(error)

            joining.start_soon(join)
            for _ in range(rounds_before):
                await asyncio.sleep(0)
            tasks.cancel_scope.cancel()
        hold.release()
    assert [error.part for error in errors] in (["process"], ["notifier"])
    assert process.hub._channels == {}
    assert process.hub._asking == {}

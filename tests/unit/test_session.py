"""One session: in order, each revision once, never more than it takes, and nothing left when it ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest

from prefsync.adapters.memory import MemoryRepository
from prefsync.session import Farewell
from prefsync.sessions import Sessions
from prefsync.testing import PausingRepository
from prefsync.testing.samples import other_tasks, settled
from tests.unit.streams import Client, connected, in_step
from tests.unit.support import ANNA, PATIENCE, Process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def repository() -> PausingRepository:
    """A database whose calls can be held."""
    return PausingRepository(MemoryRepository())


@pytest.fixture
async def process(repository: PausingRepository) -> AsyncIterator[Process]:
    """A process that listens and has nothing to catch up with."""
    process = Process(repository)
    async with process.listening():
        await settled(
            lambda: process.hub._reconciler.has_caught_up, "the hub did not look at what came before it"
        )
        yield process


@pytest.fixture
async def sessions(process: Process) -> AsyncIterator[Sessions]:
    """Its sessions; afterwards none is left, and nothing of them."""
    sessions = Sessions(process.hub, process.clock)
    yield sessions
    assert len(sessions) == 0
    assert not sessions.in_flight.sessions
    assert not sessions._of_subject
    assert not any(sessions._slots)


@pytest.fixture(params=[True, False], ids=["plain", "not plain"])
def client(request: pytest.FixtureRequest) -> Client:
    """A client whose sending may begin in the caller's task, and one whose may not."""
    return Client(is_plain=request.param)


async def write(process: Process, *numbers: int) -> None:
    """Write numbers under names of their own."""
    for n in numbers:
        await process.merge("plugins", {"n": n, f"n{n}": n})


async def forgotten(process: Process, revision: int | None) -> None:
    """Wait until the way from a revision is not remembered any more."""
    channel = process.hub._channels[ANNA.key]
    assert revision is not None
    await settled(lambda: channel.since(revision) is None, "the way is still remembered")


async def test_each_change_is_told_in_order(process: Process, sessions: Sessions, client: Client) -> None:
    """A client that takes what comes gets the greeting first, then every change."""
    await write(process, 0)
    async with connected(sessions, ANNA, client):
        for n in range(1, 6):
            await write(process, n)
            await in_step(process, ANNA, client)
        assert client.kinds() == ["reset"] + ["change"] * 5


async def test_a_slow_client_gets_one_folded_change(
    process: Process, sessions: Sessions, client: Client
) -> None:
    """What came while a client took nothing is told in one change, and nothing waited for it in memory."""
    async with connected(sessions, ANNA, client):
        await in_step(process, ANNA, client)
        client.hold()
        await write(process, *range(20))
        await settled(
            lambda: process.hub._channels[ANNA.key].since(0) is not None, "the changes did not come"
        )
        client.release()
        await in_step(process, ANNA, client)
        assert client.kinds() == ["reset", "change", "change"]


async def test_a_client_too_slow_for_memory_gets_the_rest_from_the_log(
    process: Process, sessions: Sessions, client: Client
) -> None:
    """Where the way is not remembered any more, it is read, in a task that may set time limits, and told the same."""
    async with connected(sessions, ANNA, client):
        await in_step(process, ANNA, client)
        client.hold()
        await write(process, *range(40))
        await forgotten(process, client.revision)
        client.release()
        await in_step(process, ANNA, client)
        assert client.kinds() == ["reset", "change", "change"]
        assert not client.cuts
        await write(process, 41)
        await in_step(process, ANNA, client)


async def test_a_way_that_is_not_remembered_is_read_in_a_task_of_its_own(
    process: Process, sessions: Sessions, client: Client
) -> None:
    """A look-up that begins with a wake-up leaves no time limit behind in the task of whoever woke the session."""
    async with connected(sessions, ANNA, client) as session:
        await in_step(process, ANNA, client)
        session._has_begun = False  # so that no change wakes it
        await write(process, *range(40))
        await forgotten(process, client.revision)
        session._has_begun = True
        with anyio.fail_after(PATIENCE):  # torn by a time limit that begins in here and ends elsewhere
            session.wake()
            await in_step(process, ANNA, client)
        assert not client.cuts


async def test_nothing_is_sent_before_the_session_has_begun(
    sessions: Sessions, repository: PausingRepository, client: Client
) -> None:
    """A heartbeat or a farewell that falls due while a client joins waits for its greeting."""
    hold = repository.hold("load")
    async with anyio.create_task_group() as tasks:

        async def follow() -> None:
            async with connected(sessions, ANNA, client):
                await settled(lambda: client.cuts > 0, "it did not end")

        tasks.start_soon(follow)
        await hold.reached()
        for slot in sessions._slots:
            for session in slot:
                session.beat()
        sessions.drain()
        await asyncio.sleep(0.01)
        assert client.heard == []
        hold.release()
    assert client.heard == [("reset", 0), ("bye", Farewell.DRAINING)]


async def _away(*_: object, **__: object) -> None:
    from prefsync.errors import UnavailableError

    await asyncio.sleep(0)
    part = "database"
    raise UnavailableError(part)


async def test_a_look_up_that_fails_loses_no_reply(
    process: Process, sessions: Sessions, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the database cannot say what a session lacks, it still answers, and says that it may be behind."""
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def resume(*arguments: object) -> None:
        reached.set()
        await go_on.wait()
        await _away(*arguments)

    async with connected(sessions, ANNA, client) as session:
        await in_step(process, ANNA, client)
        monkeypatch.setattr(process.hub, "resume", resume)
        client.hold()
        await write(process, *range(40))
        await forgotten(process, client.revision)
        client.release()
        with anyio.fail_after(PATIENCE):
            await reached.wait()

        async def pong() -> None:
            await client.send("pong", session.revision)

        session.reply(pong)
        session.end(Farewell.DRAINING)
        go_on.set()
        await settled(lambda: client.cuts == 1, "what fell due during the look-up was forgotten")
        assert client.heard[-2:] == [("pong", None), ("bye", Farewell.DRAINING)]


async def test_replies_come_before_changes_and_a_farewell_after_replies(
    process: Process, sessions: Sessions, client: Client
) -> None:
    """While a client takes nothing, replies, changes and a farewell gather: replies first, then the end, no more."""
    async with connected(sessions, ANNA, client) as session:
        await in_step(process, ANNA, client)
        client.hold()
        await write(process, 1)
        await settled(lambda: client._is_busy, "nothing is being sent")
        await write(process, 2)
        for number in (1, 2):

            async def reply(number: int = number) -> None:
                await client.send("reply", number)

            session.reply(reply)
        assert session.has_replies
        session.beat()
        session.end(Farewell.EXPIRED)
        session.end(Farewell.DRAINING)
        client.release()
        await settled(lambda: client.cuts == 1, "it did not end")
        assert client.kinds() == ["reset", "change", "reply", "reply", "bye"]
        assert client.heard[-1] == ("bye", Farewell.EXPIRED)
        session.wake()
        session.beat()
        await asyncio.sleep(0.01)
        assert client.kinds()[-1] == "bye"


async def test_a_client_that_fails_ends_its_session_alone(process: Process, sessions: Sessions) -> None:
    """An error while sending ends that session, and the other one goes on."""
    broken, other = Client(), Client()
    async with connected(sessions, ANNA, broken), connected(sessions, ANNA, other):
        await in_step(process, ANNA, broken, other)
        broken.error = OSError("gone")
        await write(process, 1, 2)
        await in_step(process, ANNA, other)
        assert broken.cuts == 1
        assert broken.kinds() == ["reset"]


async def test_a_connection_that_cannot_be_given_up_ends_all_the_same(
    process: Process, sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in cutting one connection is logged, and the session is over."""

    class Stubborn(Client):
        def cut(self) -> None:
            super().cut()
            message = "no"
            raise OSError(message)

    client = Stubborn()
    async with connected(sessions, ANNA, client) as session:
        await in_step(process, ANNA, client)
        session.cut()
        session.cut()
        await write(process, 1)
        assert client.kinds() == ["reset"]
    assert client.cuts == 1
    assert any("could not be given up" in record.message for record in caplog.records)


@pytest.mark.parametrize("rounds", range(10))
async def test_wherever_a_session_is_closed_nothing_is_left(
    process: Process, sessions: Sessions, client: Client, rounds: int
) -> None:
    """Closing in the middle of a greeting, a change or a look-up ends the sending; no task and no channel stay."""
    before = other_tasks()
    await write(process, 0)
    async with connected(sessions, ANNA, client):
        for _ in range(rounds // 2):
            await asyncio.sleep(0)
        if rounds % 2:
            client.hold()
            await write(process, *range(40))
        else:
            await write(process, 1)
        for _ in range(rounds // 2):
            await asyncio.sleep(0)
    assert process.hub._channels == {}
    await settled(lambda: not sessions.in_flight.sessions, "something is still being sent")
    client.release()
    await settled(lambda: other_tasks() <= before, f"still running: {other_tasks() - before}")


async def test_the_revision_is_told_only_where_it_is_the_newest(
    process: Process, sessions: Sessions, client: Client
) -> None:
    """A session that has not begun, or lacks something, or may lack it, tells no revision."""
    await write(process, 0)
    session = sessions.open(ANNA, client, None)
    assert session.revision is None
    sessions.close(session)
    other = Client()
    async with connected(sessions, ANNA, other) as session:
        await in_step(process, ANNA, other)
        assert session.revision == other.revision
        other.hold()
        await write(process, 1)
        await settled(lambda: other._is_busy, "nothing is being sent")
        await write(process, 2)
        await settled(lambda: session.revision is None, "it tells a revision that is not the newest")
        other.release()
        await in_step(process, ANNA, other)
        assert session.revision == other.revision
        process.hub._channels[ANNA.key].doubt()
        session.beat()
        await settled(lambda: other.kinds()[-1] == "beat", "no heartbeat came")
        assert other.heard[-1] == ("beat", None)

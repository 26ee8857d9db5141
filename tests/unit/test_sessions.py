"""All sessions of a process: how many there may be, when they end, and that none is forgotten."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from prefsync import session as session_module
from prefsync import sessions as sessions_module
from prefsync.document import Subject
from prefsync.errors import UnavailableError
from prefsync.session import Farewell
from prefsync.sessions import Sessions
from prefsync.testing.samples import settled
from tests.unit.streams import Client, connected, in_step
from tests.unit.support import ANNA, BERT, PATIENCE, Process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def process() -> AsyncIterator[Process]:
    """A process that listens and has nothing to catch up with."""
    process = Process()
    async with process.listening():
        await settled(
            lambda: process.hub._reconciler.has_caught_up, "the hub did not look at what came before it"
        )
        yield process


@pytest.fixture
async def sessions(process: Process, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sessions]:
    """Its sessions, looked after a thousand times a second, on a clock that only the test moves."""
    monkeypatch.setattr(sessions_module, "_TICK", 0.001)
    async with looked_after(Sessions(process.hub, process.clock, most=20, most_per_subject=3)) as sessions:
        yield sessions


@asynccontextmanager
async def looked_after(sessions: Sessions) -> AsyncIterator[Sessions]:
    """Have sessions looked after for the length of a block."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sessions.run)
        yield sessions
        tasks.cancel_scope.cancel()
    assert len(sessions) == 0
    assert not sessions.in_flight.sessions
    assert not sessions._of_subject
    assert not any(sessions._slots)


def at(process: Process, seconds: float) -> float:
    """Return a time so many seconds from now, in seconds since 1970."""
    return process.clock.now() / 1_000 + seconds


async def looks(count: int = 5) -> None:
    """Let the sessions be looked after a few times."""
    await asyncio.sleep(count * 0.003)


async def leap(process: Process, sessions: Sessions, seconds: float) -> None:
    """Let time pass at a moment when nothing is being sent, which would seem to have taken all that time."""
    await settled(lambda: not sessions.in_flight.sessions, "something is still being sent")
    process.clock.advance(seconds)


async def test_a_client_that_takes_nothing_is_cut(process: Process, sessions: Sessions) -> None:
    """Who takes nothing for 30 s is cut; who takes a little now and then is not, and others notice nothing."""
    stuck, slow, other = Client(), Client(), Client()
    async with (
        connected(sessions, ANNA, stuck),
        connected(sessions, ANNA, slow),
        connected(sessions, ANNA, other),
    ):
        await in_step(process, ANNA, stuck, slow, other)
        stuck.hold()
        for n in range(4):
            slow.hold()
            await process.merge("plugins", {"n": n})
            await in_step(process, ANNA, other)
            process.clock.advance(session_module._PATIENCE / 3)
            await looks()
            assert bool(stuck.cuts) == (n == 3), f"after {n + 1} thirds of its patience"
            slow.release()
            await in_step(process, ANNA, slow)
        assert set(stuck.kinds()) <= {"reset", "beat"}
        assert not slow.cuts


async def test_a_farewell_that_is_not_taken_ends_soon(process: Process, sessions: Sessions) -> None:
    """Who is told to go has two seconds from then on, however long it has taken nothing before."""
    client = Client()
    async with connected(sessions, ANNA, client) as session:
        await in_step(process, ANNA, client)
        client.hold()
        await process.merge("plugins", {"n": 1})
        await settled(lambda: client._is_busy, "nothing is being sent")
        process.clock.advance(20)
        await looks()
        session.end(Farewell.EXPIRED)
        process.clock.advance(session_module._FAREWELL_PATIENCE)
        await looks()
        assert not client.cuts
        process.clock.advance(0.5)
        await settled(lambda: client.cuts == 1, "it was not cut")
    assert set(client.kinds()) <= {"reset", "beat"}


async def test_sessions_end_when_their_proof_runs_out(process: Process, sessions: Sessions) -> None:
    """Each ends at its own time, a renewed one at its new time, and one without a time never."""
    clients = {seconds: Client() for seconds in (10, 20, 30, None)}
    async with AsyncExitStack() as stack:
        opened = {}
        for n, (seconds, client) in enumerate(clients.items()):
            ends = None if seconds is None else at(process, seconds)
            subject = Subject(f"user {n}")
            opened[seconds] = await stack.enter_async_context(
                connected(sessions, subject, client, expires_at=ends)
            )
        sessions.expire(opened[20], at(process, 60))
        sessions.expire(opened[30], at(process, 15))
        gone: list[int | None] = []
        for seconds, also in ((9.9, []), (0.2, [10]), (5, [30]), (40, []), (5, [20]), (10_000, [])):
            await leap(process, sessions, seconds)
            gone += also
            await settled(
                lambda: {one for one, client in clients.items() if client.cuts} == set(gone),  # noqa: B023
                f"not just {gone} have ended",
            )
            await looks(2)
        for seconds in gone:
            assert clients[seconds].heard[-1] == ("bye", Farewell.EXPIRED)
        assert set(clients[None].kinds()) <= {"reset", "beat"}


async def test_a_subjects_sessions_can_be_ended(process: Process, sessions: Sessions) -> None:
    """All of them, with the words for a proof that has run out; nobody else's."""
    clients = [Client(), Client()]
    other = Client()
    async with connected(sessions, BERT, other):
        sessions.end(ANNA)  # who has none
        async with connected(sessions, ANNA, clients[0]), connected(sessions, ANNA, clients[1]):
            await in_step(process, ANNA, *clients)
            sessions.end(ANNA)
            await settled(lambda: all(client.cuts for client in clients), "they go on")
            assert [client.heard[-1] for client in clients] == [("bye", Farewell.EXPIRED)] * 2
        await process.merge("plugins", {"a": 1}, subject=BERT)
        await in_step(process, BERT, other)
        assert not other.cuts


async def test_renewing_leaves_no_trail(process: Process, sessions: Sessions) -> None:
    """However often tokens are renewed, with new times or the same, few expiries are remembered."""
    client = Client()
    async with connected(sessions, ANNA, client, expires_at=at(process, 1_000)) as session:
        for n in range(10_000):
            sessions.expire(session, at(process, 1_000 + n % 2))
            assert len(sessions._expiries) <= 100
        sessions.expire(session, None)
        await leap(process, sessions, 5_000)
        await looks()
        assert not client.cuts
    for _ in range(1_000):
        async with connected(sessions, ANNA, Client(), expires_at=at(process, 1_000)):
            pass
    assert len(sessions._expiries) <= 100


async def test_heartbeats_are_spread_and_reach_everybody(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 480 sessions each gets one heartbeat a round, a forty-eighth of them with each look."""
    sessions = Sessions(process.hub, process.clock, most_per_subject=480)
    ticks = asyncio.Semaphore(0)
    looked = asyncio.Semaphore(0)

    async def pause(_: float) -> None:
        looked.release()
        await ticks.acquire()

    monkeypatch.setattr(sessions_module.anyio, "sleep", pause)
    clients = [Client() for _ in range(480)]
    async with anyio.create_task_group() as tasks, AsyncExitStack() as stack:
        tasks.start_soon(sessions.run)
        for client in clients:
            await stack.enter_async_context(connected(sessions, ANNA, client))
        await looked.acquire()
        told = 0
        for number in range(sessions_module._BEAT):
            ticks.release()
            await looked.acquire()
            for _ in range(5):
                await asyncio.sleep(0)
            beats = sum(client.kinds().count("beat") for client in clients)
            assert beats - told == 10, f"with look {number}"
            told = beats
        assert {client.kinds().count("beat") for client in clients} == {1}
        assert {client.heard[-1] for client in clients} == {("beat", 0)}
        tasks.cancel_scope.cancel()


def test_heartbeats_come_in_time() -> None:
    """No more than 15 s pass between two heartbeats, with some time to spare for a busy process."""
    assert sessions_module._TICK * sessions_module._BEAT <= 13


async def test_there_are_no_more_than_there_may_be(process: Process, sessions: Sessions) -> None:
    """Beyond the caps of a subject and of the process new ones are refused; who leaves makes room."""
    async with AsyncExitStack() as stack:
        for n in range(3):
            await stack.enter_async_context(connected(sessions, ANNA, Client()))
            assert len(sessions) == n + 1
        with pytest.raises(UnavailableError, match="this user"):
            sessions.open(ANNA, Client(), None)
        sessions.check(BERT)
        for n in range(17):
            await stack.enter_async_context(connected(sessions, Subject(f"user {n}"), Client()))
        with pytest.raises(UnavailableError, match="this process"):
            sessions.open(BERT, Client(), None)
        with pytest.raises(UnavailableError, match="this process"):
            sessions.check()
        assert len(sessions) == 20
    sessions.check(ANNA)
    async with connected(sessions, ANNA, Client()):
        assert len(sessions) == 1
    assert process.hub._channels == {}


async def test_draining_says_farewell_to_all_and_refuses_new_ones(
    process: Process, sessions: Sessions
) -> None:
    """Each session that is there is told, the end of the last one can be waited for, and no new one is opened."""
    clients = [Client() for _ in range(5)]
    stuck = Client()

    async def follow(number: int, client: Client) -> None:
        async with connected(sessions, Subject(f"user {number}"), client):
            await settled(lambda: client.cuts > 0, "it did not end")

    async with anyio.create_task_group() as tasks:
        for number, client in enumerate([*clients, stuck]):
            tasks.start_soon(follow, number, client)
        await settled(lambda: all(client.heard for client in [*clients, stuck]), "somebody was not greeted")
        stuck.hold()
        sessions.drain()
        with pytest.raises(UnavailableError, match="shutting down"):
            sessions.open(ANNA, Client(), None)
        await settled(lambda: len(sessions) == 1, "they did not end")
        with anyio.move_on_after(0.01) as too_early:
            await sessions.emptied()
        assert too_early.cancelled_caught
        process.clock.advance(3)
        with anyio.fail_after(PATIENCE):
            await sessions.emptied()
    for client in clients:
        assert client.heard[-1] == ("bye", Farewell.DRAINING)
    assert set(stuck.kinds()) <= {"reset", "beat"}


async def test_one_connection_that_fails_ends_no_others_care(process: Process, sessions: Sessions) -> None:
    """Whatever goes wrong in one session while all are looked after, the others still get what is due."""

    class Stubborn(Client):
        def cut(self) -> None:
            super().cut()
            message = "no"
            raise OSError(message)

    broken, other = Stubborn(), Client()
    async with connected(sessions, ANNA, broken), connected(sessions, ANNA, other):
        await in_step(process, ANNA, broken, other)
        broken.hold()
        revision = (await process.merge("plugins", {"n": 1})).revision
        await settled(lambda: other.revision == revision, "the other was not told")
        process.clock.advance(session_module._PATIENCE + 1)
        await settled(lambda: broken.cuts == 1, "it was not cut")
        heard = other.kinds().count("beat")
        await settled(lambda: other.kinds().count("beat") > heard, "nobody looks after the others")

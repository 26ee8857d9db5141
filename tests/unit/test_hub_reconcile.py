"""What the notifier loses, and what the database could not answer, is made good."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from prefsync import reconciling
from prefsync.adapters.memory import MemoryNotifier, MemoryRepository
from prefsync.document import Subject
from prefsync.errors import UnavailableError
from prefsync.ports import Gap, Lost
from prefsync.sessions import Sessions
from prefsync.testing import FailingRepository, PausingRepository, UnreliableNotifier
from prefsync.testing.samples import settled
from tests.unit.streams import Client, connected, in_step
from tests.unit.support import ANNA, BERT, PATIENCE, Process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prefsync.catchup import Joined
    from prefsync.feed import Page
    from prefsync.ports import PreferenceRepository


class Deployment:
    """A process with sessions on a notifier that loses what a test wants lost."""

    def __init__(self, repository: PreferenceRepository | None = None) -> None:
        self.repository = FailingRepository(repository or MemoryRepository())
        self.memory = MemoryNotifier()
        self.notifier = UnreliableNotifier(self.memory)
        self.process = Process(self.repository, notifier=self.notifier)
        self.hub = self.process.hub
        self.sessions = Sessions(self.hub, self.process.clock)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen for the length of a block, with nothing to catch up with at its beginning."""
        async with self.process.listening():
            await self.caught_up()
            yield

    async def caught_up(self) -> None:
        """Return when the hub has looked at all that it may have missed."""
        await settled(lambda: self.hub._reconciler.has_caught_up, "the hub did not look at what it missed")

    def say(self, what: Lost | Gap) -> None:
        """Let the notifier say something about itself."""
        for stream in self.memory._subscriptions:
            stream.put(what, 0)

    async def lose(self) -> None:
        """Lose the notifier's link."""
        self.say(Lost())
        await settled(lambda: not self.hub.is_listening, "the loss was not noticed")

    async def write_untold(self, subject: Subject = ANNA, **values: int) -> None:
        """Write, and let the announcement be lost."""
        self.notifier.loses = True
        await self.process.merge("plugins", values, subject)
        self.notifier.loses = False


@pytest.fixture
async def deployment() -> AsyncIterator[Deployment]:
    """One that runs."""
    deployment = Deployment()
    async with deployment.running():
        yield deployment


async def test_one_question_covers_all_that_is_followed(deployment: Deployment) -> None:
    """A round asks for the revisions of all subjects at once, and then only about those that differ."""
    subjects = [Subject(f"user {n}") for n in range(100)]
    clients = [Client() for _ in subjects]
    async with AsyncExitStack() as stack:
        for subject, client in zip(subjects, clients, strict=True):
            await deployment.process.merge("plugins", {"a": 1}, subject)
            await stack.enter_async_context(connected(deployment.sessions, subject, client))
        for subject in subjects[:40]:
            await deployment.write_untold(subject, a=2)
        deployment.repository.calls.clear()
        assert await deployment.hub.reconcile() == 40
        assert deployment.repository.calls == {"revisions": 1, "changes": 40}
        for subject, client in zip(subjects, clients, strict=True):
            await in_step(deployment.process, subject, client)
        deployment.repository.calls.clear()
        assert await deployment.hub.reconcile() == 0
        assert deployment.repository.calls == {"revisions": 1}


@pytest.mark.parametrize("is_deaf", [False, True], ids=["while listening", "while deaf"])
async def test_rounds_come_by_themselves(monkeypatch: pytest.MonkeyPatch, *, is_deaf: bool) -> None:
    """A silent loss is found by the round that comes now and then, in the rhythm of the notifier's state."""
    rhythm = {"_PAUSE": 3_600, "_PAUSE_DEAF": 3_600}
    rhythm["_PAUSE_DEAF" if is_deaf else "_PAUSE"] = 0
    for name, seconds in rhythm.items():
        monkeypatch.setattr(reconciling, name, float(seconds))
    monkeypatch.setattr(reconciling, "_APART", 0.01)
    deployment = Deployment()
    async with deployment.running():
        client = Client()
        async with connected(deployment.sessions, ANNA, client):
            if is_deaf:
                await deployment.lose()
            for n in range(3):
                await deployment.write_untold(a=n)
                await in_step(deployment.process, ANNA, client)


def test_rounds_keep_what_the_protocol_promises() -> None:
    """What was lost is found within 30 s, and within about two while the notifier is away."""
    assert reconciling._PAUSE + reconciling._APART + 1 <= 30
    assert reconciling._PAUSE_DEAF <= 2
    assert reconciling._PAUSE_FAILED <= 2


@pytest.mark.parametrize("how", ["gap", "lost", "lost and found"])
async def test_a_gap_is_filled_at_once(deployment: Deployment, how: str) -> None:
    """As soon as the notifier says that something may be missing, the database is asked."""
    one, other = Client(), Client()
    async with (
        connected(deployment.sessions, ANNA, one),
        connected(deployment.sessions, BERT, other),
    ):
        for subject in (ANNA, BERT):
            await deployment.write_untold(subject, a=1)
        if how != "gap":
            deployment.say(Lost())
        if how != "lost":
            deployment.say(Gap())
        await in_step(deployment.process, ANNA, one)
        await in_step(deployment.process, BERT, other)


async def test_what_was_lost_while_a_question_was_under_way_is_found() -> None:
    """A round does not take the answer of a question that left before it for its own."""
    repository = PausingRepository(MemoryRepository())
    deployment = Deployment(repository)
    async with deployment.running():
        client = Client()
        async with connected(deployment.sessions, ANNA, client):
            hold = repository.hold("changes", after=True)
            question = deployment.hub._begin_to_ask(deployment.hub._channels[ANNA.key])
            await hold.reached()
            await deployment.write_untold(a=1)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(deployment.hub.reconcile)
                await in_step(deployment.process, ANNA, client)
                hold.release()
                with anyio.fail_after(PATIENCE):
                    await question.answered.wait()
            await in_step(deployment.process, ANNA, client)


async def test_who_joins_across_a_gap_is_not_left_behind() -> None:
    """What a gap swallowed while a first answer was on its way is asked for again before anybody is placed."""
    repository = PausingRepository(MemoryRepository())
    deployment = Deployment(repository)
    async with deployment.running():
        client = Client()
        hold = repository.hold("load", after=True)
        async with anyio.create_task_group() as tasks:

            async def follow() -> None:
                async with connected(deployment.sessions, ANNA, client):
                    await in_step(deployment.process, ANNA, client)

            tasks.start_soon(follow)
            await hold.reached()
            await deployment.write_untold(a=1)
            deployment.say(Gap())
            await settled(lambda: not deployment.hub._reconciler.has_caught_up, "the gap was not noticed")
            await deployment.caught_up()
            hold.release()


async def test_a_database_that_comes_back_is_asked_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes that could not be read while the database was away reach the sessions when it is back."""
    monkeypatch.setattr(reconciling, "_PAUSE_FAILED", 0.01)
    client = Client()
    async with connected(deployment.sessions, ANNA, client) as session:
        await deployment.write_untold(a=1)
        deployment.repository.fail("changes", times=3)
        await deployment.process.merge("plugins", {"b": 1})  # its predecessor is missing
        await in_step(deployment.process, ANNA, client)
        await settled(lambda: session.revision is not None, "the session is not sure of itself again")


async def test_a_session_that_could_not_be_told_is_told_later(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow session whose way is forgotten, and has to be read while the database is away, gets it afterwards."""
    monkeypatch.setattr(reconciling, "_PAUSE_FAILED", 0.01)
    client = Client()
    async with connected(deployment.sessions, ANNA, client) as session:
        await in_step(deployment.process, ANNA, client)
        client.hold()
        for n in range(40):
            await deployment.process.merge("plugins", {"n": n, f"n{n}": n})
        await settled(lambda: deployment.hub._channels[ANNA.key].since(0) is None, "it is all remembered")
        deployment.repository.fail("changes", times=2)
        client.release()
        await settled(lambda: deployment.repository.calls["changes"] >= 2, "the log was not asked")
        await in_step(deployment.process, ANNA, client)
        assert session.revision == client.revision


async def test_a_subject_that_cannot_be_read_holds_up_nobody(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error about one subject, expected or not, ends neither the listener nor the rounds, and the others are told."""
    monkeypatch.setattr(reconciling, "_PAUSE_FAILED", 0.01)
    one, other = Client(), Client()
    broken = BERT.key

    async def page(subject: Subject, *arguments: object, **how: object) -> object:
        if subject.key == broken:
            message = "a row that cannot be read"
            raise ValueError(message)
        return await read(subject, *arguments, **how)  # type: ignore[arg-type]

    async with (
        connected(deployment.sessions, BERT, other) as stuck,
        connected(deployment.sessions, ANNA, one) as session,
    ):
        read = deployment.process.feed.page
        monkeypatch.setattr(deployment.process.feed, "page", page)
        await deployment.write_untold(BERT, a=1)
        await deployment.write_untold(ANNA, a=1)
        with pytest.raises(UnavailableError):
            await deployment.hub.reconcile()
        await in_step(deployment.process, ANNA, one)
        await settled(lambda: session.revision == one.revision, "one subject's trouble is everybody's")
        assert stuck.revision is None, "it is behind, and that is known"
        await deployment.process.merge("plugins", {"a": 2})
        await in_step(deployment.process, ANNA, one)
        broken = ""
        await in_step(deployment.process, BERT, other)
    assert any("could not be read" in record.message for record in caplog.records)


async def test_failures_do_not_spin(deployment: Deployment) -> None:
    """However fast questions fail, rounds keep their distance."""
    client = Client()
    async with connected(deployment.sessions, ANNA, client):
        await deployment.write_untold(a=1)
        deployment.repository.fail("changes", times=1_000_000)
        await deployment.process.merge("plugins", {"b": 1})
        await settled(lambda: deployment.repository.calls["changes"] >= 1, "the log was not asked")
        deployment.repository.calls.clear()
        await asyncio.sleep(0.4)
        assert deployment.repository.calls["revisions"] <= 2
        assert deployment.repository.calls["changes"] <= 3


async def test_sureness(deployment: Deployment) -> None:
    """The hub is sure of what it would have heard of, and of what it asked about seconds ago; of nothing else."""
    hub, clock = deployment.hub, deployment.process.clock
    client = Client()
    async with connected(deployment.sessions, ANNA, client) as session:
        await in_step(deployment.process, ANNA, client)
        channel = hub._channels[ANNA.key]
        assert hub.is_sure_of(channel)
        clock.advance(3_600)
        assert hub.is_sure_of(channel), "while it listens, time alone makes nothing doubtful"
        deployment.repository.is_down = True
        deployment.say(Gap())
        await settled(lambda: not hub._reconciler.has_caught_up, "the gap was not noticed")
        assert not hub.is_sure_of(channel)
        assert session.revision is None
        await deployment.lose()
        assert not hub.is_sure_of(channel)
        deployment.repository.is_down = False
        deployment.process.clock.advance(10)
        deployment.hub._reconciler._guard.breaker.succeeded()
        await hub.reconcile()
        assert hub.is_sure_of(channel), "asked a moment ago"
        clock.advance(2 * reconciling._PAUSE_DEAF)
        assert not hub.is_sure_of(channel), "asked too long ago, and nothing is heard"
        channel.doubt()
        deployment.say(Gap())
        await settled(lambda: hub.is_listening, "the gap was not noticed")
        await deployment.caught_up()
        await settled(lambda: hub.is_sure_of(channel), "the doubt was not resolved")


async def test_a_loss_during_a_round_is_not_covered_by_it() -> None:
    """A round that began before a gap does not count as having looked at what the gap swallowed."""
    repository = PausingRepository(MemoryRepository())
    deployment = Deployment(repository)
    async with deployment.running():
        client = Client()
        async with connected(deployment.sessions, ANNA, client):
            await in_step(deployment.process, ANNA, client)
            first, second = (repository.hold("revisions", after=True) for _ in range(2))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(deployment.hub.reconcile)
                await first.reached()
                await deployment.write_untold(a=1)
                deployment.say(Lost())
                deployment.say(Gap())
                await second.reached()
                first.release()
            assert not deployment.hub._reconciler.has_caught_up
            second.release()
            await in_step(deployment.process, ANNA, client)


async def test_a_cancelled_listener_is_begun_again(deployment: Deployment) -> None:
    """The hub can be stopped and run again, and what was written in between is found."""
    client = Client()
    process = Process(MemoryRepository())
    sessions = Sessions(process.hub, process.clock)
    async with AsyncExitStack() as stack:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(process.hub.run)
            await settled(lambda: process.hub._reconciler.has_caught_up, "it does not listen")
            await stack.enter_async_context(connected(sessions, ANNA, client))
            tasks.cancel_scope.cancel()
        assert not process.hub.is_listening
        await process.merge("plugins", {"a": 1})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(process.hub.run)
            await in_step(process, ANNA, client)
            tasks.cancel_scope.cancel()
    assert deployment.hub._channels == {}


async def test_a_listener_that_raises_when_it_is_woken_keeps_nobody_waiting(deployment: Deployment) -> None:
    """Whatever one who follows does when woken, the others are woken, and the hub goes on."""

    class Broken:
        def wake(self) -> None:
            message = "broken"
            raise ValueError(message)

    client, broken = Client(), Broken()
    joined = await deployment.hub.join(ANNA, broken)
    async with connected(deployment.sessions, ANNA, client):
        for n in range(3):
            await deployment.process.merge("plugins", {"a": n})
            await in_step(deployment.process, ANNA, client)
    deployment.hub.leave(joined.channel, broken)


async def test_a_long_poll_waits_through_an_outage(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that is away in the middle of a wait ends no long poll: it gets its changes when it is back."""
    monkeypatch.setattr(reconciling, "_PAUSE_FAILED", 0.01)
    first = await deployment.process.merge("plugins", {"n": 0})
    resume, failures = deployment.hub.resume, 0

    async def failing(*position: Any) -> Joined:
        nonlocal failures
        failures += 1
        if failures <= 2:
            deployment.hub._reconciler.failed()
            part = "database"
            raise UnavailableError(part)
        return await resume(*position)

    monkeypatch.setattr(deployment.hub, "resume", failing)
    pages: list[Page] = []
    async with anyio.create_task_group() as tasks:

        async def poll() -> None:
            pages.append(await deployment.process.polls.page(ANNA, first.revision, wait=60))

        tasks.start_soon(poll)
        await deployment.process.followed(ANNA)
        await settled(lambda: deployment.hub._channels[ANNA.key].is_known, "the poll does not wait")
        second = await deployment.process.merge("plugins", {"n": 1})
    assert [change.change.revision for change in pages[0].changes] == [second.revision]
    assert failures == 3

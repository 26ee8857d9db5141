"""The contract of :class:`prefsync.ports.ChangeNotifier`."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import pytest

from prefsync.document import Change
from prefsync.errors import UnavailableError
from prefsync.ports import Announcement, Gap, Lost
from prefsync.testing.samples import (
    EXACT_VALUES,
    HOSTILE_SUBJECTS,
    NOW,
    PATIENCE,
    a_little,
    fresh_subject,
    other_tasks,
    settled,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prefsync.document import Subject
    from prefsync.ports import ChangeNotifier
    from prefsync.testing.outage import Outage

__all__ = ["NotifierContract", "NotifierOutageContract"]


def announcement(subject: Subject, number: int = 0) -> Announcement:
    """Return an announcement that no other is like."""
    revision = NOW + number
    change = Change(revision, revision - 1, NOW, "tab-1", {"plugins": {"n": number}}, {"editor": ["rulers"]})
    return Announcement(subject, change, revision)


def shown(one: Announcement) -> object:
    """Return what of an announcement travels: a change without what it replaced."""
    return one.subject, one.change.to_json() if one.change else None, one.version


async def _publish(notifier: ChangeNotifier, one: Announcement) -> None:
    await notifier.publish(one)


class Listener:
    """Collects what a subscription receives."""

    def __init__(self, announcements: AsyncIterator[Announcement | Lost | Gap]) -> None:
        self._announcements = announcements
        self.gaps = 0

    async def take(self, count: int) -> list[Announcement]:
        """Return the next announcements, gaps left out; ``TimeoutError`` where they do not come."""
        taken: list[Announcement] = []
        with anyio.fail_after(PATIENCE):
            while len(taken) < count:
                one = await anext(self._announcements)
                if isinstance(one, Gap):
                    self.gaps += 1
                elif not isinstance(one, Lost):
                    taken.append(one)
        return taken


@asynccontextmanager
async def listening(notifier: ChangeNotifier) -> AsyncIterator[Listener]:
    """Subscribe."""
    async with notifier.subscribe() as announcements:
        yield Listener(announcements)


class _NotifierFixtures:
    # Whether no task may be left; not where the outage has tasks of its own.
    watches_tasks: ClassVar[bool] = True

    async def open_subscriptions(self, notifier: Any) -> int:
        """Return how many subscriptions are open, or connections held for them."""
        del notifier
        return 0

    @pytest.fixture
    def subject(self) -> Subject:
        """A subject that nobody has announced before."""
        return fresh_subject()

    @pytest.fixture(autouse=True)
    async def _nothing_is_left(self, notifier: ChangeNotifier) -> AsyncIterator[None]:
        tasks = other_tasks()
        before = await self.open_subscriptions(notifier)
        yield
        with anyio.fail_after(PATIENCE):
            while await self.open_subscriptions(notifier) > before:
                await anyio.sleep(0.01)
        if self.watches_tasks:
            await settled(lambda: other_tasks() <= tasks, f"still running: {other_tasks() - tasks}")


@pytest.mark.anyio
class NotifierContract(_NotifierFixtures):
    """What every notifier promises while nothing fails. Subclass it, name the class ``Test...`` and give the fixtures.

    Fixtures of the subclass:
        notifier: The adapter, open.
        twin: Another open instance on the same channel, as another process has it, where there can be one; else leave
            it out.
    """

    @pytest.fixture
    def twin(self, notifier: ChangeNotifier) -> ChangeNotifier:
        """Another open instance on the same channel; override it where there can be one."""
        return notifier

    async def test_what_is_published_reaches_every_subscription(
        self, notifier: ChangeNotifier, twin: ChangeNotifier, subject: Subject
    ) -> None:
        """All subscriptions of all processes get an announcement, the publisher's own included, once each."""
        async with AsyncExitStack() as stack:
            listeners = [
                await stack.enter_async_context(listening(one)) for one in (notifier, twin, notifier, twin)
            ]
            sent = [announcement(subject, number) for number in range(3)]
            await notifier.publish(sent[0])
            await twin.publish(sent[1])
            await notifier.publish(sent[2])
            for listener in listeners:
                received = await listener.take(3)
                assert sorted(map(_revision, received)) == [one.version for one in sent]

    async def test_announcements_come_back_exactly(
        self, notifier: ChangeNotifier, twin: ChangeNotifier
    ) -> None:
        """Subject, change and version arrive as they were sent, whatever ids and values they hold."""
        change = Change(NOW, 0, NOW - 1, None, {"plugins": EXACT_VALUES}, {"plugins": ["", "é", "a/b~"]})
        sent = [Announcement(subject, change, NOW + 5) for subject in HOSTILE_SUBJECTS]
        async with listening(twin) as listener:
            for one in sent:
                await notifier.publish(one)
            received = await listener.take(len(sent))
        assert [shown(one) for one in received] == [shown(one) for one in sent]

    async def test_an_erase_is_announced_without_a_change(
        self, notifier: ChangeNotifier, twin: ChangeNotifier, subject: Subject
    ) -> None:
        """An erase arrives as such, with its version."""
        erase = Announcement(subject, None, NOW)
        async with listening(twin) as listener:
            await notifier.publish(erase)
            assert await listener.take(1) == [erase]

    async def test_one_publisher_is_heard_in_order(
        self, notifier: ChangeNotifier, twin: ChangeNotifier, subject: Subject
    ) -> None:
        """What one publisher sends one after another arrives in that order, without gaps or repetitions."""
        async with listening(twin) as listener:
            for number in range(200):
                await notifier.publish(announcement(subject, number))
            received = await listener.take(200)
            assert [one.version for one in received] == [NOW + number for number in range(200)]
            assert listener.gaps == 0

    async def test_a_subscription_begins_when_it_is_entered(
        self, notifier: ChangeNotifier, twin: ChangeNotifier, subject: Subject
    ) -> None:
        """Nothing from before arrives, and everything from then on, though nobody reads yet."""
        await notifier.publish(announcement(subject, 1))
        async with listening(twin) as listener:
            await notifier.publish(announcement(subject, 2))
            await notifier.publish(announcement(subject, 3))
            assert [one.version for one in await listener.take(2)] == [NOW + 2, NOW + 3]

    async def test_a_subscription_that_is_left_gets_nothing_more(
        self, notifier: ChangeNotifier, twin: ChangeNotifier, subject: Subject
    ) -> None:
        """Leaving a subscription ends it, and no other; a new one begins anew."""
        async with listening(twin) as stays:
            async with listening(twin) as leaves:
                await notifier.publish(announcement(subject, 1))
                await leaves.take(1)
            await notifier.publish(announcement(subject, 2))
            async with listening(twin) as comes:
                await notifier.publish(announcement(subject, 3))
                assert [one.version for one in await comes.take(1)] == [NOW + 3]
            assert [one.version for one in await stays.take(3)] == [NOW + 1, NOW + 2, NOW + 3]

    async def test_only_what_is_wanted_has_to_arrive(
        self, notifier: ChangeNotifier, twin: ChangeNotifier, subject: Subject
    ) -> None:
        """Of the subjects that a subscription wants it misses nothing, also where what it wants changes; others may come."""
        wanted = {subject.key}
        async with twin.subscribe(lambda key: key in wanted) as announcements:
            listener = Listener(announcements)
            others = [fresh_subject() for _ in range(3)]
            for number, other in enumerate(others):
                await notifier.publish(announcement(other, number))
                await notifier.publish(announcement(subject, 10 + number))
            mine: list[Announcement] = []
            while len(mine) < 3:
                mine += [one for one in await listener.take(1) if one.subject == subject]
            assert [one.version for one in mine] == [NOW + 10, NOW + 11, NOW + 12]
            wanted.add(others[0].key)
            await notifier.publish(announcement(others[0], 20))
            while (await listener.take(1))[0] != announcement(others[0], 20):
                pass

    async def test_publishing_to_nobody_is_fine(self, notifier: ChangeNotifier, subject: Subject) -> None:
        """Where nobody listens, an announcement is sent all the same."""
        for number in range(3):
            await notifier.publish(announcement(subject, number))

    async def test_a_large_change_arrives(
        self, notifier: ChangeNotifier, twin: ChangeNotifier, subject: Subject
    ) -> None:
        """A change as large as a document may be arrives whole."""
        values = {"plugins": {f"name {number}": "x" * 10_000 for number in range(13)}}
        sent = Announcement(subject, Change(NOW, 0, NOW, None, values), NOW)
        async with listening(twin) as listener:
            await notifier.publish(sent)
            assert [shown(one) for one in await listener.take(1)] == [shown(sent)]

    async def test_concurrent_publishers_are_all_heard(
        self, notifier: ChangeNotifier, twin: ChangeNotifier, subject: Subject
    ) -> None:
        """Announcements that are published at once, through two instances, all arrive, once each."""
        async with listening(notifier) as listener:
            async with anyio.create_task_group() as tasks:
                for number in range(60):
                    through = twin if number % 2 else notifier
                    tasks.start_soon(_publish, through, announcement(subject, number))
            received = await listener.take(60)
            assert sorted(map(_revision, received)) == [NOW + number for number in range(60)]

    async def test_waiting_can_be_cancelled(self, notifier: ChangeNotifier, subject: Subject) -> None:
        """A listener that is cancelled while it waits leaves its subscription, and others go on."""

        async def listen() -> None:
            async with listening(notifier) as listener:
                await listener.take(1_000)

        async with listening(notifier) as stays:
            for steps in range(24):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(listen)
                    await a_little(steps)
                    tasks.cancel_scope.cancel()
            await notifier.publish(announcement(subject))
            assert len(await stays.take(1)) == 1

    async def test_it_can_be_closed_and_opened_again(
        self, notifier: ChangeNotifier, subject: Subject
    ) -> None:
        """A notifier that was closed works when it is opened again."""
        await notifier.__aexit__(None, None, None)
        await notifier.__aenter__()
        async with listening(notifier) as listener:
            await notifier.publish(announcement(subject))
            assert len(await listener.take(1)) == 1


@pytest.mark.anyio
class NotifierOutageContract(_NotifierFixtures):
    """What a notifier promises while its server is out of reach; for adapters that have one.

    Fixtures of the subclass:
        notifier: The adapter, open.
        outage: Takes the server away and brings it back, see :class:`prefsync.testing.Outage`.
    """

    watches_tasks = False

    async def test_publishing_says_so_in_time(
        self, notifier: ChangeNotifier, outage: Outage, subject: Subject
    ) -> None:
        """What cannot be sent raises ``UnavailableError`` within a bounded time."""
        await notifier.publish(announcement(subject))
        await outage.begin()
        try:
            for _ in range(5):
                with anyio.fail_after(2), pytest.raises(UnavailableError):
                    await notifier.publish(announcement(subject))
        finally:
            await outage.end()
        await self._publish_again(notifier, announcement(subject))

    async def test_a_subscription_outlives_outages(
        self, notifier: ChangeNotifier, outage: Outage, subject: Subject
    ) -> None:
        """After each outage the same subscription says that there was a gap, and then goes on."""
        async with notifier.subscribe() as announcements:
            for number in range(2):
                await self._publish_again(notifier, announcement(subject, 2 * number))
                assert (await Listener(announcements).take(1))[0].version == NOW + 2 * number
                waiting = Waiting(announcements)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(waiting.for_the_next)
                    await outage.begin()
                    await outage.end()
                assert waiting.got == Gap()
                await self._publish_again(notifier, announcement(subject, 2 * number + 1))
                assert (await Listener(announcements).take(1))[0].version == NOW + 2 * number + 1

    async def test_a_subscription_can_begin_in_an_outage(
        self, notifier: ChangeNotifier, outage: Outage, subject: Subject
    ) -> None:
        """Who subscribes while the server is away is told of a gap when it is back, and then goes on."""
        await outage.begin()
        try:
            async with notifier.subscribe() as announcements:
                await outage.end()
                with anyio.fail_after(PATIENCE):
                    assert await anext(announcements) == Gap()
                await self._publish_again(notifier, announcement(subject))
                assert len(await Listener(announcements).take(1)) == 1
        finally:
            await outage.end()

    async def _publish_again(self, notifier: ChangeNotifier, one: Announcement) -> None:
        with anyio.fail_after(PATIENCE):
            while True:
                try:
                    await notifier.publish(one)
                except UnavailableError:
                    await anyio.sleep(0.02)
                else:
                    return


class Waiting:
    """Waits for one thing of a subscription."""

    def __init__(self, announcements: AsyncIterator[Announcement | Lost | Gap]) -> None:
        self._announcements = announcements
        self.got: Announcement | Lost | Gap | None = None

    async def for_the_next(self) -> None:
        """Wait for it."""
        with anyio.fail_after(PATIENCE):
            self.got = await anext(self._announcements)


def _revision(one: Announcement) -> int:
    return one.version

"""The contract of :class:`prefsync.ports.ChangeNotifier`."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import pytest

from prefsync.document import Change
from prefsync.errors import UnavailableError
from prefsync.ports import Announcement, Gap, Lost
from prefsync.strictjson import encode
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

__all__ = ["NotifierContract", "NotifierOutageContract", "UnreliableNotifierContract"]


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

    async def next(self) -> Announcement | Lost | Gap:
        """Return the next thing, whatever it is; ``TimeoutError`` where none comes."""
        with anyio.fail_after(PATIENCE):
            return await anext(self._announcements)

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

    async def until(self, last: Announcement) -> list[Announcement | Lost | Gap]:
        """Return all that comes up to an announcement, that one included."""
        taken: list[Announcement | Lost | Gap] = []
        with anyio.fail_after(2 * PATIENCE):
            while not taken or taken[-1] != last:
                taken.append(await anext(self._announcements))
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
class UnreliableNotifierContract(_NotifierFixtures):
    """What every notifier promises though it may lose, repeat and reorder; the fixtures are ``NotifierContract``'s."""

    @pytest.fixture
    def twin(self, notifier: ChangeNotifier) -> ChangeNotifier:
        """Another open instance on the same channel; override it where there can be one."""
        return notifier

    async def test_publishing_to_nobody_is_fine(self, notifier: ChangeNotifier, subject: Subject) -> None:
        """Where nobody listens, an announcement is sent all the same."""
        for number in range(3):
            await notifier.publish(announcement(subject, number))

    async def test_nothing_arrives_that_was_not_sent(
        self, notifier: ChangeNotifier, twin: ChangeNotifier, subject: Subject
    ) -> None:
        """Whatever happens on the way, what arrives is to the letter one of those that were sent."""
        sent = [announcement(subject, number) for number in range(100)]
        async with listening(twin) as listener:
            for one in sent:
                await notifier.publish(one)
            await self._hear(notifier, listener, announcement(subject, 1_000))
            shown_ones = {repr(shown(one)) for one in [*sent, announcement(subject, 1_000)]}
            assert {repr(shown(one)) for one in self.heard} <= shown_ones

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
            await self._hear(notifier, stays, announcement(subject))

    async def test_it_can_be_closed_and_opened_again(
        self, notifier: ChangeNotifier, subject: Subject
    ) -> None:
        """A notifier that was closed works when it is opened again."""
        await notifier.__aexit__(None, None, None)
        await notifier.__aenter__()
        async with listening(notifier) as listener:
            await self._hear(notifier, listener, announcement(subject))

    async def _hear(self, notifier: ChangeNotifier, listener: Listener, one: Announcement) -> None:
        """Publish an announcement until it arrives, and note all that does."""
        self.heard: list[Announcement] = []

        async def publish() -> None:
            while True:
                await notifier.publish(one)
                await anyio.sleep(0.01)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publish)
            while one not in self.heard:
                self.heard += await listener.take(1)
            tasks.cancel_scope.cancel()


@pytest.mark.anyio
class NotifierContract(UnreliableNotifierContract):
    """What every notifier promises while nothing fails. Subclass it, name the class ``Test...`` and give the fixtures.

    Attributes:
        burst: So many announcements, of 2,000 bytes each, that no subscription keeps them all.
        whole_up_to: Bytes of a change's JSON beyond which only the fact may be told; ``None`` where all travel whole.

    Fixtures of the subclass:
        notifier: The adapter, open.
        twin: Another open instance on the same channel, as another process has it, where there can be one; else leave
            it out.
    """

    burst: ClassVar[int] = 12_000
    whole_up_to: ClassVar[int | None] = None

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
        self, notifier: ChangeNotifier, twin: ChangeNotifier, subject: Subject
    ) -> None:
        """Subject, change and version arrive as they were sent, whatever ids and values they hold."""
        change = Change(NOW, 0, NOW - 1, None, {"plugins": {}}, {"plugins": ["", "\u00e9", "a/b~"]})
        sent = [
            Announcement(hostile, change, NOW + 500 + number)
            for number, hostile in enumerate(HOSTILE_SUBJECTS)
        ]
        for number, (name, value) in enumerate(EXACT_VALUES.items()):
            change = Change(NOW + number, 0, NOW - 1, "tab", {"plugins": {name: value}})
            sent.append(Announcement(subject, change, NOW + number))
        async with listening(twin) as listener:
            for one in sent:
                await notifier.publish(one)
            received = await listener.take(len(sent))
        for one, got in zip(sorted(sent, key=_revision), sorted(received, key=_revision), strict=True):
            self._check(one, got)

    def _check(self, sent: Announcement, got: Announcement) -> None:
        if got.change is None and sent.change is not None and self.whole_up_to is not None:
            assert len(encode(sent.change.to_json())) > self.whole_up_to
            sent = Announcement(sent.subject, None, sent.version)
        assert shown(got) == shown(sent)

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

    async def test_a_large_change_arrives(
        self, notifier: ChangeNotifier, twin: ChangeNotifier, subject: Subject
    ) -> None:
        """A change as large as a document may be arrives whole, or as a hint where the notifier says so."""
        values = {"plugins": {f"name {number}": "x" * 10_000 for number in range(13)}}
        sent = Announcement(subject, Change(NOW, 0, NOW, None, values), NOW)
        async with listening(twin) as listener:
            await notifier.publish(sent)
            (got,) = await listener.take(1)
            self._check(sent, got)

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

    async def test_each_publisher_is_heard_in_its_order(
        self, notifier: ChangeNotifier, twin: ChangeNotifier, subject: Subject
    ) -> None:
        """However publishers run into one another, what each one sends arrives in its order, and nothing is missing."""

        async def publish(through: ChangeNotifier, first: int) -> None:
            for number in range(first, first + 100):
                await through.publish(announcement(subject, number))

        async with listening(notifier) as one, listening(twin) as other:
            async with anyio.create_task_group() as tasks:
                for number in range(4):
                    tasks.start_soon(publish, twin if number % 2 else notifier, 1_000 * number)
            for listener in (one, other):
                received = [announced.version - NOW for announced in await listener.take(400)]
                for number in range(4):
                    mine = [version for version in received if version // 1_000 == number]
                    assert mine == list(range(1_000 * number, 1_000 * number + 100))
                assert listener.gaps == 0

    async def test_who_does_not_read_blocks_nobody_and_is_told_what_it_missed(
        self, notifier: ChangeNotifier, twin: ChangeNotifier, subject: Subject
    ) -> None:
        """Beside a subscription that is not read others get all; it keeps a part, with a gap in place of the rest."""
        sent = [
            Announcement(
                subject, Change(NOW + number, 0, NOW, None, {"plugins": {"x": "x" * 2_000}}), NOW + number
            )
            for number in range(self.burst)
        ]
        async with listening(twin) as idle, listening(twin) as busy:
            for start in range(0, self.burst, 100):
                for one in sent[start : start + 100]:
                    await notifier.publish(one)
                received = await busy.take(100)
                assert list(map(_revision, received)) == [
                    NOW + number for number in range(start, start + 100)
                ]
            assert busy.gaps == 0
            late = await idle.until(sent[-1])
        newest, is_gap, missing = NOW - 1, False, 0
        for got in late:
            if isinstance(got, Announcement):
                assert got.version == newest + 1 or (is_gap and got.version > newest)
                missing += got.version - newest - 1
                newest = got.version
            is_gap = isinstance(got, Gap)
        assert missing > 0, "all of it was kept: there seems to be no bound"


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
        """Of each outage the same subscription is told once at its begin and once after its end, and then goes on."""
        async with listening(notifier) as listener:
            for number in range(2):
                await self._publish_again(notifier, announcement(subject, 2 * number))
                await listener.until(announcement(subject, 2 * number))
                await outage.begin()
                try:
                    assert await listener.next() == Lost()
                    await anyio.sleep(0.5)  # for attempts to fail in: the longer outage is still one
                finally:
                    await outage.end()
                assert await listener.next() == Gap()
                await self._publish_again(notifier, announcement(subject, 2 * number + 1))
                then = await listener.until(announcement(subject, 2 * number + 1))
                assert not {Lost(), Gap()} & set(map(_kind, then))

    async def test_a_subscription_can_begin_in_an_outage(
        self, notifier: ChangeNotifier, outage: Outage, subject: Subject
    ) -> None:
        """Who subscribes while the server is away is let in, told so first, told when it is back, and then goes on."""
        await outage.begin()
        try:
            with anyio.fail_after(PATIENCE):
                subscription = notifier.subscribe()
                announcements = await subscription.__aenter__()
            try:
                listener = Listener(announcements)
                assert await listener.next() == Lost()
                await outage.end()
                assert await listener.next() == Gap()
                await self._publish_again(notifier, announcement(subject))
                await listener.until(announcement(subject))
            finally:
                await subscription.__aexit__(None, None, None)
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


def _revision(one: Announcement) -> int:
    return one.version


def _kind(one: Announcement | Lost | Gap) -> Lost | Gap | None:
    return None if isinstance(one, Announcement) else one

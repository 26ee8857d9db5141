"""What a notifier promises while its server is there."""

from __future__ import annotations

import math
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import anyio
import pytest

from prefsync.document import Change
from prefsync.ports import Alive, Announcement, Gap
from prefsync.strictjson import encode
from prefsync.testing._notifier.base import (
    Listener,
    NotifierFixtures,
    announcement,
    listening,
    publish_one,
    shown,
)
from prefsync.testing.samples import EXACT_VALUES, HOSTILE_SUBJECTS, NOW, PATIENCE, a_little, fresh_subject

if TYPE_CHECKING:
    from prefsync.document import Subject
    from prefsync.ports import ChangeNotifier

__all__ = ["NotifierContract", "UnreliableNotifierContract"]


@pytest.mark.anyio
class UnreliableNotifierContract(NotifierFixtures):
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

    async def test_a_trace_travels(
        self, notifier: ChangeNotifier, twin: ChangeNotifier, subject: Subject
    ) -> None:
        """What names the writer's trace arrives with the change; a change without one arrives without."""
        traced = replace(announcement(subject, 0), trace=f"00-{'a' * 32}-{'b' * 16}-01")
        async with listening(twin) as listener:
            for one in (traced, announcement(subject, 1)):
                await notifier.publish(one)
            received = await listener.take(2)
        assert [one.trace for one in sorted(received, key=_revision)] == [traced.trace, None]

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

    async def test_an_erase_arrives_at_everybody(
        self, notifier: ChangeNotifier, twin: ChangeNotifier, subject: Subject
    ) -> None:
        """Whether a subject is wanted or not: every process may have something of it in memory."""
        sent = Announcement(subject, None, NOW, erased=True)
        async with twin.subscribe(lambda _: False) as announcements:
            listener = Listener(announcements)
            await notifier.publish(sent)
            while (await listener.take(1))[0] != sent:
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

    async def test_a_pulse_comes_after_what_was_published_before_it(
        self, notifier: ChangeNotifier, twin: ChangeNotifier, subject: Subject
    ) -> None:
        """Who asks for a pulse is told again and again up to when all has arrived; who does not ask never is."""
        async with twin.subscribe(pulse=True) as announcements, listening(twin) as plain:
            await notifier.publish(announcement(subject))
            at, heard, alive = time.monotonic(), 0, 0.0
            with anyio.fail_after(PATIENCE):
                while alive < at or (alive == math.inf and not heard):
                    one = await anext(announcements)
                    alive = max(alive, one.at) if isinstance(one, Alive) else alive
                    heard += isinstance(one, Announcement)
            assert heard == 1
            assert await plain.next() == announcement(subject)
            await notifier.publish(announcement(subject, 1))
            assert await plain.next() == announcement(subject, 1)

    async def test_concurrent_publishers_are_all_heard(
        self, notifier: ChangeNotifier, twin: ChangeNotifier, subject: Subject
    ) -> None:
        """Announcements that are published at once, through two instances, all arrive, once each."""
        async with listening(notifier) as listener:
            async with anyio.create_task_group() as tasks:
                for number in range(60):
                    through = twin if number % 2 else notifier
                    tasks.start_soon(publish_one, through, announcement(subject, number))
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


def _revision(one: Announcement) -> int:
    return one.version

"""What a notifier promises while its server is out of reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from prefsync.errors import UnavailableError
from prefsync.ports import Announcement, Gap, Lost
from prefsync.testing._notifier.base import Listener, NotifierFixtures, announcement, listening
from prefsync.testing.samples import PATIENCE

if TYPE_CHECKING:
    from prefsync.document import Subject
    from prefsync.ports import Alive, ChangeNotifier
    from prefsync.testing.outage import Outage

__all__ = ["NotifierOutageContract"]


@pytest.mark.anyio
class NotifierOutageContract(NotifierFixtures):
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


def _kind(one: Announcement | Lost | Gap | Alive) -> Lost | Gap | Alive | None:
    return None if isinstance(one, Announcement) else one

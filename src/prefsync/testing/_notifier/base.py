"""What the notifiers' contracts share."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import pytest

from prefsync.document import Change
from prefsync.ports import Alive, Announcement, Gap, Lost
from prefsync.testing.samples import NOW, PATIENCE, fresh_subject, other_tasks, settled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prefsync.document import Subject
    from prefsync.ports import ChangeNotifier

__all__ = ["Listener", "NotifierFixtures", "announcement", "listening", "publish_one", "shown"]


def announcement(subject: Subject, number: int = 0) -> Announcement:
    """Return an announcement that no other is like."""
    revision = NOW + number
    change = Change(revision, revision - 1, NOW, "tab-1", {"plugins": {"n": number}}, {"editor": ["rulers"]})
    return Announcement(subject, change, revision)


def shown(one: Announcement) -> object:
    """Return what of an announcement travels: a change without what it replaced."""
    return one.subject, one.change.to_json() if one.change else None, one.version


async def publish_one(notifier: ChangeNotifier, one: Announcement) -> None:
    """Publish, as a task."""
    await notifier.publish(one)


class Listener:
    """Collects what a subscription receives."""

    def __init__(self, announcements: AsyncIterator[Announcement | Lost | Gap | Alive]) -> None:
        self._announcements = announcements
        self.gaps = 0

    async def next(self) -> Announcement | Lost | Gap | Alive:
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
                elif isinstance(one, Announcement):
                    taken.append(one)
        return taken

    async def until(self, last: Announcement) -> list[Announcement | Lost | Gap | Alive]:
        """Return all that comes up to an announcement, that one included."""
        taken: list[Announcement | Lost | Gap | Alive] = []
        with anyio.fail_after(2 * PATIENCE):
            while not taken or taken[-1] != last:
                taken.append(await anext(self._announcements))
        return taken


@asynccontextmanager
async def listening(notifier: ChangeNotifier) -> AsyncIterator[Listener]:
    """Subscribe."""
    async with notifier.subscribe() as announcements:
        yield Listener(announcements)


class NotifierFixtures:
    """What the contracts share: a subject, and a look for what is left behind."""

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

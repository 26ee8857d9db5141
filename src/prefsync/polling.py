"""Long polls: pages of the feed that wait until there is something in them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from prefsync.errors import UnavailableError
from prefsync.feed import Page

if TYPE_CHECKING:
    from prefsync.catchup import Joined
    from prefsync.clock import Clock
    from prefsync.document import Subject
    from prefsync.feed import ChangeFeed
    from prefsync.hub import Hub

__all__ = ["LongPolls", "Waiter"]


class Waiter:
    """Wakes when something happened to a subject since it was made or last waited for."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def wake(self) -> None:
        """End the wait, or the next one where none is on."""
        self._event.set()

    async def wait(self, seconds: float) -> bool:
        """Return whether it was woken within a time."""
        with anyio.move_on_after(seconds):
            await self._event.wait()
        woken = self._event.is_set()
        if woken:
            self._event = anyio.Event()
        return woken


class LongPolls:
    """Waits for pages.

    Args:
        hub: Who hears of changes.
        feed: Who has those of now.
        clock: For the time that a wait may take.

    Attributes:
        is_draining: Whether nobody is kept waiting any more.
    """

    def __init__(self, hub: Hub, feed: ChangeFeed, clock: Clock) -> None:
        self._hub = hub
        self._feed = feed
        self._clock = clock
        self._waiting: set[Waiter] = set()
        self._emptied = anyio.Event()
        self.is_draining = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def page(
        self, subject: Subject, since: int, *, wait: float, limit: int = 100, schema: str | None = None
    ) -> Page:
        """Return the changes after a revision as soon as there is one, or after ``wait`` seconds none.

        Args:
            subject: Whose.
            since: The newest revision that the client has.
            wait: Seconds.
            limit: The most changes to return.
            schema: The schema tag that the client has, if it knows one.

        Raises:
            UnavailableError: The database is out of reach when the call comes.
        """
        if wait <= 0:
            return await self._feed.page(subject, since, limit=limit, schema=schema)
        end = self._clock.monotonic() + wait
        waiter = Waiter()
        joined = await self._hub.join(subject, waiter, since=since, schema=schema)
        channel = joined.channel
        self._waiting.add(waiter)
        try:
            while not (joined.changes or joined.reset or self.is_draining):
                left = end - self._clock.monotonic()
                if left <= 0 or not await waiter.wait(left):
                    break
                with suppress(UnavailableError):  # woken again by the hub, when the database is back
                    joined = await self._hub.resume(channel, since, joined.epoch)
        finally:
            self._waiting.discard(waiter)
            if not self._waiting:
                self._emptied.set()
            self._hub.leave(channel, waiter)
        return _page(joined, since, limit)

    def drain(self) -> None:
        """Answer all that wait, and whoever comes later at once."""
        self.is_draining = True
        for waiter in self._waiting:
            waiter.wake()

    async def emptied(self) -> None:
        """Return when none is waiting."""
        while self._waiting:
            if self._emptied.is_set():
                self._emptied = anyio.Event()
            await self._emptied.wait()


def _page(joined: Joined, since: int, limit: int) -> Page:
    newest, version = max(joined.revision, joined.channel.revision), joined.channel.version
    if joined.reset is not None:
        return Page(since, joined.revision, newest, version, reset=joined.reset.snapshot)
    changes = tuple(joined.changes[:limit])
    revision = changes[-1].change.revision if changes else since
    return Page(since, revision, newest, version, changes, has_more=len(joined.changes) > limit)

"""What carries changes between the processes of a deployment, and what may happen to them on the way."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import anyio

from prefsync.errors import UnavailableError
from prefsync.ports import Gap, Lost
from prefsync.testing.unreliable import UnreliableNotifier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from anyio.streams.memory import MemoryObjectSendStream

    from prefsync.ports import Alive, Announcement, ChangeNotifier

__all__ = ["Network"]


class Network(UnreliableNotifier):
    """A notifier that a test tells, from its own thread, what to do to announcements.

    Args:
        inner: Does the work.
        run: Runs a coroutine on the app's event loop.
        stands: Returns when the app has made good what it missed while the network was away.
    """

    def __init__(
        self,
        inner: ChangeNotifier,
        run: Callable[[Callable[[], Awaitable[Any]]], Any],
        stands: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(inner)
        self._run = run
        self._stands = stands
        self._links: set[MemoryObjectSendStream[Any]] = set()
        self._is_cut = False

    @contextmanager
    def losing(self) -> Iterator[None]:
        """Lose every announcement meanwhile, and tell nobody: as Redis does when a buffer overflows.

        Devices are told when the next announcement shows the break, or at the next ``Stage.reconcile()``.
        """
        self.loses = True
        try:
            yield
        finally:
            self.loses = False

    @contextmanager
    def repeating(self, copies: int = 2) -> Iterator[None]:
        """Send every announcement several times meanwhile."""
        before, self.copies = self.copies, copies
        try:
            yield
        finally:
            self.copies = before

    @contextmanager
    def reordering(self, group: int = 2) -> Iterator[None]:
        """Keep announcements back until there are as many, then send them with the last one first."""
        before, self.backwards = self.backwards, group
        try:
            yield
        finally:
            self.backwards = before
            self._run(self.flush)

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Cut the app off its notifier meanwhile, and let it know: as when Redis is restarted. Writes go on.

        Until it is back, devices are told by the database, about every 2 s; afterwards they have been told.
        """
        self._run(self._lose_links)
        try:
            yield
        finally:
            self._run(self._restore_links)
            self._run(self._stands)

    async def publish(self, announcement: Announcement) -> None:
        """Send an announcement, or do what may happen to one."""
        if self._is_cut:
            self.calls["publish"] += 1
            raise UnavailableError("notifier")
        await super().publish(announcement)

    @asynccontextmanager
    async def subscribe(
        self, wanted: Callable[[str], bool] | None = None, *, pulse: bool = False
    ) -> AsyncIterator[AsyncIterator[Announcement | Lost | Gap | Alive]]:
        """Receive what is published, and of the link being cut."""
        send, receive = anyio.create_memory_object_stream[Any](math.inf)
        async with (
            super().subscribe(wanted, pulse=pulse) as announcements,
            anyio.create_task_group() as tasks,
        ):
            with send, receive:
                self._links.add(send)
                try:
                    tasks.start_soon(self._pass_on, announcements, send)
                    yield receive
                finally:
                    self._links.discard(send)
                    tasks.cancel_scope.cancel()

    async def _pass_on(
        self,
        announcements: AsyncIterator[Announcement | Lost | Gap | Alive],
        send: MemoryObjectSendStream[Any],
    ) -> None:
        async for one in announcements:
            if not self._is_cut:
                send.send_nowait(one)

    async def _lose_links(self) -> None:
        self._is_cut = True
        for link in self._links:
            link.send_nowait(Lost())

    async def _restore_links(self) -> None:
        self._is_cut = False
        for link in self._links:
            link.send_nowait(Gap())

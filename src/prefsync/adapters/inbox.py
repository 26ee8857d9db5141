"""What the notifiers share: a bounded inbox for each subscription, and the loop that keeps it fed through outages."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
import anyio.lowlevel

from prefsync.chance import between
from prefsync.ports import Alive, Announcement, Gap, Lost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["Inbox", "fed", "kept_up"]

logger = logging.getLogger("prefsync")

# Bytes of messages that a subscription has not taken yet. One that lags further behind is told that it missed some.
_BOUND: Final = 16 * 1024 * 1024

# Bytes that a message takes in memory beside what it holds.
_OVERHEAD: Final = 100

# A reader that always finds something lets others run after as many.
_AT_ONCE: Final = 32

# Seconds that entering a subscription waits for the first attempt to end; then it counts as lost until it does.
_ENTER_LIMIT: Final = 2.0

# Seconds after which a task that was cancelled and goes on is cancelled again.
_CANCEL_AGAIN: Final = 2.0

# Seconds between attempts to get a subscription back, each time by chance up to this (full jitter): the processes that
# lost it together do not come back together. Only a subscription that lasted makes the pauses short again.
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0
_LASTING: Final = 5.0


class Inbox:
    """What has arrived for one subscription and waits to be taken, by one reader, in order; bounded.

    Where it would grow beyond its bound, everything that waits is dropped and a ``Gap`` stands in its place.

    Args:
        read: Makes an announcement of a message when it is taken; ``None`` passes it over.
        bound: Bytes.
        has_pulse: Whether the reader wants to be told up to when all has arrived.
    """

    def __init__(
        self,
        read: Callable[[Any], Announcement | None],
        bound: int = _BOUND,
        *,
        has_pulse: bool = False,
    ) -> None:
        self._has_pulse = has_pulse
        self._read = read
        self._bound = bound
        self._waiting: deque[tuple[Any, int]] = deque()
        self._size = 0
        self._arrived = anyio.Event()
        self._settled = anyio.Event()
        self._is_lost = False
        self._told_lost = False
        self._error: BaseException | None = None
        self._is_closed = False
        self._taken = 0

    def put(self, message: Any, size: int) -> None:
        """Add what arrived."""
        size += _OVERHEAD
        if self._size + size > self._bound:
            self._waiting.clear()
            self._size = 0
            # While the link is lost, the gap that ends the outage stands for what is dropped here as well.
            if not self._is_lost:
                self._waiting.append((Gap(), 0))
            elif not self._told_lost:
                self._waiting.append((Lost(), 0))
        self._waiting.append((message, size))
        self._size += size
        self._arrived.set()

    def lost(self) -> None:
        """Tell once that the link is lost."""
        self._settled.set()
        if not self._is_lost:
            self._is_lost = True
            self._waiting.append((Lost(), 0))
            self._arrived.set()

    def back(self) -> None:
        """Tell that there was a gap, if the link was lost."""
        self._settled.set()
        if self._is_lost:
            self._is_lost = False
            self._waiting.append((Gap(), 0))
            self._arrived.set()

    def alive(self, at: float) -> None:
        """Tell that all that was published before a moment has been put."""
        if self._is_lost or not self._has_pulse:
            return
        if self._waiting and isinstance(self._waiting[-1][0], Alive):
            self._waiting.pop()
        self._waiting.append((Alive(at), 0))
        self._arrived.set()

    async def settled(self) -> None:
        """Return when it is known whether there is a link, which after a while is a no."""
        with anyio.move_on_after(_ENTER_LIMIT):
            await self._settled.wait()
        if not self._settled.is_set():
            self.lost()

    def close(self, error: BaseException | None = None) -> None:
        """End the reader's iteration."""
        self._is_closed = True
        self._error = error
        self._arrived.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Announcement | Lost | Gap | Alive:
        self._taken += 1
        if self._taken % _AT_ONCE == 0:
            await anyio.lowlevel.checkpoint()
        while True:
            while self._waiting and not self._is_closed:
                message, size = self._waiting.popleft()
                self._size -= size
                if isinstance(message, Lost | Gap):
                    self._told_lost = isinstance(message, Lost)
                    return message
                if isinstance(message, Alive):
                    return message
                announcement = self._read(message)
                if announcement is not None:
                    return announcement
            if self._error is not None:
                raise self._error
            if self._is_closed:
                raise StopAsyncIteration
            self._arrived = anyio.Event()
            await self._arrived.wait()


@asynccontextmanager
async def fed(inbox: Inbox, feed: Callable[[], Awaitable[None]]) -> AsyncIterator[Inbox]:
    """Keep a task that feeds an inbox while the context is open; its error, which only a bug can be, is the reader's."""

    async def work() -> None:
        try:
            await feed()
        except Exception as error:  # noqa: BLE001  # raised where somebody sees it
            inbox.close(error)

    task = asyncio.get_running_loop().create_task(work(), name="prefsync subscription")
    try:
        await inbox.settled()
        yield inbox
    finally:
        inbox.close()
        with anyio.CancelScope(shield=True):
            while not task.done():
                task.cancel()
                # Drivers swallow a cancellation here and there.
                await asyncio.wait([task], timeout=_CANCEL_AGAIN)


async def kept_up(
    inbox: Inbox, listen: Callable[[], Awaitable[None]], errors: tuple[type[Exception], ...], server: str
) -> None:
    """Listen again and again, with growing pauses.

    Args:
        inbox: Is told when the link is lost.
        listen: Connects, says ``inbox.back()``, and returns or raises one of ``errors`` when the link is lost.
        errors: What a lost link raises.
        server: As the log calls it.
    """
    pause = _FIRST_PAUSE
    is_down = False
    while True:
        began = time.monotonic()
        try:
            await listen()
            reason = "it ended"
        except errors as error:
            reason = f"{type(error).__name__}: {error}"
        inbox.lost()
        if time.monotonic() - began > _LASTING:
            pause, is_down = _FIRST_PAUSE, False
        log = logger.debug if is_down else logger.warning
        log("the subscription to %s was lost (%s); connecting again", server, reason)
        is_down = True
        await anyio.sleep(between(0, pause))
        pause = min(pause * 2, _LONGEST_PAUSE)

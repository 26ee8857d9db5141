"""Writes of many subjects, stored together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeAlias

from prefsync.adapters.sqlalchemy.runners import LostRaceError
from prefsync.errors import ReadOnlyError, UnavailableError
from prefsync.resilience import AlreadyCountedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from prefsync.document import Subject
    from prefsync.ports import Write

__all__ = ["GatheredWrites"]

# Seconds that a batch may take, the wait for its turn and a connection included: less than its writers wait, so that
# none is stored of which nobody hears any more.
_TIME_LIMIT: Final = 4.5

# While this many batches are on their way, further writes wait until one is back or there are enough of them to fill
# another. More of them mean smaller ones, and a batch costs as much as several of the writes in it.
_IN_FLIGHT: Final = 2

# A write, who waits to hear whether it was stored, and since when, in the loop's time.
_Waiting: TypeAlias = "tuple[Subject, Write, asyncio.Future[bool], float]"


class GatheredWrites:
    """Stores together what all tasks write in one round of the event loop, or while others are being stored.

    A statement, its round trip and its commit cost many times what one more row in it does.

    Args:
        store: Stores writes of different subjects and returns which of them are stored, by their place in the list; the
            others are as they were.
        most: The most writes that are stored together.
    """

    def __init__(
        self, store: Callable[[Sequence[tuple[Subject, Write]]], Awaitable[set[int]]], most: int
    ) -> None:
        self._store = store
        self._most = most
        self._waiting: dict[str, _Waiting] = {}
        self._is_scheduled = False
        self._under_way: set[asyncio.Task[None]] = set()

    async def write(self, subject: Subject, write: Write) -> bool:
        """Store a change together with those of others, if it can be.

        Returns:
            Whether it is stored; else nothing has happened, and it is to be tried by itself, be it that there are no
            others, or that somebody else is writing there.

        Raises:
            UnavailableError: The database is out of reach.
        """
        if subject.key in self._waiting:
            return False
        loop = asyncio.get_running_loop()
        if not self._is_scheduled:
            self._is_scheduled = True
            loop.call_soon(self._depart)
        stored: asyncio.Future[bool] = loop.create_future()
        self._waiting[subject.key] = subject, write, stored, loop.time()
        return await stored

    def _depart(self) -> None:
        self._is_scheduled = False
        waiting = {key: entry for key, entry in self._waiting.items() if not entry[2].done()}
        while waiting and (len(self._under_way) < _IN_FLIGHT or len(waiting) >= self._most):
            batch = [waiting.pop(key) for key in list(waiting)[: self._most]]
            if len(batch) == 1:
                batch[0][2].set_result(False)
                continue
            task = asyncio.get_running_loop().create_task(self._send(batch))
            self._under_way.add(task)
            task.add_done_callback(self._arrived)
        self._waiting = waiting

    def _arrived(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._depart()

    async def _send(self, batch: Sequence[_Waiting]) -> None:
        """Store a batch and tell each writer; one that goes away meanwhile does not take the others along."""
        try:
            # Since the first of them came: those who had to wait for other batches do not wait the longer.
            async with asyncio.timeout_at(batch[0][3] + _TIME_LIMIT):
                stored = await self._store([(subject, write) for subject, write, _, _ in batch])
        except LostRaceError:
            stored = set()
        except BaseException as error:
            kind = UnavailableError
            for _, _, told, _ in batch:
                if not told.done():
                    reason = (
                        ReadOnlyError(str(error)) if isinstance(error, ReadOnlyError) else kind("database")
                    )
                    reason.__cause__ = error
                    told.set_exception(reason)
                    kind = AlreadyCountedError  # one statement that failed is no outage, whatever it was to store
            if not isinstance(error, UnavailableError | TimeoutError):
                raise
            return
        for number, (_, _, told, _) in enumerate(batch):
            if not told.done():
                told.set_result(number in stored)

    async def close(self) -> None:
        """Wait for what is under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)
        self._waiting.clear()  # something is left only where the loop has ended before
        self._is_scheduled = False

"""What waits for one client, in a queue as python-engineio uses them."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

__all__ = ["PacketQueue"]

T = TypeVar("T")


class PacketQueue(Generic[T]):
    """An ``asyncio.Queue`` without a bound, for clients for whom nothing waits most of the time.

    An idle ``asyncio.Queue`` holds four deques, 3 KiB of memory for each client; and where its ``get`` is given a time
    limit before Python 3.12, that makes a task. Here ``get`` returns a future.

    An item for which somebody waits is handed over at once: when that one is cancelled before it runs, the item is lost.
    python-engineio gives the connection up then.
    """

    __slots__ = ("_getters", "_items", "_joiners", "_unfinished")

    def __init__(self) -> None:
        self._items: list[T] = []
        self._getters: list[asyncio.Future[T]] = []
        self._joiners: list[asyncio.Future[None]] = []
        self._unfinished = 0

    def qsize(self) -> int:
        """Return how many items wait."""
        return len(self._items)

    def put_nowait(self, item: T) -> None:
        """Put an item at the end."""
        self._unfinished += 1
        while self._getters:
            getter = self._getters.pop(0)
            if not getter.done():  # else its time limit was over, or its task cancelled
                getter.set_result(item)
                return
        self._items.append(item)

    async def put(self, item: T) -> None:
        """Do the same."""
        self.put_nowait(item)

    def get(self) -> asyncio.Future[T]:
        """Return the first item, to be waited for."""
        getter: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._items:
            getter.set_result(self._items.pop(0))
        else:
            self._getters = [other for other in self._getters if not other.done()]
            self._getters.append(getter)
        return getter

    def get_nowait(self) -> T:
        """Return the first item.

        Raises:
            QueueEmpty: There is none.
        """
        if not self._items:
            raise asyncio.QueueEmpty
        return self._items.pop(0)

    def task_done(self) -> None:
        """Note that an item that was got has been dealt with."""
        self._unfinished -= 1
        if not self._unfinished:
            joiners, self._joiners = self._joiners, []
            for joiner in joiners:
                if not joiner.done():
                    joiner.set_result(None)

    async def join(self) -> None:
        """Return when every item has been dealt with."""
        if self._unfinished:
            joiner: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._joiners.append(joiner)
            await joiner

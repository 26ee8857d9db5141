"""Answers that last: sent on by the server's thread, chunk by chunk, as the loop has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from prefsync.http import HttpResponse, Sink
from prefsync.wsgi.exchange import Exchange, HandedOver, settle

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

__all__ = ["Answer", "Stream", "StreamSink"]


class StreamSink(Sink):
    """Where the loop sends a stream.

    Args:
        exchange: The request that it answers.
    """

    __slots__ = ("_exchange", "_stream", "is_plain")

    def __init__(self, exchange: Exchange) -> None:
        self.is_plain = True  # what is awaited is a bare future
        self._exchange = exchange
        self._stream: Stream | None = None

    async def send(self, response: HttpResponse) -> None:
        """See ``Sink``."""
        self._exchange.finish(response)

    async def start(self, response: HttpResponse) -> None:
        """See ``Sink``."""
        self._stream = Stream(self._exchange, response)
        self._exchange.finish(self._stream)

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        """See ``Sink``."""
        taken = self._exchange.loop.create_future()
        stream = self._stream
        if stream is not None:
            self._exchange.order(lambda: stream.put(chunk, taken))
        return taken

    async def end(self) -> None:
        """See ``Sink``."""
        if self._stream is not None:
            self._exchange.order(self._stream.end)

    async def gone(self) -> None:
        """See ``Sink``."""
        await self._exchange.gone()

    def drop(self) -> None:
        """See ``Sink``."""
        self._exchange.drop()


class Stream:
    """A body that lasts: what a WSGI server iterates over, in the thread that has the request.

    Args:
        exchange: The request that it answers.
        response: The answer's head.

    Attributes:
        response: The answer's head.
    """

    def __init__(self, exchange: Exchange, response: HttpResponse) -> None:
        self.response = response
        self._exchange = exchange
        self._chunk = b""
        self._taken: asyncio.Future[None] | None = None
        self._has_ended = False
        self._after: Callable[[], None] | None = None

    def on_close(self, after: Callable[[], None]) -> None:
        """Have something done once, when this is over."""
        self._after = after

    def put(self, chunk: bytes, taken: asyncio.Future[None]) -> None:
        """Have a chunk sent next, and hear when the server has taken it."""
        self._chunk, self._taken = chunk, taken

    def end(self) -> None:
        """Have nothing more sent."""
        self._has_ended = True

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._has_taken()
        while self._taken is None and not self._has_ended:
            try:
                self._exchange.next_order()()
            except Exception:  # noqa: BLE001  # told to the log; the head is sent, and all that is left is to end
                self._has_ended = True
        if self._taken is None:
            self.close()
            raise StopIteration
        return self._chunk

    def close(self) -> None:
        """End: the server has sent all, or finds the client gone (PEP 3333, "Handling the close Method")."""
        self._has_taken()
        self._exchange.leave()
        after, self._after = self._after, None
        if after is not None:
            after()

    def _has_taken(self) -> None:
        taken, self._taken = self._taken, None
        if taken is not None:
            self._exchange.tell(settle, taken, None)


Answer: TypeAlias = HttpResponse | Stream | HandedOver
"""What a server's thread has to send; nothing, where the connection was handed over."""

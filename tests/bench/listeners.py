"""Clients that only listen, thousands in one process, cheap enough not to be what is measured."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EventListener", "Listener", "SocketIoListener", "SocketListener", "connect_all"]

_HOST: Final = "127.0.0.1"

# Socket.IO's events that tell a revision, and what comes besides them.
_TELLING: Final = tuple(b'42/preferences,["%b"' % name for name in (b"welcome", b"reset", b"change"))
_SILENT: Final = (b"40/preferences,", b'42/preferences,["heartbeat"')

# How many connections are being made at once: a listening socket's queue has room for so many.
_AT_ONCE: Final = 64


class Listener(asyncio.Protocol):
    """One connection.

    Args:
        path: What to ask for.
        token: Whose it is.

    Attributes:
        revision: The newest that it was told of.
        on_change: Called with each revision that comes, and the time it came.
        ready: Done when the first event is there.
        lost: Done when the connection is gone.
    """

    headers = ""

    def __init__(self, path: str, token: str) -> None:
        loop = asyncio.get_running_loop()
        self.revision = 0
        self.on_change: Callable[[int, float], None] | None = None
        self.ready: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.transport: Any = None
        self._path = path
        self._token = token
        self._data = b""
        self._has_head = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self.transport = transport
        self.transport.write(
            f"GET {self._path} HTTP/1.1\r\nHost: {_HOST}\r\nAuthorization: Bearer {self._token}\r\n"
            f"{self.headers}\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        now = time.perf_counter()
        self._data += data
        if not self._has_head:
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            if head.split(b" ", 2)[1] not in {b"101", b"200"}:
                self._fail(head.decode("latin-1"))
                return
            self._has_head, self._data = True, rest
            self.opened()
        self.take(now)

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end."""
        self._fail(f"the connection was lost: {error}")
        if not self.lost.done():
            self.lost.set_result(None)

    def opened(self) -> None:
        """Say what has to be said first."""

    def take(self, now: float) -> None:
        """Read whole events from what came."""

    def told(self, revision: int, now: float) -> None:
        """Note an event."""
        self.revision = revision
        if not self.ready.done():
            self.ready.set_result(None)
        elif self.on_change is not None:
            self.on_change(revision, now)

    def _fail(self, why: str) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(why))


class SocketListener(Listener):
    """A WebSocket.

    Args:
        path: What to ask for.
        token: Whose it is.
        since: The revision that it has.
    """

    headers = (
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: prefsync.v1\r\n"
    )

    def __init__(self, path: str, token: str, since: int | None = None) -> None:
        super().__init__(path, token)
        self._since = since

    def opened(self) -> None:
        """Say hello."""
        hello: dict[str, Any] = {"type": "hello"}
        if self._since is not None:
            hello["since"] = self._since
        self.say(json.dumps(hello).encode())

    def say(self, payload: bytes) -> None:
        """Send a text frame, masked with zeros (RFC 6455, section 5.3)."""
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
        self.transport.write(b"\x81" + length + bytes(4) + payload)

    def take(self, now: float) -> None:
        """Read frames."""
        data, at = self._data, 0
        while len(data) - at >= 2:
            size, head = data[at + 1] & 0x7F, 2
            if size > 125:
                width = 2 if size == 126 else 8
                size, head = int.from_bytes(data[at + 2 : at + 2 + width]), 2 + width
            if len(data) - at < head + size:
                break
            if data[at] & 0x0F == 1:
                self.message(data[at + head : at + head + size], now)
            elif data[at] & 0x0F == 9:
                self.transport.write(b"\x8a\x80" + bytes(4))
            at += head + size
        self._data = data[at:]

    def message(self, payload: bytes, now: float) -> None:
        """Read a text message."""
        if not payload.startswith(b'{"type":"heartbeat"'):
            self.told(_revision(payload), now)


class SocketIoListener(SocketListener):
    """A client of Socket.IO over WebSocket.

    Engine.IO 4 packets begin with their type; those of Socket.IO 5 are what its messages (type 4) carry.
    """

    headers = (
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )

    def opened(self) -> None:
        """Wait for the server, which speaks first."""

    def message(self, payload: bytes, now: float) -> None:
        """Read a packet."""
        if payload.startswith(b"0"):
            self.say(b"40/preferences," + json.dumps({"token": self._token}).encode())
        elif payload == b"2":
            self.say(b"3")
        elif payload.startswith(_TELLING):
            self.told(_revision(payload), now)
        elif not payload.startswith(_SILENT):
            self._fail(payload.decode())


class EventListener(Listener):
    """An event stream."""

    def take(self, now: float) -> None:
        """Read events; the chunks that carry them begin and end where events do."""
        *events, self._data = self._data.split(b"\n\n")
        for event in events:
            at = event.find(b"data: ")
            if at >= 0:
                self.told(_revision(event[at + 6 :]), now)


def _revision(payload: bytes) -> int:
    at = payload.find(b'"revision":') + 11
    end = at
    while payload[end : end + 1].isdigit():
        end += 1
    return int(payload[at:end])


async def connect_all(port: int, listeners: list[Listener]) -> None:
    """Connect, and return when each has had its first event."""
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(_AT_ONCE)

    async def connect(listener: Listener) -> None:
        async with gate:
            await loop.create_connection(lambda: listener, _HOST, port)
            await listener.ready

    await asyncio.gather(*map(connect, listeners))

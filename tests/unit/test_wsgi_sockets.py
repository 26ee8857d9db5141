"""A WebSocket that was taken over from a WSGI server holds what clients do to it within bounds."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from websockets.frames import Frame, Opcode

from prefsync.wsgi.sockets import WsgiSocket

if TYPE_CHECKING:
    from prefsync.http import HttpRequest

pytestmark = pytest.mark.anyio


class Transport:
    """What a socket would be written to: notes whether it is read from, and what was sent."""

    def __init__(self) -> None:
        self.is_reading = True
        self.sent = b""

    def pause_reading(self) -> None:
        """See ``asyncio.Transport``."""
        self.is_reading = False

    def resume_reading(self) -> None:
        """See ``asyncio.Transport``."""
        self.is_reading = True

    def write(self, data: bytes) -> None:
        """See ``asyncio.Transport``."""
        self.sent += data

    def can_write_eof(self) -> bool:
        """See ``asyncio.Transport``."""
        return True

    def abort(self) -> None:
        """See ``asyncio.Transport``."""
        self.is_reading = False

    close = write_eof = abort


@pytest.fixture
async def transport() -> Transport:
    """The connection below the socket."""
    return Transport()


@pytest.fixture
async def socket(transport: Transport) -> WsgiSocket:
    """A socket that is open."""
    exchange: Any = SimpleNamespace(loop=asyncio.get_running_loop())
    socket = WsgiSocket(exchange, {}, cast("HttpRequest", None))
    socket.connection_made(cast("asyncio.Transport", transport))
    return socket


def sent(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    """Return a frame as clients send it."""
    return Frame(opcode, data, fin).serialize(mask=True)


async def test_who_pings_and_takes_nothing_is_not_read_from(socket: WsgiSocket, transport: Transport) -> None:
    """Else the answers would heap up."""
    socket.data_received(sent(Opcode.PING, b"?"))
    assert transport.sent
    socket.pause_writing()
    assert not transport.is_reading
    socket.resume_writing()
    assert transport.is_reading


async def test_a_full_queue_keeps_reading_off(socket: WsgiSocket, transport: Transport) -> None:
    """Room to write is no reason to read while nobody has looked at what came."""
    socket.data_received(b"".join(sent(Opcode.TEXT, b"%d" % n) for n in range(16)))
    assert not transport.is_reading
    socket.pause_writing()
    socket.resume_writing()
    assert not transport.is_reading
    assert await socket.receive() == "0"
    assert transport.is_reading


async def test_empty_frames_are_not_kept(socket: WsgiSocket) -> None:
    """They count for no limit of bytes, so none may collect."""
    socket.data_received(sent(Opcode.TEXT, b"a", fin=False))
    socket.data_received(b"".join(sent(Opcode.CONT, fin=False) for _ in range(10_000)))
    assert len(socket._fragments) == 1
    socket.data_received(sent(Opcode.CONT, b"b"))
    assert await socket.receive() == "ab"


async def test_nothing_counts_after_a_message_that_failed(socket: WsgiSocket) -> None:
    """RFC 6455, section 7.1.7: what comes after it is not looked at."""
    socket.data_received(sent(Opcode.TEXT, b"one") + sent(Opcode.TEXT, b"\xff") + sent(Opcode.TEXT, b"three"))
    assert [await socket.receive() for _ in range(2)] == ["one", None]

"""WebSockets under WSGI: the connection is taken over from the server, and lives on the event loop.

An open WebSocket costs no thread, then, unless the server encrypts it or ends it with the request. The frames are
those of ``websockets``, its part without I/O (https://websockets.readthedocs.io/en/stable/howto/sansio.html).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from prefsync.errors import MalformedError, MissingExtraError, UnavailableError
from prefsync.http import HttpResponse, Socket
from prefsync.http.problems import answer
from prefsync.wsgi.exchange import HandedOver
from prefsync.wsgi.pump import pump
from prefsync.wsgi.servers import socket_of

try:
    from websockets.datastructures import Headers
    from websockets.exceptions import InvalidState
    from websockets.frames import CloseCode, Frame, Opcode
    from websockets.http11 import Request
    from websockets.protocol import State
    from websockets.server import ServerProtocol
except ImportError as error:
    raise MissingExtraError("WebSocket under WSGI (prefsync.wsgi.sockets)", "flask") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prefsync.errors import PrefsyncError
    from prefsync.http import HttpRequest
    from prefsync.wsgi.exchange import Exchange
    from prefsync.wsgi.servers import Environ

__all__ = ["WsgiSocket"]

_SWITCHING_PROTOCOLS: Final = 101

# Bytes of one message, far above what the protocol takes: its own refusal says more than the library's.
_MOST_BYTES: Final = 2**20

# Messages that wait to be looked at before reading stops.
_MOST_WAITING: Final = 16

# Seconds that a client has to answer a close frame, and to take what it was sent before that.
_CLOSE_LIMIT: Final = 4.0


class WsgiSocket(asyncio.Protocol, Socket):
    """A WebSocket whose handshake came through a WSGI server.

    Args:
        exchange: The handshake.
        environ: The same, as the server has it.
        request: The same, as the protocol sees it.
    """

    def __init__(self, exchange: Exchange, environ: Environ, request: HttpRequest) -> None:
        self._exchange = exchange
        self._environ = environ
        self._request = request
        self._protocol = ServerProtocol(state=State.OPEN, max_size=_MOST_BYTES)
        self._transport: asyncio.Transport | None = None
        self._fragments: list[bytes] = []
        self._is_text = True
        self._messages: deque[str | bytes] = deque()
        self._has_more = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._has_ended = False
        self._is_closing = False
        self._over = threading.Event()
        self._is_carried = False

    # --- Socket ------------------------------------------------------------------------------------------------------

    @property
    def request(self) -> HttpRequest:
        """See ``Socket``."""
        return self._request

    @property
    def subprotocols(self) -> Sequence[str]:
        """See ``Socket``."""
        offered = self._request.header(b"sec-websocket-protocol") or ""
        return [name.strip() for name in offered.split(",") if name.strip()]

    async def refuse(self, response: HttpResponse) -> None:
        """See ``Socket``."""
        self._exchange.finish(response)

    async def accept(self, subprotocol: str | None, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """See ``Socket``.

        Raises:
            ConnectionRefusedError: It was refused: the handshake is broken, or the server keeps its connections.
        """
        response = ServerProtocol().accept(Request("/", _headers(self._request.headers.items())))
        problem = self._problem(response.status_code)
        if problem is not None:
            refusal = answer(problem)
            refusal.headers += headers
            await self.refuse(refusal)
            raise ConnectionRefusedError(str(problem))
        response.headers.update(_headers(headers))
        if subprotocol is not None:
            response.headers["Sec-WebSocket-Protocol"] = subprotocol
        connection: socket.socket = await self._exchange.do(self._take)
        await self._exchange.loop.create_connection(lambda: self, sock=connection)
        self._write(response.serialize())

    def _problem(self, status: int) -> PrefsyncError | None:
        if status != _SWITCHING_PROTOCOLS:
            return MalformedError("this is no handshake as in RFC 6455, section 4.2.1")
        if socket_of(self._environ) is None:
            return UnavailableError(
                "process", message="this server hands over no connection: use server-sent events here"
            )
        return None

    def _take(self) -> socket.socket:
        """Take the connection from the server, in its thread.

        What the server has read beyond the handshake is lost: a client sends no frame before it has the answer (RFC 6455,
        section 4.1).
        """
        connection = socket_of(self._environ)
        if connection is None:
            raise ConnectionRefusedError
        stay: Callable[[], object] | None = None
        if isinstance(connection, ssl.SSLSocket):
            taken, end = socket.socketpair()
            self._is_carried = True
            stay = partial(pump, connection, end)
        elif "gunicorn.socket" in self._environ:
            taken = socket.socket(fileno=connection.detach())  # what gunicorn has left is closed
        else:
            # Werkzeug shuts the connection down when the request ends, for all that have it.
            taken, stay = connection.dup(), self._over.wait
        self._exchange.finish(HandedOver(stay))
        return taken

    async def receive(self) -> str | bytes | None:
        """See ``Socket``."""
        while not self._messages:
            if self._has_ended:
                return None
            self._has_more.clear()
            await self._has_more.wait()
        if len(self._messages) == _MOST_WAITING and self._transport is not None and self._has_room.is_set():
            self._transport.resume_reading()
        return self._messages.popleft()

    async def send(self, text: str) -> None:
        """See ``Socket``."""
        try:
            self._protocol.send_text(text.encode())
        except InvalidState:
            raise ConnectionResetError("the WebSocket is closed") from None
        self._flush()
        if not self._has_room.is_set():
            await self._has_room.wait()

    async def close(self, code: int, reason: str) -> None:
        """See ``Socket``."""
        self._protocol.fail(code, reason)  # which does nothing to what is closed already
        self._flush()
        self._close_soon()
        self._end()

    def drop(self) -> None:
        """See ``Socket``."""
        if self._transport is not None:
            self._transport.abort()
        if self._is_carried:
            self._exchange.drop()

    # --- asyncio.Protocol --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by their class

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and not self._has_ended:
                self._frame(event)
        self._flush()
        if self._protocol.close_expected():
            self._close_soon()

    def eof_received(self) -> None:
        """See ``asyncio.Protocol``."""
        self._protocol.receive_eof()
        self._end()

    def connection_lost(self, error: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        del error
        self._protocol.receive_eof()
        self._transport = None
        self._has_room.set()
        self._end()
        self._over.set()
        if self._is_carried:
            # What a thread still has for a client that takes nothing would hold it for ever.
            self._exchange.loop.call_later(_CLOSE_LIMIT, self._exchange.drop)

    def pause_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        self._has_room.clear()
        if self._transport is not None:
            self._transport.pause_reading()  # or pongs would heap up for a client that reads nothing

    def resume_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        self._has_room.set()
        if len(self._messages) < _MOST_WAITING and self._transport is not None:
            self._transport.resume_reading()

    # --- Frames ------------------------------------------------------------------------------------------------------

    def _frame(self, frame: Frame) -> None:
        match frame.opcode:
            case Opcode.TEXT | Opcode.BINARY:
                self._is_text, self._fragments = frame.opcode is Opcode.TEXT, [bytes(frame.data)]
            case Opcode.CONT:
                if frame.data:  # empty ones count for no limit
                    self._fragments.append(bytes(frame.data))
            case Opcode.CLOSE:
                self._end()
                return
            case _:
                return  # pings are answered by the library
        if frame.fin:
            self._message(b"".join(self._fragments))
            self._fragments = []

    def _message(self, data: bytes) -> None:
        try:
            self._messages.append(data.decode() if self._is_text else data)
        except UnicodeDecodeError:
            self._protocol.fail(CloseCode.INVALID_DATA, "this is not UTF-8")
            self._end()
            return
        self._has_more.set()
        if len(self._messages) == _MOST_WAITING and self._transport is not None:
            self._transport.pause_reading()

    def _flush(self) -> None:
        for chunk in self._protocol.data_to_send():
            self._write(chunk)

    def _write(self, chunk: bytes) -> None:
        """Send bytes; none of them stand for the end."""
        if self._transport is not None and chunk:
            self._transport.write(chunk)
        elif self._transport is not None:
            self._close_soon()
            if self._transport.can_write_eof():
                self._transport.write_eof()  # and goes on reading: what is left unread would reset the connection
            else:
                self._transport.close()  # once what is written has been taken

    def _end(self) -> None:
        """Have nothing more received."""
        self._has_ended = True
        self._has_more.set()

    def _close_soon(self) -> None:
        """End the connection, whether or not the client answers."""
        if not self._is_closing and self._transport is not None:
            self._is_closing = True
            self._exchange.loop.call_later(_CLOSE_LIMIT, self.drop)


def _headers(lines: Iterable[tuple[bytes, bytes]]) -> Headers:
    return Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in lines])

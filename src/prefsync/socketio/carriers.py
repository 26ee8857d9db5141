"""What carries packets, as python-engineio takes it: an environment, and a WebSocket's events as in ASGI."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from prefsync.errors import MalformedError
from prefsync.http.messages import NOSNIFF, HttpResponse
from prefsync.http.problems import answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from prefsync.http.messages import HttpRequest, Socket
    from prefsync.socketio.clients import Client

__all__ = ["CLIENT", "Carried", "plain", "request_environ", "socket_environ"]

# Under which a client is found in an environment.
CLIENT: Final = "prefsync.client"

# All that python-engineio wants to know of an ASGI scope when it answers.
_WEBSOCKET: Final = {"type": "websocket"}
_HTTP: Final = {"type": "http"}


class Carried:
    """A WebSocket as python-socketio takes it: ASGI, of which it sees what passes.

    Args:
        client: Whose it is.
        socket: As the mount hands it over.
        passes: Tells whether a message is for python-socketio.
        told: Headers of the handshake's answer.
    """

    __slots__ = ("_client", "_is_open", "_passes", "_socket", "_told")

    def __init__(
        self,
        client: Client,
        socket: Socket,
        passes: Callable[[Client, str | bytes], bool],
        told: Sequence[tuple[bytes, bytes]],
    ) -> None:
        self._passes = passes
        self._client = client
        self._socket = socket
        self._is_open = False
        self._told = told

    async def receive(self) -> dict[str, Any]:
        """Return the next event."""
        while True:
            await self._client.has_room()
            message = await self._socket.receive()
            if message is None:
                return {"type": "websocket.disconnect"}
            if self._passes(self._client, message):
                return {"type": "websocket.receive", "text": message}

    async def send(self, message: dict[str, Any]) -> None:
        """Do as an event says."""
        match message["type"]:
            case "websocket.accept" if not self._is_open:
                self._is_open = True
                await self._socket.accept(None, self._told)
            case "websocket.send":
                await self._socket.send(message["text"])
                self._client.passed(message["text"], self._socket.send)
            case "websocket.close" if self._is_open:
                await self._socket.close(1000, "")
            case "websocket.close":
                response = answer(MalformedError("this is no handshake of Engine.IO 4"))
                response.headers += self._told
                await self._socket.refuse(response)


def socket_environ(request: HttpRequest, client: Client, carried: Carried) -> dict[str, Any]:
    """Return what python-engineio has to know of a WebSocket's handshake."""
    return {
        "REQUEST_METHOD": "GET",
        "QUERY_STRING": request.query.decode("latin-1"),
        "HTTP_CONNECTION": "upgrade",
        "HTTP_UPGRADE": "websocket",
        "asgi.scope": _WEBSOCKET,
        "asgi.receive": carried.receive,
        "asgi.send": carried.send,
        CLIENT: client,
    }


def request_environ(
    request: HttpRequest, client: Client, body: bytes, send: Callable[[dict[str, Any]], Awaitable[None]]
) -> dict[str, Any]:
    """Return what python-engineio has to know of a request of HTTP long-polling.

    Args:
        request: The request.
        client: Whose it is.
        body: What is posted.
        send: Takes the answer.
    """
    return {
        "REQUEST_METHOD": request.method,
        "QUERY_STRING": request.query.decode("latin-1"),
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": _Body(body),
        "asgi.scope": _HTTP,
        "asgi.send": send,
        CLIENT: client,
    }


class _Body:
    """What is posted, as python-engineio reads it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self, length: int) -> bytes:
        return self._body[:length]


def plain(body: bytes) -> HttpResponse:
    """Answer with a payload."""
    headers = [
        (b"content-type", b"text/plain; charset=UTF-8"),
        (b"content-length", b"%d" % len(body)),
        NOSNIFF,
        (b"cache-control", b"no-store"),
    ]
    return HttpResponse(HTTPStatus.OK, headers, body)

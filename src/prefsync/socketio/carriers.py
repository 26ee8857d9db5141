"""What carries packets, as python-socketio takes it: ASGI."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from prefsync.errors import MalformedError
from prefsync.http.messages import HttpResponse
from prefsync.http.problems import answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefsync.http.messages import HttpRequest, Socket
    from prefsync.socketio.clients import Client

__all__ = ["CLIENT", "Carried", "plain", "scope_of"]

# Under which a client is found in an ASGI scope.
CLIENT: Final = "prefsync_client"


class Carried:
    """A WebSocket as python-socketio takes it: ASGI, of which it sees what passes.

    Args:
        client: Whose it is.
        socket: As the mount hands it over.
        passes: Tells whether a message is for python-socketio.
    """

    def __init__(self, client: Client, socket: Socket, passes: Callable[[Client, str | bytes], bool]) -> None:
        self._passes = passes
        self._client = client
        self._socket = socket
        self._has_begun = False
        self._is_open = False

    async def receive(self) -> dict[str, Any]:
        """Return the next event."""
        if not self._has_begun:
            self._has_begun = True
            return {"type": "websocket.connect"}
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
                await self._socket.accept(None)
            case "websocket.send":
                await self._socket.send(message["text"])
                self._client.passed(message["text"], self._socket.send)
            case "websocket.close" if self._is_open:
                await self._socket.close(1000, "")
            case "websocket.close":
                await self._socket.refuse(answer(MalformedError("this is no handshake of Engine.IO 4")))


def scope_of(request: HttpRequest, kind: str, client: Client, length: int = 0) -> dict[str, Any]:
    """Return what python-socketio has to know of a request."""
    headers = [(b"content-length", b"%d" % length)]
    if kind == "websocket":
        headers = [(b"connection", b"upgrade"), (b"upgrade", b"websocket")]
    return {
        "type": kind,
        "method": request.method,
        "path": request.path,
        "query_string": request.query,
        "headers": headers,
        CLIENT: client,
    }


def plain(body: bytes) -> HttpResponse:
    """Answer with a payload."""
    headers = [
        (b"content-type", b"text/plain; charset=UTF-8"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    return HttpResponse(HTTPStatus.OK, headers, body)

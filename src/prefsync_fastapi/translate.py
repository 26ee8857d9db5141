"""Between ASGI and the protocol's messages."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import ClientDisconnect

from prefsync.http import ClientGoneError, HttpRequest, HttpResponse, Sink, Socket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

__all__ = [
    "STARTED",
    "AsgiSocket",
    "headers_of",
    "is_encrypted",
    "reader_of",
    "request_from",
    "send_response",
]

STARTED: Final = "prefsync_started"
"""Marks, in an ASGI scope, that a response of ours has begun: no other can be sent."""

_ENCRYPTED: Final = frozenset({"https", "wss"})

# Seconds that a client has to take the last that it is sent, after the connection was ended.
_LAST_LIMIT: Final = 4.0


def request_from(scope: Scope, receive: Receive, path: str) -> HttpRequest:
    """Translate an ASGI scope.

    Args:
        scope: Of type ``http``.
        receive: Where the body comes from.
        path: Below the mount's prefix.
    """
    client = scope.get("client")
    return HttpRequest(
        scope.get("method", "GET"),  # a WebSocket's handshake is one (RFC 6455, section 4.1)
        path,
        scope["query_string"],
        headers_of(scope),
        client[0] if client else "",
        partial(_read, receive),
        partial(_gone, receive),
        is_encrypted(scope),
    )


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """Return a request's headers as ``HttpRequest`` has them."""
    lines = scope["headers"]
    headers: dict[bytes, bytes] = dict(lines)
    if len(headers) < len(lines):
        headers = {}
        for name, value in lines:
            headers[name] = headers[name] + b", " + value if name in headers else value
    return headers


def is_encrypted(scope: Scope) -> bool:
    """Tell whether a request came over TLS, as far as the server knows."""
    return scope.get("scheme") in _ENCRYPTED


async def _read(receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if size > limit or not message.get("more_body", False):
            return b"".join(chunks)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def reader_of(request: Request) -> Callable[[int], Coroutine[Any, Any, bytes]]:
    """Return what reads the body of a request that a dependency of the host's may have read already."""

    async def read(limit: int) -> bytes:
        chunks: list[bytes] = []
        size = 0
        try:
            async for chunk in request.stream():
                chunks.append(chunk)
                size += len(chunk)
                if size > limit:
                    break
        except ClientDisconnect:
            raise ClientGoneError from None
        return b"".join(chunks)

    return read


async def send_response(response: HttpResponse, scope: Scope, receive: Receive, send: Send) -> None:
    """Send an answer, or let it send itself."""
    if response.stream is not None:
        await response.stream(_AsgiSink(scope, receive, send))
        return
    start: dict[str, Any] = {
        "type": "http.response.start",
        "status": response.status,
        "headers": response.headers,
    }
    scope[STARTED] = True
    await send(start)
    await send({"type": "http.response.body", "body": response.body})


class _AsgiSink(Sink):
    __slots__ = ("_receive", "_scope", "_send", "is_plain")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Middlewares of the host's may open cancel scopes around what they pass on; the server's own sending does not.
        self.is_plain = not getattr(scope.get("app"), "user_middleware", True)
        self._scope = scope
        self._receive = receive
        self._send = send

    async def send(self, response: HttpResponse) -> None:
        await send_response(response, self._scope, self._receive, self._send)

    async def start(self, response: HttpResponse) -> None:
        start = {"type": "http.response.start", "status": response.status, "headers": response.headers}
        self._scope[STARTED] = True
        await self._send(start)

    def write(self, chunk: bytes) -> Awaitable[None]:
        return self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})
        _drop_later(self._receive)

    def drop(self) -> None:
        _drop(self._receive)

    async def gone(self) -> None:
        await _gone(self._receive)


class AsgiSocket(Socket):
    """A WebSocket as ASGI has it.

    Args:
        scope: Of type ``websocket``.
        receive: The server's.
        send: The server's.
        path: Below the mount's prefix.
    """

    __slots__ = ("_path", "_receive", "_request", "_scope", "_send")

    def __init__(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._path = path
        self._request: HttpRequest | None = None

    @property
    def request(self) -> HttpRequest:
        """See ``Socket``."""
        if self._request is None:
            self._request = request_from(self._scope, self._receive, self._path)
        return self._request

    @property
    def subprotocols(self) -> Sequence[str]:
        """See ``Socket``."""
        offered: Sequence[str] = self._scope.get("subprotocols", ())
        return offered

    async def refuse(self, response: HttpResponse) -> None:
        """See ``Socket``."""
        await self._receive()  # websocket.connect
        if "websocket.http.response" not in self._scope.get("extensions", {}):
            await self._send({"type": "websocket.close"})  # the server says 403
            return
        head = {"status": response.status, "headers": response.headers}
        await self._send({"type": "websocket.http.response.start", **head})
        await self._send({"type": "websocket.http.response.body", "body": response.body})

    async def accept(self, subprotocol: str | None, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """See ``Socket``."""
        await self._receive()  # websocket.connect
        self._request = None  # idle sessions are many; whoever asks again has it made again
        accept = {"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers}
        await self._send(accept)

    async def receive(self) -> str | bytes | None:
        """See ``Socket``."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            return None
        text: str | None = message.get("text")
        return text if text is not None else bytes(message.get("bytes") or b"")

    def send(self, text: str) -> Awaitable[None]:
        """See ``Socket``."""
        return self._send({"type": "websocket.send", "text": text})

    async def close(self, code: int, reason: str) -> None:
        """See ``Socket``."""
        await self._send({"type": "websocket.close", "code": int(code), "reason": reason})
        _drop_later(self._receive)

    def drop(self) -> None:
        """See ``Socket``."""
        _drop(self._receive)


def _transport(receive: Receive) -> Any:
    """Return the transport below a server's ``receive``; ``None`` where it is not found.

    ASGI has no word for dropping a connection. When an app returns, uvicorn and gunicorn close it in order: until the
    client has taken all, for ever where it takes nothing, the connection stays, and the server waits for it at its end.
    Their ``receive`` is a method of what has the transport, unless a middleware of the host's stands before it.
    """
    owner = getattr(receive, "__self__", None)
    for holder in (owner, getattr(owner, "protocol", None)):
        transport = getattr(holder, "transport", None)
        if hasattr(transport, "abort") and hasattr(transport, "get_write_buffer_size"):
            return transport
    return None


def _drop(receive: Receive) -> None:
    transport = _transport(receive)
    if transport is not None:
        transport.abort()


def _drop_later(receive: Receive) -> None:
    """Drop a connection that was ended, if the client does not take the rest, or does not end TLS as well.

    For the latter asyncio waits 30 s, and the server with it.
    """
    transport = _transport(receive)
    if transport is None:
        return
    is_encrypted = transport.get_extra_info("ssl_object") is not None
    if not (is_encrypted or transport.get_write_buffer_size()):
        return

    def drop() -> None:
        if is_encrypted or transport.get_write_buffer_size():
            transport.abort()

    asyncio.get_running_loop().call_later(_LAST_LIMIT, drop)

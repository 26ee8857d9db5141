"""Between ASGI and the protocol's messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect

from prefsync.http import ClientGoneError, HttpRequest, HttpResponse, Sink, Socket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

__all__ = ["AsgiSocket", "reader_of", "request_from", "send_response"]


def request_from(scope: Scope, receive: Receive, path: str) -> HttpRequest:
    """Translate an ASGI scope.

    Args:
        scope: Of type ``http``.
        receive: Where the body comes from.
        path: Below the mount's prefix.
    """
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers[name] = headers[name] + b", " + value if name in headers else value
    client = scope.get("client")

    async def read(limit: int) -> bytes:
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

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    return HttpRequest(
        scope.get("method", "GET"),  # a WebSocket's handshake is one (RFC 6455, section 4.1)
        path,
        scope["query_string"],
        headers,
        client[0] if client else "",
        read,
        gone,
    )


def reader_of(request: Request) -> Callable[[int], Awaitable[bytes]]:
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
        await self._send(start)

    async def write(self, chunk: bytes) -> None:
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})

    async def gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


class AsgiSocket(Socket):
    """A WebSocket as ASGI has it.

    Args:
        scope: Of type ``websocket``.
        receive: The server's.
        send: The server's.
        path: Below the mount's prefix.
    """

    __slots__ = ("_can_refuse", "_receive", "_send", "request", "subprotocols")

    def __init__(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        self.request = request_from(scope, receive, path)
        self.subprotocols: Sequence[str] = scope.get("subprotocols", ())
        self._can_refuse = "websocket.http.response" in scope.get("extensions", {})
        self._receive = receive
        self._send = send

    async def refuse(self, response: HttpResponse) -> None:
        """See ``Socket``."""
        await self._receive()  # websocket.connect
        if not self._can_refuse:
            await self._send({"type": "websocket.close"})  # the server says 403
            return
        head = {"status": response.status, "headers": response.headers}
        await self._send({"type": "websocket.http.response.start", **head})
        await self._send({"type": "websocket.http.response.body", "body": response.body})

    async def accept(self, subprotocol: str | None) -> None:
        """See ``Socket``."""
        await self._receive()  # websocket.connect
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol})

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

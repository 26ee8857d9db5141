"""Between ASGI and the protocol's messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect

from prefsync.http import ClientGoneError, HttpRequest, HttpResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

__all__ = ["reader_of", "request_from", "send_response"]


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
        scope["method"], path, scope["query_string"], headers, client[0] if client else "", read, gone
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


async def send_response(response: HttpResponse, send: Send) -> None:
    """Send an answer."""
    start: dict[str, Any] = {
        "type": "http.response.start",
        "status": response.status,
        "headers": response.headers,
    }
    await send(start)
    await send({"type": "http.response.body", "body": response.body})

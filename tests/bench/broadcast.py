"""The floor of fan-out: the same server, which sends what it is given to all in a room, and does nothing else.

FastAPI's own WebSocket endpoint and a plain streaming answer, as one would write them by hand.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from starlette.routing import Route

__all__ = ["app"]

app = FastAPI(openapi_url=None)

_sockets: defaultdict[str, set[WebSocket]] = defaultdict(set)
_streams: defaultdict[str, set[Any]] = defaultdict(set)


@app.get("/")
async def ready() -> Response:
    """Say that the server is up."""
    return Response(status_code=204)


@app.websocket("/ws")
async def connect(socket: WebSocket, room: str) -> None:
    """Keep a connection until it goes."""
    await socket.accept(subprotocol="prefsync.v1")
    await socket.receive_text()
    await socket.send_text('{"revision":0}')
    _sockets[room].add(socket)
    try:
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        _sockets[room].discard(socket)


class _Stream:
    """An ASGI app; Starlette takes a function for a handler of its own kind."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Keep an event stream until it goes."""
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'data: {"revision":0}\n\n', "more_body": True})
        room = Request(scope).query_params["room"]
        _streams[room].add(send)
        while (await receive())["type"] != "http.disconnect":
            pass
        _streams[room].discard(send)


app.router.routes.append(Route("/events", _Stream()))


@app.post("/broadcast")
async def broadcast(request: Request, room: str) -> Response:
    """Send a body to all in a room."""
    body = await request.body()
    text, event = body.decode(), b"data: " + body + b"\n\n"
    for socket in list(_sockets[room]):
        await socket.send_text(text)
    for send in list(_streams[room]):
        await send({"type": "http.response.body", "body": event, "more_body": True})
    return Response(status_code=204)

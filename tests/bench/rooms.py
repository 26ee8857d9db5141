"""The floor of Socket.IO: bare python-socketio, which emits what it is given to a room, and does nothing else.

As its documentation shows it: ``AsyncServer`` with its defaults under its own ``ASGIApp``, a room for each user.
"""

from __future__ import annotations

from typing import Any

import socketio
from fastapi import FastAPI, Request, Response

__all__ = ["app"]

_NAMESPACE = "/preferences"
_ROOM = "user"

_http = FastAPI(openapi_url=None)
_server = socketio.AsyncServer(async_mode="asgi", namespaces=[_NAMESPACE])

app = socketio.ASGIApp(_server, _http)


@_http.get("/")
async def ready() -> Response:
    """Say that the server is up."""
    return Response(status_code=204)


@_server.on("connect", namespace=_NAMESPACE)
async def connect(sid: str, _environ: dict[str, Any], _auth: Any) -> None:
    """Let everybody in."""
    await _server.enter_room(sid, _ROOM, namespace=_NAMESPACE)
    await _server.emit("welcome", {"revision": 0}, to=sid, namespace=_NAMESPACE)


@_http.post("/broadcast")
async def broadcast(request: Request) -> Response:
    """Emit a body to all who are connected."""
    change = await request.json()
    await _server.emit(change.pop("type"), change, room=_ROOM, namespace=_NAMESPACE)
    return Response(status_code=204)

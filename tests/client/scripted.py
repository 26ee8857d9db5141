"""A real HTTP server that answers as a test says: rubbish, late, in pieces, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl

from tests.servers import HOST

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

__all__ = ["Asked", "Scripted", "document", "event", "page", "respond", "stream_head"]

SCHEMA = "tag1"


@dataclass(frozen=True)
class Asked:
    """A request that came.

    Attributes:
        number: How many came before it.
        headers: By name in lower case.
    """

    number: int
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter = field(repr=False)
    reader: asyncio.StreamReader = field(repr=False)

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def hang(self) -> None:
        """Wait until the client hangs up."""
        await self.reader.read()


class Scripted:
    """A server; an async context manager.

    Args:
        answer: What to do with a request. The connection is closed after it.

    Attributes:
        asked: The requests that came.
        hung_up: Set when a client has closed a connection that waited in ``hang``.
    """

    def __init__(self, answer: Callable[[Asked], Awaitable[None]]) -> None:
        self._answer = answer
        self.asked: list[Asked] = []
        self.hung_up = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.url = f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}/preferences"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for asked in self.asked:
            asked.writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
            method, target, _ = head[0].split(" ")
            pairs = (line.partition(":") for line in head[1:])
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            path, _, query = target.partition("?")
            fields = dict(parse_qsl(query, keep_blank_values=True))
            path = path.removeprefix("/preferences")
            asked = Asked(len(self.asked), method, path, fields, headers, body, writer, reader)
            self.asked.append(asked)
            await self._answer(asked)
        if reader.at_eof():
            self.hung_up.set()
        writer.close()


def respond(status: int, body: bytes | Mapping[str, Any], headers: Mapping[str, str] | None = None) -> bytes:
    """Return an answer; a mapping is sent as JSON, an error's as a problem."""
    lines = {"Content-Type": "text/html"}
    if not isinstance(body, bytes):
        lines["Content-Type"] = "application/problem+json" if status >= 400 else "application/json"
        body = json.dumps(body).encode()
    lines |= {"Content-Length": str(len(body)), "Connection": "close", **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} So\r\n{head}\r\n".encode() + body


def problem(status: int, name: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a problem."""
    members = {"type": f"urn:prefsync:problem:{name}", "title": "No", "status": status, "detail": "not now"}
    return respond(status, members, headers)


def document(revision: int = 7) -> bytes:
    """Return a whole document."""
    body = {"revision": revision, "schema": SCHEMA, "values": {"plugins": {"n": revision}}}
    return respond(200, body, {"ETag": f'"{revision}"', "Prefsync-Revision": str(revision)})


def change(revision: int, previous: int) -> dict[str, Any]:
    """Return a change."""
    return {
        "revision": revision,
        "previous": previous,
        "at": "2026-11-23T03:05:46.007Z",
        "origin": None,
        "changed": {"plugins": {"n": revision}},
        "removed": {},
    }


def reset(revision: int) -> dict[str, Any]:
    """Return a reset."""
    return {"revision": revision, "schema": SCHEMA, "values": {"plugins": {"n": revision}}}


def page(revision: int, *changes: dict[str, Any]) -> bytes:
    """Return a page of changes."""
    body = {
        "revision": revision,
        "schema": SCHEMA,
        "reset": False,
        "has_more": False,
        "changes": list(changes),
    }
    return respond(200, body)


def reset_page(revision: int) -> bytes:
    """Return a page that is a reset."""
    return respond(200, {"reset": True, "has_more": False, "changes": [], **reset(revision)})


def stream_head() -> bytes:
    """Return the head of an event stream."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\n\r\n"


def event(name: str, data: Mapping[str, Any]) -> bytes:
    """Return an event."""
    return f"id: {data.get('revision', 0)}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()

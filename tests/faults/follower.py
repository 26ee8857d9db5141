"""Sessions that stay with a user through whatever happens, and note all that they are told."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx2
from websockets.exceptions import WebSocketException

from tests.faults.crowd import headers_of, http_client, open_web_socket
from tests.faults.history import Reset, event_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from tests.faults.history import Event

KINDS = ("ws", "sse", "poll")

# Seconds before a session that lost its connection opens another.
RETRY = 0.05


class ServerAwayError(Exception):
    """The server cannot be reached, or says that it cannot answer now: come again."""


# How a connection that is lost shows itself.
LOST = (httpx2.TransportError, WebSocketException, OSError, EOFError, TimeoutError, ServerAwayError)


class Follower:
    """One session of a user at one server, which comes back with its position whenever it loses its connection.

    Args:
        base: The server's URL.
        user: Whose changes are followed.
        kind: The transport, of ``KINDS``.

    Attributes:
        events: All that it was told, over all connections.
        connections: How many it has had; a long poll counts as one as long as it is answered.
    """

    def __init__(self, base: str, user: str, kind: str) -> None:
        self.events: list[Event] = []
        self.connections = 0
        self.name = f"{user} over {kind} at {base}"
        self._base = base
        self._headers = headers_of(user)
        self._follow = {"ws": self._web_socket, "sse": self._event_stream, "poll": self._long_polls}[kind]

    @property
    def position(self) -> int:
        """The newest revision that it was told; -1 before it was told any."""
        return self.events[-1].revision if self.events else -1

    @property
    def resets(self) -> int:
        """How often it was told a whole state, other than at its beginning."""
        return sum(isinstance(event, Reset) for event in self.events[1:])

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                async for message in self._follow():
                    self.events.append(event_of(message))
            except LOST:
                await asyncio.sleep(RETRY)

    async def _web_socket(self) -> AsyncIterator[Mapping[str, Any]]:
        async with open_web_socket(self._base, self._headers) as socket:
            hello = {"type": "hello"} if self.position < 0 else {"type": "hello", "since": self.position}
            await socket.send(json.dumps(hello))
            async for frame in socket:
                message = json.loads(frame)
                if message["type"] == "welcome":
                    self.connections += 1
                    for change in message["changes"]:
                        yield change
                elif message["type"] in {"reset", "change"}:
                    self.connections += message["type"] == "reset"
                    yield message
        raise ServerAwayError

    async def _event_stream(self) -> AsyncIterator[Mapping[str, Any]]:
        query = "" if self.position < 0 else f"?since={self.position}"
        async with (
            http_client(self._base) as client,
            client.stream("GET", f"/events{query}", headers=self._headers) as response,
        ):
            expect_success(
                response.status_code, await response.aread() if response.status_code != 200 else b""
            )
            self.connections += 1
            kind = ""
            async for line in response.aiter_lines():
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: ") and kind in {"reset", "change"}:
                    yield json.loads(line.removeprefix("data: "))
        raise ServerAwayError

    async def _long_polls(self) -> AsyncIterator[Mapping[str, Any]]:
        async with http_client(self._base) as client:
            if self.position < 0:
                yield await self._ask(client, "")
            self.connections += 1
            while True:
                page = await self._ask(client, f"/changes?since={self.position}&wait=20")
                changes: Sequence[Mapping[str, Any]] = [page] if page["reset"] else page["changes"]
                for change in changes:
                    yield change

    async def _ask(self, client: httpx2.AsyncClient, path: str) -> Any:
        response = await client.get(path, headers=self._headers)
        expect_success(response.status_code, response.content)
        return response.json()


def expect_success(status: int, body: bytes) -> None:
    """Return where a request succeeded.

    Raises:
        ServerAwayError: The server says that it cannot answer now.
        AssertionError: It says anything else.
    """
    if status == 503:
        raise ServerAwayError
    assert status == 200, f"{status}: {body[:300]!r}"

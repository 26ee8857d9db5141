"""What the suite needs of a mount: somebody who runs the app under a real server, and a client of it."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from prefsync.testing.mount.client import Answer, MountClient, MountHost
from prefsync.testing.realtime.wire import (
    PATIENCE,
    Connection,
    EventStream,
    WebSocket,
    connect,
    request,
    upgrade,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

__all__ = ["SUBPROTOCOL", "RealtimeClient", "RealtimeHost"]

SUBPROTOCOL: Final = "prefsync.v1"


class RealtimeClient(MountClient):
    """A client of an app that runs under a real server.

    Streams are opened over sockets of this class's own: a transport that runs the app in this process would collect
    them first. Plain requests go whichever way the mount's own client takes.

    Args:
        address: The server's host and port.
        prefix: Where the app has its mount.
        source: The address that this client comes from.
    """

    def __init__(self, address: tuple[str, int], prefix: str, source: str | None = None) -> None:
        self.address = address
        self.prefix = prefix
        self.source = source

    @abstractmethod
    def elsewhere(self) -> RealtimeClient:
        """See ``MountClient``."""

    @abstractmethod
    def memory(self) -> int:
        """Return the bytes of memory that the server's process has resident."""

    @abstractmethod
    def stop(self) -> None:
        """Ask the server's process to end (SIGTERM), and do not wait for it."""

    @abstractmethod
    def log(self) -> str:
        """Return what the server's process has printed so far."""

    @property
    def authority(self) -> str:
        """What stands in ``Host``."""
        return f"{self.address[0]}:{self.address[1]}"

    async def connect(self, *, receive_buffer: int | None = None) -> Connection:
        """Open a bare connection, which the caller closes."""
        return await connect(self.address, self.source, receive_buffer=receive_buffer)

    def target(self, path: str, query: str = "") -> str:
        """Return a request's target for a path below the prefix."""
        return f"{self.prefix}{path}" + (f"?{query}" if query else "")

    @asynccontextmanager
    async def websocket(
        self,
        *,
        headers: Mapping[str, str] | None = None,
        query: str = "",
        path: str = "/ws",
        subprotocols: Sequence[str] = (SUBPROTOCOL,),
        receive_buffer: int | None = None,
    ) -> AsyncIterator[WebSocket]:
        """Open a WebSocket, whose handshake must succeed; no ``hello`` is sent.

        Args:
            headers: More headers of the handshake.
            query: What follows the question mark.
            path: Below the prefix.
            subprotocols: What to offer.
            receive_buffer: Bytes that the system keeps while the client does not read.
        """
        connection = await self.connect(receive_buffer=receive_buffer)
        try:
            found = await self._shake_hands(connection, headers, query, path, subprotocols)
            assert found.status == 101, f"{found.status}: {found.body!r}"
            assert found.headers["Sec-WebSocket-Protocol"] == SUBPROTOCOL
            yield WebSocket(connection)
        finally:
            connection.close()

    async def handshake(
        self,
        *,
        headers: Mapping[str, str] | None = None,
        query: str = "",
        path: str = "/ws",
        subprotocols: Sequence[str] = (SUBPROTOCOL,),
    ) -> Answer:
        """Return what the server answers to a handshake, and hang up."""
        connection = await self.connect()
        try:
            return await self._shake_hands(connection, headers, query, path, subprotocols)
        finally:
            connection.close()

    async def _shake_hands(
        self,
        connection: Connection,
        headers: Mapping[str, str] | None,
        query: str,
        path: str,
        subprotocols: Sequence[str],
    ) -> Answer:
        lines = dict(headers or {}).items()
        await connection.send(upgrade(self.target(path, query), self.authority, lines, subprotocols))
        return await connection.answer()

    @asynccontextmanager
    async def events(
        self,
        *,
        headers: Mapping[str, str] | None = None,
        query: str = "",
        path: str = "/events",
        receive_buffer: int | None = None,
    ) -> AsyncIterator[EventStream]:
        """Open an event stream, which must be granted.

        Args:
            headers: Of the request.
            query: What follows the question mark.
            path: Below the prefix.
            receive_buffer: Bytes that the system keeps while the client does not read.
        """
        connection = await self.connect(receive_buffer=receive_buffer)
        try:
            lines = dict(headers or {}).items()
            await connection.send(request("GET", self.target(path, query), self.authority, lines))
            async with asyncio.timeout(PATIENCE):
                status, found = await connection.head()
            assert status == 200, status
            assert "chunked" in found.members("Transfer-Encoding")
            yield EventStream(connection, found)
        finally:
            connection.close()


class RealtimeHost(MountHost):
    """Who runs the app under test, each time in a process of its own under a real server."""

    @abstractmethod
    def open(self, settings: Mapping[str, str]) -> AbstractAsyncContextManager[RealtimeClient]:
        """See ``MountHost``."""

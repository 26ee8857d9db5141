"""Listeners between a mount and its servers, which note what goes over the wire."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Self
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

# Codes of PostgreSQL's first messages, which have no type.
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104


def is_housekeeping(sql: str) -> bool:
    """Tell whether a statement is one that a process sends now and then, whatever the requests are."""
    words = " ".join(sql.split())
    return (
        words == "SELECT 1"
        or "preference_relay" in words
        or "FROM preference_changes WHERE at >= " in words
        or "FROM jsonb_array_elements(" in words  # the revisions of all who are followed
        or words.startswith(("DELETE FROM preference_changes", "DELETE FROM preference_requests"))
    )


class Tap(ABC):
    """A forwarding listener on this event loop; an async context manager.

    Args:
        url: Of the server behind it.

    Attributes:
        trips: What was sent in each round trip, in order: what was asked, and the message as it was.
    """

    default_port: ClassVar[int]

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._port = 0
        self._server: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()
        self.trips: list[list[tuple[str, bytes]]] = []

    @property
    def url(self) -> str:
        """Where to connect instead."""
        user, at, _ = self._target.netloc.rpartition("@")
        return urlunsplit(self._target._replace(netloc=f"{user}{at}127.0.0.1:{self._port}"))

    @contextlib.contextmanager
    def noting(self, *about: bytes) -> Iterator[list[list[str]]]:
        """Note the round trips of a block.

        Args:
            about: Only those with a message in which one of these occurs, a user's id say. Without any, all but what a
                process asks of its own accord.
        """
        start = len(self.trips)
        noted: list[list[str]] = []
        yield noted
        for trip in self.trips[start:]:
            if about:
                asked = [what for what, message in trip if any(one in message for one in about)]
            else:
                asked = [what for what, _ in trip if not self._is_housekeeping(what)]
            if asked:
                noted.append(asked)

    @abstractmethod
    def _is_housekeeping(self, asked: str) -> bool:
        """Tell whether something is what a process asks now and then, whatever the requests are."""

    @abstractmethod
    async def _read(
        self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter, to_server: asyncio.StreamWriter
    ) -> None:
        """Forward what a client sends, and note it, until the client goes."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._carrying):
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    async def _carry(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        host, port = self._target.hostname or "127.0.0.1", self._target.port or self.default_port
        server, to_server = await asyncio.open_connection(host, port)
        back = asyncio.create_task(self._answer(server, to_client))
        try:
            await self._read(client, to_client, to_server)
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass  # the client has gone, or the test is over
        finally:
            back.cancel()
            to_server.transport.abort()
            to_client.transport.abort()
            self._carrying.discard(task)

    async def _answer(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await server.read(65_536):
                to_client.write(data)
        to_client.close()


class PostgresTap(Tap):
    """Notes the SQL of each statement that PostgreSQL is asked to run, simple or prepared.

    https://www.postgresql.org/docs/current/protocol-message-formats.html
    """

    default_port = 5432

    def _is_housekeeping(self, asked: str) -> bool:
        return is_housekeeping(asked)

    async def _read(
        self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter, to_server: asyncio.StreamWriter
    ) -> None:
        while True:
            head = await client.readexactly(8)
            if int.from_bytes(head[4:]) in {SSL_REQUEST, GSSENC_REQUEST}:
                to_client.write(b"N")  # in clear text, or there would be nothing to note
                continue
            to_server.write(head + await client.readexactly(int.from_bytes(head[:4]) - 8))
            break
        prepared: dict[bytes, str] = {}
        bound = ("", b"")
        trip: list[tuple[str, bytes]] = []
        while True:
            head = await client.readexactly(5)
            body = await client.readexactly(int.from_bytes(head[1:]) - 4)
            match head[:1]:
                case b"P":  # Parse: statement, query
                    name, query, *_ = body.split(b"\0")
                    prepared[name] = query.decode()
                case b"B":  # Bind: portal, statement
                    bound = (prepared[body.split(b"\0")[1]], body)
                case b"E":
                    trip.append(bound)
                case b"Q":
                    trip.append((body.rstrip(b"\0").decode(), body))
            if head[:1] in b"QSH" and trip:  # a simple query, Sync or Flush: now the client waits
                self.trips.append(trip)
                trip = []
            to_server.write(head + body)


class RedisTap(Tap):
    """Notes the commands that Redis is sent; those that arrive before it has answered are one round trip.

    https://redis.io/docs/latest/develop/reference/protocol-spec/
    """

    default_port = 6379

    def _is_housekeeping(self, asked: str) -> bool:
        return asked in {"PING", "GETRANGE", "SUBSCRIBE", "HELLO", "CLIENT", "AUTH", "SELECT"}

    async def _read(
        self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter, to_server: asyncio.StreamWriter
    ) -> None:
        del to_client
        while True:
            # What one write of the client's brought, as far as it is here: a pipeline is one.
            self.trips.append([await self._command(client, to_server)])
            while client._buffer:  # type: ignore[attr-defined]  # there is no public way to ask for what is here
                self.trips[-1].append(await self._command(client, to_server))

    async def _command(
        self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter
    ) -> tuple[str, bytes]:
        head = await client.readuntil(b"\r\n")
        assert head.startswith(b"*"), head
        sent, words = [head], []
        for _ in range(int(head[1:])):
            size = await client.readuntil(b"\r\n")
            word = await client.readexactly(int(size[1:]) + 2)
            sent += [size, word]
            words.append(word[:-2])
        message = b"".join(sent)
        to_server.write(message)
        return words[0].decode().upper(), message

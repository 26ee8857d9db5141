"""A proxy before PostgreSQL that counts what clients send.

PostgreSQL itself tells statements only by an extension that must be loaded when the server starts. The wire tells them
to anybody (https://www.postgresql.org/docs/current/protocol-message-formats.html), and round trips too. Not for
measurements of time: it is in the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit, urlunsplit

from tests.http.wire import GSSENC_REQUEST, SSL_REQUEST, is_housekeeping

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["PostgresTap"]

_ROUND_TRIPS: Final = b"QSH"  # simple Query, Sync, Flush


class PostgresTap:
    """A forwarding listener in a thread of its own; a context manager.

    Args:
        url: Of the database behind it. TLS is refused, or there would be nothing to count.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tap", daemon=True)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._statements = 0
        self._trips = 0

    @property
    def url(self) -> str:
        """Where to connect instead."""
        user, at, _ = self._target.netloc.rpartition("@")
        return urlunsplit(self._target._replace(netloc=f"{user}{at}127.0.0.1:{self._port}"))

    def read(self) -> dict[str, float]:
        """Read the counters, as a meter does.

        ``statements`` are those sent for somebody: what a process asks of its own accord is left out, and so is the
        begin and the end of a transaction, which need not be anybody's. ``postgres_trips`` leaves out nothing.
        """
        return {"statements": self._statements, "postgres_trips": self._trips}

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        carrying = asyncio.all_tasks() - {asyncio.current_task()}
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)

    async def _carry(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        host, port = self._target.hostname or "127.0.0.1", self._target.port or 5432
        server, to_server = await asyncio.open_connection(host, port)
        back = asyncio.create_task(_copy(server, to_client))
        # asyncio's server would log a task that is cancelled, or whose client is gone.
        with contextlib.suppress(asyncio.CancelledError, asyncio.IncompleteReadError, OSError):
            await self._greet(client, to_client, to_server)
            counts: dict[bytes, bool] = {}  # by the names of prepared statements
            bound = False
            while True:
                head = await client.readexactly(5)
                body = await client.readexactly(int.from_bytes(head[1:]) - 4)
                match head[:1]:
                    case b"P":  # Parse: statement, query
                        name, query, _ = body.split(b"\0", 2)
                        counts[name] = not is_housekeeping(query.decode())
                    case b"B":  # Bind: portal, statement
                        bound = counts[body.split(b"\0", 2)[1]]
                    case b"E":
                        self._statements += bound
                    case b"Q" if not body.startswith((b"BEGIN", b"COMMIT", b"ROLLBACK")):
                        self._statements += not is_housekeeping(body.rstrip(b"\0").decode())
                self._trips += head[0] in _ROUND_TRIPS
                to_server.write(head + body)
        back.cancel()
        to_server.transport.abort()
        to_client.transport.abort()

    async def _greet(
        self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter, to_server: asyncio.StreamWriter
    ) -> None:
        while True:
            head = await client.readexactly(8)
            if int.from_bytes(head[4:]) in {SSL_REQUEST, GSSENC_REQUEST}:
                to_client.write(b"N")
                continue
            to_server.write(head + await client.readexactly(int.from_bytes(head[:4]) - 8))
            return


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
    writer.close()  # a client that said goodbye waits for it

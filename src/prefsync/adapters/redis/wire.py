"""One connection to Redis: commands written as they come, replies handed back in order.

redis-py makes the connection, with all that a URL or a host's client can say about it (address, TLS, credentials,
database). From then on its streams, its parser and its pool are passed over: they cost several times as much as the
commands themselves.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Self

import hiredis
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    RedisError,
    ResponseError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RoleLostError", "Wire"]

_NOTHING: Final = object()

# What a server says that is no longer, or not yet, the one to talk to: demoted, loading, cut off, or with a new
# password. A new connection may find a better one.
_LOST_ROLES: Final = ("READONLY ", "LOADING ", "MASTERDOWN ", "NOAUTH ")


class RoleLostError(ResponseError):
    """The server is not one that can do what it is asked for."""


# Of a cluster: the slot is elsewhere, for this once or for good, or it is nowhere.
_REDIRECTIONS: Final[dict[str, Callable[[str], ResponseError]]] = {
    "ASK": AskError,
    "MOVED": MovedError,
    "CLUSTERDOWN": ClusterDownError,
}


def _reply_error(text: str) -> ResponseError:
    if text.startswith("NOSCRIPT "):
        return NoScriptError(text)
    if text.startswith(_LOST_ROLES):
        return RoleLostError(text)
    kind, _, rest = text.partition(" ")
    if kind in _REDIRECTIONS:
        return _REDIRECTIONS[kind](rest)
    return ResponseError(text)


class Wire(asyncio.Protocol):
    """A connection.

    Args:
        connection: redis-py's, connected.
        answered: Called with each reply, in order; an error is a reply.
        lost: Called when the connection is gone, with the reason if there is one.
        pushed: Called with what the server sends unasked (RESP3, "push types"), if anybody wants it.
    """

    def __init__(
        self,
        connection: Any,
        answered: Callable[[Any], None],
        lost: Callable[[Wire, Exception | None], None],
        *,
        pushed: Callable[[Any], None] | None = None,
    ) -> None:
        # None of this has a public name in redis-py. The connection is told that it has nothing to do with it any
        # more; the writer is kept, because it would close the transport when it is collected.
        self._writer, connection._writer, connection._reader = connection._writer, None, None  # noqa: SLF001
        self._answered = answered
        self._lost = lost
        self._pushed = pushed
        self._reader = hiredis.Reader(replyError=_reply_error, notEnoughData=_NOTHING)
        self._closed = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport = self._writer.transport
        self._transport.set_protocol(self)

    @classmethod
    async def open(
        cls, connection: Any, answered: Callable[[Any], None], lost: Callable[[Wire, Exception | None], None]
    ) -> Self:
        """Connect.

        Args:
            connection: redis-py's, not connected yet.
            answered: As above.
            lost: As above.

        Raises:
            RedisError: Redis refuses the credentials or the database.
            OSError: It is not there.
        """
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return cls(connection, answered, lost)

    def write(self, commands: bytes) -> None:
        """Send packed commands; on a connection that is lost, nothing happens."""
        self._transport.write(commands)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        reader, answered = self._reader, self._answered
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _NOTHING:
                if not isinstance(reply, hiredis.PushNotification):
                    answered(reply)
                elif self._pushed is not None:
                    self._pushed(reply)
        except (hiredis.HiredisError, RedisError) as error:
            self._end(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self._lost(self, exc)
        if not self._closed.done():
            self._closed.set_result(None)

    def abort(self) -> None:
        """Give the connection up: what may still come on it is nobody's."""
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        self._transport.abort()
        self._lost(self, error)

    async def close(self) -> None:
        """Close the connection."""
        self._transport.close()
        await self._closed

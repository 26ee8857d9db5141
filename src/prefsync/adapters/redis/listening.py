"""One connection that listens to Redis, and finds out that it is deaf."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from prefsync.adapters.announcements import is_wanted
from prefsync.adapters.redis.wire import Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from prefsync.adapters.inbox import Inbox
    from prefsync.adapters.redis.link import RedisLink

__all__ = ["CONNECT_LIMIT", "LINK_ERRORS", "Line", "subscriber"]

logger = logging.getLogger("prefsync")

LINK_ERRORS: Final[tuple[type[Exception], ...]] = (RedisError, OSError, TimeoutError)
"""What reading from a connection that is lost raises."""

CONNECT_LIMIT: Final = 5.0
"""Seconds that connecting and subscribing may take."""

# Seconds between heartbeats, and how many may stay out before the link counts as lost. The wait is counted in looks and
# not by the clock, so that a process that was busy itself takes what has arrived before it judges.
_BEAT: Final = 1.0
_BEATS_MISSED: Final = 3


@asynccontextmanager
async def subscriber(link: RedisLink) -> AsyncIterator[Any]:
    """Hold a connection for a subscription alone."""
    pubsub = link.pubsub()
    # In a task of its own: cut off while it greets the server, the client would put a connection back for others on
    # which replies are still to come.
    connecting = asyncio.ensure_future(pubsub.connect())
    try:
        await asyncio.shield(connecting)
        yield pubsub.connection
    finally:
        await asyncio.wait([connecting], timeout=CONNECT_LIMIT)
        with suppress(*LINK_ERRORS):
            await pubsub.aclose()


class Line:
    """A subscriber's connection, subscribed and read until it is lost.

    A connection can be alive and deaf: after a failover it may lead to a server to which nobody publishes any more. So
    a heartbeat goes the way of the announcements, out by the client that publishes and in by this connection.

    Args:
        connection: To the server, for nobody else's use.
        verb: ``""`` for channels of the whole server or cluster, ``"s"`` for those of a shard.
        channels: Where announcements come from.
        beats: A channel of its own, for heartbeats; made different for each line.
        publish: Sends a command through the client that publishes.
        inbox: Gets what arrives and somebody wants.
        wanted: Tells by ``Subject.key`` what that is; ``None``: everything.
        alive: Told of each heartbeat that arrives, when it was sent, by ``time.monotonic``.
    """

    def __init__(
        self,
        connection: Any,
        verb: str,
        channels: Sequence[str],
        beats: str,
        publish: Callable[..., asyncio.Future[Any]],
        inbox: Inbox,
        wanted: Callable[[str], bool] | None,
        alive: Callable[[float], None],
    ) -> None:
        self._verb = verb
        self._message = f"{verb}message".encode()
        self._subscribe = f"{verb}subscribe".encode()
        self._unsubscribe = f"{verb}unsubscribe".encode()
        beats = f"{beats}:{secrets.token_hex(8)}"
        self._beats = beats.encode()
        self._channels = [*channels, beats]
        self._publish = publish
        self._inbox = inbox
        self._wanted = wanted
        self._alive = alive
        self._unheard = 0
        self._heard = 0
        self._unconfirmed = len(self._channels)
        loop = asyncio.get_running_loop()
        self._confirmed: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        # What the library does around each message costs as much as a write to the cache, and it would connect again by
        # itself without saying that something may have been missed.
        self._wire = Wire(
            connection, self._arrived, lambda _, reason: self._end(reason), pushed=self._arrived
        )
        self._pack = connection.pack_commands

    async def subscribe(self) -> None:
        """Subscribe; what is published when this returns arrives.

        Raises:
            RedisError, OSError, TimeoutError: The link is lost.
        """
        try:
            # One by one: channels of several slots must not share a command.
            self._send(*((self._subscribe, channel) for channel in self._channels))
            async with asyncio.timeout(_BEAT * _BEATS_MISSED):
                await self._confirmed
        except BaseException:
            self._wire.abort()
            raise

    async def listen(self) -> None:
        """Keep the link until it is lost.

        Raises:
            RedisError, OSError, TimeoutError: It is.
        """
        quiet = 0
        try:
            while True:
                self._beat()
                heard = self._heard
                await asyncio.wait([self._ended], timeout=_BEAT)
                if self._ended.done():
                    self._ended.result()
                quiet = quiet + 1 if self._heard == heard else 0
                if quiet >= _BEATS_MISSED:
                    raise TimeoutError("it does not answer")
                if quiet:
                    self._send(("PING",))
        finally:
            self._wire.abort()

    def _send(self, *commands: tuple[str | bytes, ...]) -> None:
        self._wire.write(b"".join(self._pack(commands)))

    def _arrived(self, reply: Any) -> None:
        self._heard += 1
        if isinstance(reply, Exception):
            self._end(reply)
        elif not isinstance(reply, list):
            return
        elif reply[0] == self._message:
            if reply[1] == self._beats:
                self._unheard = 0
                self._alive(float(reply[2]))
            elif is_wanted(reply[2], self._wanted):
                self._inbox.put(reply[2], len(reply[2]))
        elif reply[0] == self._subscribe:
            self._unconfirmed -= 1
            if not self._unconfirmed and not self._confirmed.done():
                self._confirmed.set_result(None)
        elif reply[0] == self._unsubscribe:
            self._end(RedisConnectionError("a channel has moved to another node"))

    def _end(self, reason: Exception | None) -> None:
        for future in (self._confirmed, self._ended):
            if not future.done():
                future.set_exception(reason or ConnectionResetError("the server closed the connection"))
                future.exception()  # nobody may be there who waits for it

    def _beat(self) -> None:
        if self._unheard >= _BEATS_MISSED:
            raise TimeoutError("it is deaf: what is published does not arrive")
        self._publish(f"{self._verb}publish".upper(), self._beats, repr(time.monotonic())).add_done_callback(
            self._sent
        )

    def _sent(self, reply: asyncio.Future[Any]) -> None:
        # One that could not be sent says nothing about this connection, which is asked by PING as well.
        if not reply.cancelled() and reply.exception() is None:
            self._unheard += 1

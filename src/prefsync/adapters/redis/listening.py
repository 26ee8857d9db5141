"""One connection that listens to Redis, and finds out that it is deaf."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from prefsync.adapters.announcements import key_of

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

# Seconds between heartbeats, and how many may stay out before the link counts as lost. The wait is counted in reads and
# not by the clock, so that a process that was busy itself looks at what has arrived before it judges.
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
    """

    def __init__(
        self,
        connection: Any,
        verb: str,
        channels: Sequence[str],
        beats: str,
        publish: Callable[..., asyncio.Future[Any]],
    ) -> None:
        self._connection = connection
        self._verb = verb
        self._message = f"{verb}message".encode()
        self._unsubscribe = f"{verb}unsubscribe".encode()
        self._beats = f"{beats}:{secrets.token_hex(8)}"
        self._channels = [*channels, self._beats]
        self._publish = publish
        self._unheard = 0

    async def subscribe(self) -> None:
        """Subscribe; what is published when this returns arrives."""
        connection = self._connection
        command = f"{self._verb}subscribe".upper()
        # One by one: channels of several slots must not share a command.
        packed = connection.pack_commands([(command, channel) for channel in self._channels])
        await connection.send_packed_command(packed, check_health=False)
        for _ in self._channels:
            reply = await self._read(_BEAT * _BEATS_MISSED)
            if reply is None:
                raise TimeoutError("the subscription is not confirmed")

    async def listen(self, inbox: Inbox, wanted: Callable[[str], bool] | None) -> None:
        """Put what arrives, and somebody wants, into an inbox until the link is lost.

        Raises:
            RedisError, OSError, TimeoutError: It is.
        """
        # Read from the connection itself: what the library does around each message costs as much as a write to the
        # cache, and it would connect again by itself without saying that something may have been missed.
        clock = asyncio.get_running_loop().time
        beats = self._beats.encode()
        next_beat = clock()
        quiet = 0
        while True:
            if clock() >= next_beat:
                next_beat = clock() + _BEAT
                self._beat()
            reply = await self._read(_BEAT)
            if reply is None:
                quiet += 1
                if quiet >= _BEATS_MISSED:
                    raise TimeoutError("it does not answer")
                await self._connection.send_command("PING", check_health=False)
                continue
            quiet = 0
            if not isinstance(reply, list):
                continue
            if reply[0] == self._message:
                if reply[1] == beats:
                    self._unheard = 0
                elif wanted is None or wanted(key_of(reply[2])):
                    inbox.put(reply[2], len(reply[2]))
            elif reply[0] == self._unsubscribe:
                raise RedisConnectionError("a channel has moved to another node")

    async def _read(self, limit: float) -> Any:
        reply = await self._connection.read_response(
            timeout=limit, disconnect_on_error=False, push_request=True
        )
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # The client sends by asyncio.wait_for, which swallows a cancellation on Python 3.11 (bpo-37658).
            raise asyncio.CancelledError
        return reply

    def _beat(self) -> None:
        if self._unheard >= _BEATS_MISSED:
            raise TimeoutError("it is deaf: what is published does not arrive")
        self._publish(f"{self._verb}publish".upper(), self._beats, b"").add_done_callback(self._sent)

    def _sent(self, reply: asyncio.Future[Any]) -> None:
        # One that could not be sent says nothing about this connection, which is asked by PING as well.
        if not reply.cancelled() and reply.exception() is None:
            self._unheard += 1

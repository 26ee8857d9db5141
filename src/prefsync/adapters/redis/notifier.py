"""Announcements over Redis pub/sub: at most once, which the core makes good."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
from redis.exceptions import RedisError, ResponseError

from prefsync.document import Change, Subject
from prefsync.errors import UnavailableError
from prefsync.ports import Announcement, ChangeNotifier, Gap, Lost
from prefsync.strictjson import decode, encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from prefsync.adapters.redis.link import RedisLink

__all__ = ["RedisNotifier"]

logger = logging.getLogger("prefsync")

# A message begins with the subject's key, so that a process without sessions of that subject reads no further.
_KEY_LENGTH: Final = len(Subject("x").key)

# Seconds without a message after which the link is tried; as long again without an answer, and it counts as lost.
_IDLE: Final = 5.0

# Seconds between attempts to get the subscription back.
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0


class RedisNotifier(ChangeNotifier):
    """Announcements on one channel for each deployment.

    Args:
        link: To Redis.
    """

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._channel = ""

    async def __aenter__(self) -> Self:
        await self._link.__aenter__()
        self._channel = f"{self._link.prefix}:changes:1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._link.__aexit__()

    def publish(self, announcement: Announcement) -> Awaitable[None]:
        return _finish(self._link.client.gather("PUBLISH", self._channel, _encode(announcement)))

    @asynccontextmanager
    async def subscribe(
        self, wanted: Callable[[str], bool] | None = None
    ) -> AsyncIterator[AsyncIterator[Announcement | Lost | Gap]]:
        subscription = _Subscription(self._link, self._channel, wanted)
        try:
            await subscription.connect()
            yield subscription.announcements()
        finally:
            await subscription.close()


class _Subscription:
    """One subscriber's connection, made again as often as it is lost."""

    def __init__(self, link: RedisLink, channel: str, wanted: Callable[[str], bool] | None) -> None:
        self._link = link
        self._wanted = wanted or _everything
        self._channel = channel
        self._pubsub: Any = None

    async def connect(self) -> bool:
        """Return whether the channel is subscribed to now; who cancels waits until ``close`` knows all there is."""
        # In a task of its own: cut off while it greets the server, the client would put a connection back for others
        # on which replies are still to come.
        connecting = asyncio.create_task(self._connect())
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await asyncio.wait({connecting})
            raise

    async def _connect(self) -> bool:
        pubsub = self._link.pubsub()
        try:
            async with asyncio.timeout(_IDLE):
                await pubsub.subscribe(self._channel)
                # The reply says that what is published from now on arrives.
                while (
                    not (message := await pubsub.get_message(timeout=_IDLE)) or message["type"] != "subscribe"
                ):
                    pass
        except (RedisError, OSError, TimeoutError):
            await _close(pubsub)
            return False
        self._pubsub = pubsub
        return True

    async def announcements(self) -> AsyncIterator[Announcement | Lost | Gap]:
        pause = _FIRST_PAUSE
        while True:
            if self._pubsub is None:
                if not await self.connect():
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
                    continue
                yield Gap()
            pause = _FIRST_PAUSE
            try:
                async for message in self._messages():
                    yield message
            except (RedisError, OSError, TimeoutError) as error:
                logger.warning(
                    "the subscription to Redis was lost (%s); connecting again", type(error).__name__
                )
                await self.close()

    async def _messages(self) -> AsyncIterator[Announcement | Lost | Gap]:
        # Read from the connection itself: what the library does around each message costs as much as a write to the
        # cache, and it would connect again by itself without saying that something may have been missed.
        connection = self._pubsub.connection
        asked = False
        while True:
            reply = await connection.read_response(
                timeout=_IDLE, disconnect_on_error=False, push_request=True
            )
            if reply is None:  # nothing for a while: is anybody there?
                if asked:
                    raise TimeoutError
                await connection.send_command("PING")
                asked = True
                continue
            asked = False
            if isinstance(reply, list) and reply[0] == b"message" and self._wanted(_key_of(reply[2])):
                announcement = _decode(reply[2])
                if announcement is not None:
                    yield announcement

    async def close(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            await _close(pubsub)


async def _close(pubsub: Any) -> None:
    # Also for who was cancelled: a connection that is left half closed stays subscribed.
    with suppress(RedisError, OSError, TimeoutError), anyio.CancelScope(shield=True):
        await pubsub.aclose()


async def _finish(reply: asyncio.Future[Any]) -> None:
    try:
        await reply
    except ResponseError as error:
        raise UnavailableError("notifier") from error


def _everything(_key: str) -> bool:
    return True


def _key_of(message: bytes) -> str:
    return message[:_KEY_LENGTH].decode("latin-1")


def _encode(announcement: Announcement) -> bytes:
    subject = announcement.subject
    change = announcement.change.to_json() if announcement.change else None
    return subject.key.encode() + encode([announcement.version, subject.tenant, subject.user, change])


def _decode(data: bytes) -> Announcement | None:
    """Read an announcement; what is none, by another version of prefsync say, is passed over."""
    try:
        version, tenant, user, change = decode(data[_KEY_LENGTH:])
        subject = Subject(user, tenant)
        return Announcement(subject, None if change is None else Change(**change), int(version))
    except (ValueError, TypeError):
        logger.warning("a message on the channel is no announcement; is another version of prefsync running?")
        return None

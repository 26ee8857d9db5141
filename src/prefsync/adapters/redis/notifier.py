"""Announcements over Redis pub/sub: at most once, which the core makes good."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

from redis.exceptions import ResponseError

from prefsync.adapters.announcements import pack, unpack
from prefsync.adapters.inbox import Inbox, fed, kept_up
from prefsync.adapters.redis.listening import CONNECT_LIMIT, LINK_ERRORS, Line, subscriber
from prefsync.errors import UnavailableError
from prefsync.ports import Alive, Announcement, ChangeNotifier, Gap, Lost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from prefsync.adapters.redis.link import RedisLink

__all__ = ["RedisNotifier"]


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
        return finish(self._link.client.gather("PUBLISH", self._channel, pack(announcement)))

    @asynccontextmanager
    async def subscribe(
        self, wanted: Callable[[str], bool] | None = None, *, pulse: bool = False
    ) -> AsyncIterator[AsyncIterator[Announcement | Lost | Gap | Alive]]:
        inbox = Inbox(unpack, has_pulse=pulse)

        async def listen() -> None:
            async with asyncio.timeout(CONNECT_LIMIT) as limit, subscriber(self._link) as connection:
                beats, publish = f"{self._link.prefix}:beat", self._link.client.gather
                line = Line(connection, "", [self._channel], beats, publish, inbox, wanted, inbox.alive)
                await line.subscribe()
                limit.reschedule(None)
                inbox.back()
                await line.listen()

        async with fed(inbox, lambda: kept_up(inbox, listen, LINK_ERRORS, "Redis")):
            yield inbox


async def finish(reply: asyncio.Future[Any]) -> None:
    """Wait until an announcement is sent.

    Raises:
        UnavailableError: It is not.
    """
    try:
        await reply
    except ResponseError as error:
        raise UnavailableError("notifier") from error

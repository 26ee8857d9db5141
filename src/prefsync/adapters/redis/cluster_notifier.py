"""Announcements over the sharded pub/sub of a Redis Cluster (Redis 7): each shard carries only its own."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from redis.exceptions import ConnectionError as RedisConnectionError

from prefsync.adapters.announcements import pack, unpack
from prefsync.adapters.inbox import Inbox, fed, kept_up
from prefsync.adapters.redis.listening import CONNECT_LIMIT, LINK_ERRORS, Line, subscriber
from prefsync.adapters.redis.notifier import finish
from prefsync.errors import ConfigurationError, UnavailableError
from prefsync.ports import Alive, Announcement, ChangeNotifier, Gap, Lost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from prefsync.adapters.redis.cluster import RedisClusterLink
    from prefsync.adapters.redis.nodes import Address

__all__ = ["RedisClusterNotifier"]

# What subjects' keys begin with, one channel for each: 64 of them spread evenly over as many shards as clusters have.
# (As a hash tag each is doubled: CRC16 of two characters is spread better than of one.)
_BEGINNINGS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

# Seconds between two looks at whether the channels are still where they are listened to.
_COMPARE: Final = 5.0


class RedisClusterNotifier(ChangeNotifier):
    """Announcements on a fixed number of sharded channels, chosen by the subject's key.

    A subscription holds one connection to each node that owns some of them. Announcements of one subject keep their
    order; those of two may overtake one another.

    Args:
        link: To the cluster.
    """

    def __init__(self, link: RedisClusterLink) -> None:
        self._link = link

    async def __aenter__(self) -> Self:
        await self._link.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._link.__aexit__()

    def publish(self, announcement: Announcement) -> Awaitable[None]:
        channel = self._channel(announcement.subject.key[0])
        return finish(self._link.client.gather("SPUBLISH", channel, pack(announcement)))

    @asynccontextmanager
    async def subscribe(
        self, wanted: Callable[[str], bool] | None = None, *, pulse: bool = False
    ) -> AsyncIterator[AsyncIterator[Announcement | Lost | Gap | Alive]]:
        inbox = Inbox(unpack, has_pulse=pulse)
        channels = {self._channel(beginning): beginning for beginning in _BEGINNINGS}
        lines = _Lines(self._link, channels, inbox, wanted)

        async def feed() -> None:
            try:
                await kept_up(inbox, lines.listen, (*LINK_ERRORS, UnavailableError), "the Redis cluster")
            finally:
                await lines.close()

        async with fed(inbox, feed):
            yield inbox

    def _channel(self, beginning: str) -> str:
        return f"{self._link.prefix}:changes:1:{{{beginning * 2}}}"


class _Lines:
    """The connections of one subscription, one for each node; those that are well outlive the loss of another one."""

    def __init__(
        self,
        link: RedisClusterLink,
        channels: dict[str, str],
        inbox: Inbox,
        wanted: Callable[[str], bool] | None,
    ) -> None:
        self._link = link
        self._channels = channels
        self._inbox = inbox
        self._wanted = wanted
        self._tasks: dict[Address, asyncio.Task[None]] = {}
        self._owners: dict[Address, list[str]] = {}
        self._alive: dict[Address, float] = {}

    async def listen(self) -> None:
        """Listen at every node that owns channels; return or raise when one of them is lost."""
        try:
            await self._link.nodes.look()
        except ConfigurationError as error:
            raise RedisConnectionError(str(error)) from error
        owners = self._link.nodes.owners(self._channels)
        if sum(map(len, owners.values())) < len(self._channels):
            raise UnavailableError("notifier")
        for address in [*self._tasks]:
            if self._tasks[address].done() or owners.get(address) != self._owners.get(address):
                await self._end(address)
        self._owners = owners
        await asyncio.gather(
            *(self._begin(address) for address in owners.keys() - self._tasks.keys())
        )  # those that fail do so after their time, and others stay
        self._inbox.back()
        while self._link.nodes.owners(self._channels) == owners:
            done, _ = await asyncio.wait(
                self._tasks.values(), timeout=_COMPARE, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
                return

    async def _begin(self, address: Address) -> None:
        subscribed = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._hold(address, self._owners[address], subscribed))
        self._tasks[address] = task
        await asyncio.wait([task, subscribed], return_when=asyncio.FIRST_COMPLETED)
        subscribed.cancel()
        if task.done():
            task.result()

    async def _hold(self, address: Address, channels: list[str], subscribed: asyncio.Future[None]) -> None:
        node = await self._link.nodes.node_at(address)
        prefix, tag = self._link.prefix, self._channels[channels[0]] * 2
        async with asyncio.timeout(CONNECT_LIMIT) as limit, subscriber(node) as connection:
            beats, publish = f"{prefix}:beat:{{{tag}}}", self._link.client.gather
            alive = partial(self._heard, address)
            line = Line(connection, "s", channels, beats, publish, self._inbox, self._wanted, alive)
            await line.subscribe()
            limit.reschedule(None)
            if not subscribed.done():
                subscribed.set_result(None)
            await line.listen()

    def _heard(self, address: Address, at: float) -> None:
        """Tell up to when all nodes were heard."""
        self._alive[address] = at
        if self._alive.keys() == self._owners.keys():
            self._inbox.alive(min(self._alive.values()))

    async def _end(self, address: Address) -> None:
        self._alive.pop(address, None)
        task = self._tasks.pop(address)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()

    async def close(self) -> None:
        """Close all connections."""
        for address in [*self._tasks]:
            await self._end(address)

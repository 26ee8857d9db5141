"""Tickets in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from redis.exceptions import ResponseError

from prefsync.errors import UnavailableError
from prefsync.ports import TicketStore

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from prefsync.adapters.redis.cluster import RedisClusterLink
    from prefsync.adapters.redis.link import RedisLink

__all__ = ["RedisTickets"]


class RedisTickets(TicketStore):
    """Tickets that every process on the same Redis can take (Redis 6.2 or later).

    Args:
        link: To Redis, or to a cluster.
    """

    def __init__(self, link: RedisLink | RedisClusterLink) -> None:
        self._link = link
        self._prefix = ""

    async def __aenter__(self) -> Self:
        await self._link.__aenter__()
        self._prefix = f"{self._link.prefix}:ticket:"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._link.__aexit__()

    async def put(self, name: str, content: bytes, life: int) -> None:
        await self._finish(self._link.client.gather("SET", self._prefix + name, content, "EX", life))

    async def take(self, name: str) -> bytes | None:
        return await self._finish(self._link.client.gather("GETDEL", self._prefix + name))

    async def _finish(self, reply: Awaitable[bytes | None]) -> bytes | None:
        try:
            return await reply
        except ResponseError as error:  # out of memory, read-only after a failover, loading after a restart
            raise UnavailableError(self._link.breaker.part) from error

"""What the contract runs share: looks inside our adapters, and outages of their servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import anyio
from sqlalchemy.pool import StaticPool

from prefsync.adapters.redis import RedisLink
from prefsync.errors import UnavailableError
from prefsync.testing import Outage
from prefsync.testing.samples import PATIENCE
from tests.servers import TcpProxy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prefsync.adapters.sqlalchemy import SqlAlchemyRepository

T = TypeVar("T")


def connections_out(repository: SqlAlchemyRepository) -> int:
    """Return how many connections a repository has taken from its pool and not given back."""
    runner: Any = repository._open_runner
    if runner is None:
        return 0
    connections = getattr(runner, "_connections", None)
    if connections is not None:
        return int(connections._open - len(connections._idle))
    pool = runner._engine.pool
    return 0 if isinstance(pool, StaticPool) else int(pool.checkedout())


def commands_under_way(link: RedisLink) -> int:
    """Return how many pipelines of a link are on their way."""
    return 0 if link._gathering is None else len(link._gathering._travelling)


OUTAGE_LIMIT = 0.5
"""Seconds after which tests of outages take a server for lost: not so few that a busy machine is one."""


def patient_link(url: str, prefix: str) -> RedisLink:
    """Return a link for tests without an outage: that the machine is busy with other tests is none."""
    return RedisLink(url, prefix=prefix, time_limit=10)


def impatient_link(url: str, prefix: str) -> RedisLink:
    """Return a link for tests of outages."""
    return RedisLink(url, prefix=prefix, time_limit=OUTAGE_LIMIT)


async def until_it_answers(call: Callable[[], Awaitable[T]]) -> T:
    """Call a server that is to come back until it has, and return its answer."""
    with anyio.fail_after(PATIENCE):
        while True:
            try:
                return await call()
            except UnavailableError:
                await anyio.sleep(0.02)


class Cut(Outage):
    """Closes every connection and refuses new ones."""

    def __init__(self, proxy: TcpProxy) -> None:
        self._proxy = proxy

    async def begin(self) -> None:
        """Cut."""
        await self._proxy.cut()

    async def end(self) -> None:
        """Let them through again."""
        await self._proxy.heal()


class BlackHole(Cut):
    """Keeps connections open and lets nothing pass, as a network does that drops packets."""

    async def begin(self) -> None:
        """Let nothing pass."""
        await self._proxy.blackhole()


OUTAGES = {"cut": Cut, "black hole": BlackHole}


def proxy_to(url: str) -> TcpProxy:
    """Return a proxy to the server of a URL."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    return TcpProxy(parts.hostname, parts.port or {"postgresql": 5432, "redis": 6379}[parts.scheme])


def through(proxy: TcpProxy, url: str) -> str:
    """Return a URL that leads through a proxy."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{user}{'@' if user else ''}127.0.0.1:{proxy.port}"))

"""What the contract runs share: looks inside our adapters, and outages of their servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from prefsync.adapters.redis import RedisLink
from prefsync.testing import Outage
from tests.servers import TcpProxy

if TYPE_CHECKING:
    from prefsync.adapters.sqlalchemy import SqlAlchemyRepository


def connections_out(repository: SqlAlchemyRepository) -> int:
    """Return how many connections a repository has taken from its pool and not given back."""
    runner: Any = repository._open_runner
    if runner is None:
        return 0
    connections = getattr(runner, "_connections", None)
    if connections is not None:
        return int(connections._open - len(connections._idle))
    return int(runner._engine.pool.checkedout())


def commands_under_way(link: RedisLink) -> int:
    """Return how many pipelines of a link are on their way."""
    return 0 if link._gathering is None else link._gathering._in_flight


def patient_link(url: str, prefix: str) -> RedisLink:
    """Return a link for tests without an outage: that the machine is busy with other tests is none."""
    return RedisLink(url, prefix=prefix, time_limit=10)


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

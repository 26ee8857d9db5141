"""Every notifier keeps the contract."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import asyncpg
import pytest
from anyio.to_thread import run_sync

from prefsync.adapters.memory import MemoryNotifier
from prefsync.adapters.postgres import PostgresNotifier
from prefsync.adapters.redis import RedisClusterLink, RedisClusterNotifier, RedisNotifier
from prefsync.testing import (
    Mishaps,
    NotifierContract,
    NotifierOutageContract,
    UnreliableNotifier,
    UnreliableNotifierContract,
)
from tests.contracts.support import OUTAGES, impatient_link, patient_link, proxy_to, through

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from prefsync.testing import Outage
    from tests.clusters import PrivateCluster
    from tests.servers import TcpProxy


class TestMemory(NotifierContract):
    """In this process."""

    async def open_subscriptions(self, notifier: MemoryNotifier) -> int:
        """Look inside."""
        return len(notifier._subscriptions)

    @pytest.fixture
    async def notifier(self) -> AsyncIterator[MemoryNotifier]:
        """A notifier of its own for each test."""
        async with MemoryNotifier() as notifier:
            yield notifier


class TestNoMishap(TestMemory):
    """Without a mishap the unreliable notifier adds nothing to the one inside and takes nothing away."""

    async def open_subscriptions(self, notifier: UnreliableNotifier) -> int:
        """Look inside."""
        return len(notifier.inner._subscriptions)

    @pytest.fixture
    async def notifier(self) -> AsyncIterator[UnreliableNotifier]:
        """One to which nothing happens."""
        async with UnreliableNotifier(MemoryNotifier(), Mishaps()) as notifier:
            yield notifier


class TestMishaps(UnreliableNotifierContract):
    """With all mishaps it still keeps what no notifier may break."""

    async def open_subscriptions(self, notifier: UnreliableNotifier) -> int:
        """Look inside."""
        return len(notifier.inner._subscriptions)

    @pytest.fixture(params=range(3))
    async def notifier(self, request: pytest.FixtureRequest) -> AsyncIterator[UnreliableNotifier]:
        """One to which everything happens."""
        mishaps = Mishaps(request.param, loss=0.3, repetition=0.3, delay=0.3)
        async with UnreliableNotifier(MemoryNotifier(), mishaps) as notifier:
            yield notifier


async def subscribers(notifier: RedisNotifier) -> int:
    """Ask Redis how many connections listen on a notifier's channel."""
    _, count = (await notifier._link.client.gather("PUBSUB", "NUMSUB", notifier._channel))[:2]
    return int(count)


class TestRedis(NotifierContract):
    """Redis, with two links as in two processes."""

    async def open_subscriptions(self, notifier: RedisNotifier) -> int:
        """Ask Redis."""
        return await subscribers(notifier)

    @pytest.fixture
    async def notifier(self, redis_url: str, redis_prefix: str) -> AsyncIterator[RedisNotifier]:
        """A notifier under the test's own prefix."""
        async with RedisNotifier(patient_link(redis_url, redis_prefix)) as notifier:
            yield notifier

    @pytest.fixture
    async def twin(self, redis_url: str, redis_prefix: str) -> AsyncIterator[RedisNotifier]:
        """Another link to the same Redis."""
        async with RedisNotifier(patient_link(redis_url, redis_prefix)) as twin:
            yield twin


@pytest.mark.once
class TestLostRedis(NotifierOutageContract):
    """Redis behind a network that can be cut."""

    @pytest.fixture
    async def proxy(self, redis_url: str) -> AsyncIterator[TcpProxy]:
        """The network."""
        async with proxy_to(redis_url) as proxy:
            yield proxy

    @pytest.fixture
    async def notifier(
        self, redis_url: str, redis_prefix: str, proxy: TcpProxy
    ) -> AsyncIterator[RedisNotifier]:
        """A notifier on its other side."""
        async with RedisNotifier(impatient_link(through(proxy, redis_url), redis_prefix)) as notifier:
            yield notifier

    @pytest.fixture(params=OUTAGES)
    def outage(self, request: pytest.FixtureRequest, proxy: TcpProxy) -> Outage:
        """Each way to lose it."""
        outage: Outage = OUTAGES[request.param](proxy)
        return outage


async def listeners(url: str) -> int:
    """Ask PostgreSQL how many connections of notifiers there are that last listened, or looked whether they do."""
    connection = await asyncpg.connect(url)
    try:
        query = """
            SELECT count(*) FROM pg_stat_activity WHERE application_name = 'prefsync'
            AND datname = current_database() AND query NOT LIKE '%pg_notify%'
        """
        count: int = await connection.fetchval(query)
    finally:
        await connection.close()
    return count


class TestPostgres(NotifierContract):
    """PostgreSQL, with two connections as in two processes."""

    whole_up_to = 7_500

    async def open_subscriptions(self, notifier: PostgresNotifier) -> int:
        """Ask PostgreSQL."""
        return await listeners(notifier._dsn)

    @pytest.fixture
    def prefix(self) -> str:
        """A channel for each test."""
        return f"test-{secrets.token_hex(8)}"

    @pytest.fixture
    async def notifier(self, postgres_url: str, prefix: str) -> AsyncIterator[PostgresNotifier]:
        """A notifier on the test's own channel."""
        async with PostgresNotifier(postgres_url, prefix=prefix) as notifier:
            yield notifier

    @pytest.fixture
    async def twin(self, postgres_url: str, prefix: str) -> AsyncIterator[PostgresNotifier]:
        """Another one on the same channel."""
        async with PostgresNotifier(postgres_url, prefix=prefix) as twin:
            yield twin


@pytest.mark.once
class TestLostPostgres(NotifierOutageContract):
    """PostgreSQL behind a network that can be cut."""

    @pytest.fixture
    async def proxy(self, postgres_url: str) -> AsyncIterator[TcpProxy]:
        """The network."""
        async with proxy_to(postgres_url) as proxy:
            yield proxy

    @pytest.fixture
    async def notifier(self, postgres_url: str, proxy: TcpProxy) -> AsyncIterator[PostgresNotifier]:
        """A notifier on its other side."""
        prefix = f"test-{secrets.token_hex(8)}"
        async with PostgresNotifier(through(proxy, postgres_url), prefix=prefix) as notifier:
            yield notifier

    @pytest.fixture(params=OUTAGES)
    def outage(self, request: pytest.FixtureRequest, proxy: TcpProxy) -> Outage:
        """Each way to lose it."""
        outage: Outage = OUTAGES[request.param](proxy)
        return outage


class Frozen:
    """All nodes of a cluster stop answering."""

    def __init__(self, cluster: PrivateCluster) -> None:
        self._cluster = cluster

    async def begin(self) -> None:
        """Freeze them."""
        for node in self._cluster.nodes:
            node.pause()

    async def end(self) -> None:
        """Let them go on."""
        for node in self._cluster.nodes:
            node.resume()


@pytest.mark.once
class TestLostRedisCluster(NotifierOutageContract):
    """A cluster of which every node is frozen."""

    @pytest.fixture
    async def cluster(self, private_cluster: Callable[[], PrivateCluster]) -> PrivateCluster:
        """A cluster of the test's own."""
        return await run_sync(private_cluster)

    @pytest.fixture
    async def notifier(self, cluster: PrivateCluster) -> AsyncIterator[RedisClusterNotifier]:
        """A notifier on it."""
        async with RedisClusterNotifier(RedisClusterLink(cluster.url)) as notifier:
            yield notifier

    @pytest.fixture
    def outage(self, cluster: PrivateCluster) -> Outage:
        """Nobody answers."""
        return Frozen(cluster)


@pytest.mark.once
class TestRedisCluster(NotifierContract):
    """Sharded pub/sub on a cluster of three shards, with two links as in two processes."""

    async def open_subscriptions(self, notifier: RedisClusterNotifier) -> int:
        """Ask every node how many clients listen."""
        count = 0
        for node in await notifier._link.nodes.primaries():
            clients: bytes = await node.client.gather("CLIENT", "LIST", "TYPE", "PUBSUB")
            count += clients.count(b" addr=")
        return count

    @pytest.fixture
    def prefix(self) -> str:
        """Channels for each test."""
        return f"test-{secrets.token_hex(8)}"

    @pytest.fixture
    async def notifier(
        self, redis_cluster: PrivateCluster, prefix: str
    ) -> AsyncIterator[RedisClusterNotifier]:
        """A notifier on the test's own channels."""
        link = RedisClusterLink(redis_cluster.url, prefix=prefix, time_limit=10)
        async with RedisClusterNotifier(link) as notifier:
            yield notifier

    @pytest.fixture
    async def twin(self, redis_cluster: PrivateCluster, prefix: str) -> AsyncIterator[RedisClusterNotifier]:
        """Another link to the same cluster."""
        async with RedisClusterNotifier(
            RedisClusterLink(redis_cluster.url, prefix=prefix, time_limit=10)
        ) as twin:
            yield twin

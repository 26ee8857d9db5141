"""Every cache keeps the contract."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from prefsync.adapters.memory import MemoryCache
from prefsync.adapters.redis import RedisCache, RedisClusterLink
from prefsync.testing import CacheContract, CacheOutageContract, FakeClock
from tests.contracts.support import (
    OUTAGES,
    commands_under_way,
    impatient_link,
    patient_link,
    proxy_to,
    through,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prefsync.testing import Outage
    from tests.clusters import PrivateCluster
    from tests.servers import TcpProxy


class TestMemory(CacheContract):
    """In this process."""

    clock: FakeClock

    async def pass_time(self, seconds: float) -> None:
        """Move the clock."""
        self.clock.advance(seconds)

    @pytest.fixture
    async def cache(self) -> AsyncIterator[MemoryCache]:
        """A cache of its own for each test."""
        async with MemoryCache() as cache:
            yield cache

    @pytest.fixture
    async def short_lived_cache(self) -> AsyncIterator[MemoryCache]:
        """A cache on a clock that the test moves."""
        self.clock = FakeClock()
        async with MemoryCache(self.short_ttl, clock=self.clock) as cache:
            yield cache

    async def test_it_stays_within_its_bound(self) -> None:
        """Beyond its bound in bytes, the cache drops what was used longest ago, and keeps what is in use."""
        from prefsync.adapters import memory
        from prefsync.ports import CacheEntry
        from prefsync.testing.samples import fresh_subject

        cache = MemoryCache(bound=10 * (memory._ENTRY_BYTES + 100))
        used, *others = [fresh_subject() for _ in range(20)]
        await cache.put(used, CacheEntry(1, b"x" * 100))
        for other in others:
            await cache.put(other, CacheEntry(1, b"x" * 100))
            assert await cache.get(used) is not None
        kept = [other for other in others if await cache.get(other)]
        assert kept == others[-9:]


class TestRedis(CacheContract):
    """Redis, with two links as in two processes."""

    def in_use(self, cache: RedisCache) -> int:
        """Look at the link."""
        return commands_under_way(cache._link)

    @pytest.fixture
    async def cache(self, redis_url: str, redis_prefix: str) -> AsyncIterator[RedisCache]:
        """A cache under the test's own prefix."""
        async with RedisCache(patient_link(redis_url, redis_prefix)) as cache:
            yield cache

    @pytest.fixture
    async def twin(self, redis_url: str, redis_prefix: str) -> AsyncIterator[RedisCache]:
        """Another link to the same Redis."""
        async with RedisCache(patient_link(redis_url, redis_prefix)) as twin:
            yield twin

    @pytest.fixture
    async def short_lived_cache(self, redis_url: str, redis_prefix: str) -> AsyncIterator[RedisCache]:
        """One whose entries soon end."""
        async with RedisCache(patient_link(redis_url, redis_prefix), self.short_ttl) as cache:
            yield cache


@pytest.mark.once
class TestLostRedis(CacheOutageContract):
    """Redis behind a network that can be broken."""

    def in_use(self, cache: RedisCache) -> int:
        """Look at the link."""
        return commands_under_way(cache._link)

    @pytest.fixture
    async def proxy(self, redis_url: str) -> AsyncIterator[TcpProxy]:
        """The network."""
        async with proxy_to(redis_url) as proxy:
            yield proxy

    @pytest.fixture
    async def cache(self, redis_url: str, redis_prefix: str, proxy: TcpProxy) -> AsyncIterator[RedisCache]:
        """A cache on its other side."""
        async with RedisCache(impatient_link(through(proxy, redis_url), redis_prefix)) as cache:
            yield cache

    @pytest.fixture(params=OUTAGES)
    def outage(self, request: pytest.FixtureRequest, proxy: TcpProxy) -> Outage:
        """Each way to lose it."""
        outage: Outage = OUTAGES[request.param](proxy)
        return outage


@pytest.mark.once
class TestRedisCluster(CacheContract):
    """A cluster of three shards, with two links as in two processes."""

    @pytest.fixture
    def prefix(self) -> str:
        """Keys for each test."""
        return f"test-{secrets.token_hex(8)}"

    @pytest.fixture
    async def cache(self, redis_cluster: PrivateCluster, prefix: str) -> AsyncIterator[RedisCache]:
        """A cache under the test's own prefix."""
        async with RedisCache(RedisClusterLink(redis_cluster.url, prefix=prefix, time_limit=10)) as cache:
            yield cache

    @pytest.fixture
    async def twin(self, redis_cluster: PrivateCluster, prefix: str) -> AsyncIterator[RedisCache]:
        """Another link to the same cluster."""
        async with RedisCache(RedisClusterLink(redis_cluster.url, prefix=prefix, time_limit=10)) as twin:
            yield twin

    @pytest.fixture
    async def short_lived_cache(
        self, redis_cluster: PrivateCluster, prefix: str
    ) -> AsyncIterator[RedisCache]:
        """One whose entries soon end."""
        link = RedisClusterLink(redis_cluster.url, prefix=prefix, time_limit=10)
        async with RedisCache(link, self.short_ttl) as cache:
            yield cache

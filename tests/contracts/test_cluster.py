"""A real Redis Cluster that loses nodes and moves slots: everything on it goes on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.to_thread import run_sync
from redis.crc import key_slot

from prefsync.adapters.redis import RedisCache, RedisClusterLink, RedisClusterNotifier
from prefsync.errors import ConfigurationError, UnavailableError
from prefsync.ports import Announcement, CacheEntry, Gap, Lost
from prefsync.testing.samples import fresh_subject
from tests.servers import HOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from prefsync.document import Subject
    from tests.clusters import ClusterServer, PrivateCluster

pytestmark = pytest.mark.once

LIMIT = 30.0


@pytest.fixture
async def cluster(private_cluster: Callable[[], PrivateCluster]) -> PrivateCluster:
    """A cluster of the test's own."""
    return await run_sync(private_cluster)


def owner(cluster: PrivateCluster, key: str) -> ClusterServer:
    """Return the node that owned a key's slot at the start."""
    return cluster.primaries[key_slot(key.encode()) * 3 // 16_384]


def subject_of(cluster: PrivateCluster, notifier: RedisClusterNotifier, shard: int) -> Subject:
    """Return a subject whose announcements a shard carries."""
    while True:
        subject = fresh_subject()
        if owner(cluster, notifier._channel(subject.key[0])) is cluster.primaries[shard]:
            return subject


async def publish(notifier: RedisClusterNotifier, announcement: Announcement) -> None:
    """Publish, when the cluster takes it."""
    with anyio.fail_after(LIMIT):
        while True:
            try:
                await notifier.publish(announcement)
            except UnavailableError:
                await anyio.sleep(0.05)
            else:
                return


async def until(
    announcements: AsyncIterator[Announcement | Lost | Gap], last: Announcement | Lost | Gap
) -> list[Announcement | Lost | Gap]:
    """Return what comes up to one thing."""
    got: list[Announcement | Lost | Gap] = []
    with anyio.fail_after(LIMIT):
        while not got or got[-1] != last:
            got.append(await anext(announcements))
    return got


async def test_every_shard_carries_its_share(redis_cluster: PrivateCluster) -> None:
    """Announcements spread over all primaries, each with about a third, and all arrive."""
    link = RedisClusterLink(redis_cluster.url, prefix="share", time_limit=10)
    async with RedisClusterNotifier(link) as notifier, notifier.subscribe() as announcements:
        sent = {Announcement(fresh_subject(), None, number) for number in range(600)}
        counts = dict.fromkeys([node.port for node in redis_cluster.primaries], 0)
        for one in sent:
            counts[owner(redis_cluster, notifier._channel(one.subject.key[0])).port] += 1
            await notifier.publish(one)
        with anyio.fail_after(LIMIT):
            assert {await anext(announcements) for _ in sent} == sent
        assert all(150 < count < 250 for count in counts.values()), counts
        for node in redis_cluster.primaries:
            channels = await run_sync(node.ask, "PUBSUB", "SHARDCHANNELS", "share:changes:*")
            assert 15 < len(channels) < 30


async def test_a_primary_is_killed_and_its_replica_takes_over(
    cluster: PrivateCluster, record_property: Callable[[str, object], None]
) -> None:
    """One outage is told; other shards go on meanwhile; then announcements and documents of all shards are there."""
    link = RedisClusterLink(cluster.url)
    async with RedisClusterNotifier(link) as notifier, RedisCache(link) as cache:
        subjects = [subject_of(cluster, notifier, shard) for shard in range(3)]
        async with notifier.subscribe() as announcements:
            for version, subject in enumerate(subjects):
                await publish(notifier, Announcement(subject, None, version))
                assert await until(announcements, Announcement(subject, None, version)) == [
                    Announcement(subject, None, version)
                ]
            await run_sync(cluster.primaries[1].kill)
            killed = time.monotonic()
            assert await until(announcements, Lost()) == [Lost()]
            await publish(notifier, Announcement(subjects[0], None, 10))
            await until(announcements, Announcement(subjects[0], None, 10))
            assert await until(announcements, Gap()) == [Gap()]
            record_property("seconds until the gap", round(time.monotonic() - killed, 2))
            for version, subject in enumerate(subjects):
                await publish(notifier, Announcement(subject, None, 20 + version))
                assert await until(announcements, Announcement(subject, None, 20 + version)) == [
                    Announcement(subject, None, 20 + version)
                ]
        others = [fresh_subject() for _ in range(30)]  # on all shards
        for other in others:
            await cache.put(other, CacheEntry(1, b"one"))
            assert await cache.get(other) == CacheEntry(1, b"one")
        assert list(await cache.versions(others)) == [1] * 30


async def test_a_slot_moves_to_another_node(cluster: PrivateCluster) -> None:
    """A channel that moves is followed; what is asked at its old owner is asked again at its new one."""
    link = RedisClusterLink(cluster.url)
    async with RedisClusterNotifier(link) as notifier, RedisCache(link) as cache:
        subject = subject_of(cluster, notifier, 0)
        slot = key_slot(notifier._channel(subject.key[0]).encode())
        stored = fresh_subject()
        while key_slot((cache._prefix + stored.key).encode()) // 5_461 != 0:
            stored = fresh_subject()
        async with notifier.subscribe() as announcements:
            await notifier.publish(Announcement(subject, None, 1))
            await until(announcements, Announcement(subject, None, 1))
            for moving in (slot, key_slot((cache._prefix + stored.key).encode())):
                await run_sync(cluster.move_slot, moving, cluster.primaries[0], cluster.primaries[2])
            assert await until(announcements, Gap()) == [Lost(), Gap()]
            await notifier.publish(Announcement(subject, None, 2))
            await until(announcements, Announcement(subject, None, 2))
        await cache.put(stored, CacheEntry(7, b"seven"))
        assert await cache.get(stored) == CacheEntry(7, b"seven")


async def test_a_slot_that_is_on_its_way(cluster: PrivateCluster) -> None:
    """While a slot migrates, a key that is there already is found there (ASK), and one that is not is found where it was."""
    link = RedisClusterLink(cluster.url)
    source, target = cluster.primaries[0], cluster.primaries[2]
    async with RedisCache(link) as cache:
        subject = fresh_subject()
        while key_slot((cache._prefix + subject.key).encode()) // 5_461 != 0:
            subject = fresh_subject()
        key = cache._prefix + subject.key
        slot = key_slot(key.encode())
        await cache.put(subject, CacheEntry(1, b"one"))
        await run_sync(target.ask, "CLUSTER", "SETSLOT", slot, "IMPORTING", source.node_id)
        await run_sync(source.ask, "CLUSTER", "SETSLOT", slot, "MIGRATING", target.node_id)
        assert await cache.get(subject) == CacheEntry(1, b"one")
        await run_sync(source.ask, "MIGRATE", HOST, target.port, key, 0, 5_000)
        for version in (2, 3):
            await cache.put(subject, CacheEntry(version, b"later"))
            assert await cache.get(subject) == CacheEntry(version, b"later")
        for node in (target, source):
            await run_sync(node.ask, "CLUSTER", "SETSLOT", slot, "NODE", target.node_id)
        await cache.put(subject, CacheEntry(4, b"four"))
        assert await cache.get(subject) == CacheEntry(4, b"four")


async def test_a_planned_failover_loses_no_subscription(cluster: PrivateCluster) -> None:
    """When a replica takes over in order, announcements arrive before and after it."""
    link = RedisClusterLink(cluster.url)
    async with RedisClusterNotifier(link) as notifier:
        subject = subject_of(cluster, notifier, 1)
        async with notifier.subscribe() as announcements:
            await notifier.publish(Announcement(subject, None, 1))
            await until(announcements, Announcement(subject, None, 1))
            await run_sync(cluster.replicas[1].ask, "CLUSTER", "FAILOVER")
            with anyio.fail_after(LIMIT):
                while b"role:master" not in await run_sync(cluster.replicas[1].ask, "INFO", "replication"):
                    await anyio.sleep(0.02)
            last = Announcement(subject, None, 2)

            async def repeat() -> None:
                while True:
                    await publish(notifier, last)
                    await anyio.sleep(0.2)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(repeat)
                await until(announcements, last)
                tasks.cancel_scope.cancel()


async def test_a_cluster_that_is_away_at_the_start(redis_cluster: PrivateCluster) -> None:
    """Where no node answers, opening is no error; what is asked is unavailable, and the subscription lost."""
    with anyio.fail_after(LIMIT):
        async with RedisClusterNotifier(RedisClusterLink(f"redis+cluster://{HOST}:1")) as notifier:
            with pytest.raises(UnavailableError):
                await notifier.publish(Announcement(fresh_subject(), None, 1))
            async with notifier.subscribe() as announcements:
                assert await anext(announcements) == Lost()
    several = f"redis+cluster://{HOST}:1,{redis_cluster.url.partition('//')[2]}"
    async with RedisClusterNotifier(RedisClusterLink(several, time_limit=10)) as notifier:
        await notifier.publish(Announcement(fresh_subject(), None, 1))


async def test_a_server_that_is_no_cluster_is_refused(redis_url: str) -> None:
    """The error says which URL to write instead."""
    link = RedisClusterLink(redis_url.rpartition("/")[0].replace("redis://", "redis+cluster://"))
    with pytest.raises(ConfigurationError, match="write redis:// instead"):
        await RedisCache(link).__aenter__()


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "redis+cluster://",
        "redis+cluster://host/1",
        "redis+cluster://host:x",
        "redis+cluster://a,,b",
    ],
)
def test_urls_that_cannot_be_read_are_refused_at_once(url: str) -> None:
    """Errors of the host's, at start, in one line."""
    with pytest.raises(ConfigurationError, match="redis\\+cluster://host:6379"):
        RedisClusterLink(url)

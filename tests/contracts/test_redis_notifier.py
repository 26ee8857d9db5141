"""Whatever happens to a subscription at Redis, it is noticed, told, and mended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.to_thread import run_sync
from redis.asyncio import Redis

from prefsync.adapters.redis import RedisLink, RedisNotifier
from prefsync.document import Change
from prefsync.errors import UnavailableError
from prefsync.ports import Announcement, Gap, Lost
from prefsync.testing.samples import fresh_subject
from tests.contracts.support import patient_link, proxy_to, through
from tests.servers import HOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.servers import PrivateRedis

pytestmark = pytest.mark.once

LIMIT = 20.0


@pytest.fixture
async def server(private_redis: Callable[[], PrivateRedis]) -> PrivateRedis:
    """A Redis of the test's own."""
    return await run_sync(private_redis)


async def expect(announcements: AsyncIterator[Announcement | Lost | Gap], *kinds: type) -> None:
    """Wait for things of these kinds and nothing else."""
    with anyio.fail_after(LIMIT):
        assert [type(await anext(announcements)) for _ in kinds] == list(kinds)


async def goes_on(notifier: RedisNotifier, announcements: AsyncIterator[Announcement | Lost | Gap]) -> None:
    """See that announcements arrive."""
    sent = Announcement(fresh_subject(), None, 7)
    with anyio.fail_after(LIMIT):
        while True:
            try:
                await notifier.publish(sent)
            except UnavailableError:
                await anyio.sleep(0.02)
            else:
                break
        assert await anext(announcements) == sent


async def test_a_client_that_was_killed(server: PrivateRedis) -> None:
    """``CLIENT KILL TYPE pubsub`` ends no subscription; each time it is told."""
    async with RedisNotifier(RedisLink(server.url)) as notifier, notifier.subscribe() as announcements:
        async with Redis.from_url(server.url) as admin:
            for _ in range(3):
                await goes_on(notifier, announcements)
                assert await admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 1
                await expect(announcements, Lost, Gap)
            await goes_on(notifier, announcements)


async def test_a_client_that_was_cut_at_its_output_buffer(server: PrivateRedis) -> None:
    """A subscription that Redis cuts because too much waits for it is told that it misses something."""
    values = {"plugins": {f"name {number}": "x" * 10_000 for number in range(13)}}
    async with RedisNotifier(RedisLink(server.url)) as notifier, notifier.subscribe() as announcements:
        async with Redis.from_url(server.url) as admin:
            await admin.config_set("client-output-buffer-limit", "pubsub 32kb 0 0")
            await notifier.publish(Announcement(fresh_subject(), Change(2, 1, 2, None, values), 2))
            await expect(announcements, Lost, Gap)
            await goes_on(notifier, announcements)


async def test_a_server_that_is_frozen(server: PrivateRedis) -> None:
    """A server that stops answering is noticed though nobody publishes, and used again when it goes on."""
    async with RedisNotifier(RedisLink(server.url)) as notifier, notifier.subscribe() as announcements:
        await goes_on(notifier, announcements)
        server.pause()
        await expect(announcements, Lost)
        server.resume()
        await expect(announcements, Gap)
        await goes_on(notifier, announcements)


async def test_a_server_that_restarts(server: PrivateRedis) -> None:
    """A restart is one outage, however many attempts fail while it lasts."""
    async with RedisNotifier(RedisLink(server.url)) as notifier, notifier.subscribe() as announcements:
        await run_sync(server.stop)
        await expect(announcements, Lost)
        await run_sync(server.start)
        await expect(announcements, Gap)
        await goes_on(notifier, announcements)


async def test_a_subscription_at_a_server_to_which_nobody_publishes(
    server: PrivateRedis, private_redis: Callable[[], PrivateRedis]
) -> None:
    """After a failover that left the connection alive, the deaf subscription is noticed and moves."""
    other = await run_sync(private_redis)
    async with proxy_to(server.url) as proxy, Redis.from_url(server.url) as admin:
        async with (
            RedisNotifier(RedisLink(through(proxy, server.url))) as notifier,
            notifier.subscribe() as announcements,
        ):
            await goes_on(notifier, announcements)
            proxy._target = (HOST, other.port)
            await admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await expect(announcements, Lost, Gap)
            await goes_on(notifier, announcements)


async def test_the_newer_wire_protocol(redis_url: str, redis_prefix: str) -> None:
    """Over RESP3, where messages are pushes, the same arrives, and the link is kept alive."""
    url = f"{redis_url}{'&' if '?' in redis_url else '?'}protocol=3"
    async with RedisNotifier(patient_link(url, redis_prefix)) as notifier:
        async with notifier.subscribe() as announcements:
            await goes_on(notifier, announcements)
            with anyio.move_on_after(4) as quiet:  # longer than a link that does not answer is believed
                await anext(announcements)
            assert quiet.cancelled_caught, "there was an outage"
            await goes_on(notifier, announcements)

"""What the adapters on Redis promise beyond their ports: Redis that refuses, forgets or holds what is not ours."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.to_thread import run_sync
from redis.asyncio import Redis

from prefsync.adapters.redis import RedisCache, RedisLink, RedisNotifier
from prefsync.errors import ConfigurationError, UnavailableError
from prefsync.ports import Announcement, CacheEntry
from prefsync.testing.samples import fresh_subject
from tests.contracts.support import patient_link, until_it_answers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.servers import PrivateRedis

LIMIT = 20.0


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of somebody else's."""
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.mark.parametrize(
    "garbage", [b"", b"garbage", b"\xff" * 40, b"zzzzzzzzzzzzzzzzzzzz", b"12", b"{}", b" 000000000000007{}"]
)
async def test_a_foreign_value_is_no_entry_and_is_replaced(
    redis_url: str, redis_prefix: str, redis: Redis, garbage: bytes
) -> None:
    """What is no entry counts as none: it is not returned, and does not keep the next one out."""
    subject = fresh_subject()
    async with RedisCache(patient_link(redis_url, redis_prefix)) as cache:
        await redis.set(cache._prefix + subject.key, garbage)
        assert await cache.get(subject) is None
        assert list(await cache.versions([subject])) == [None]
        await cache.put(subject, CacheEntry(5, b"payload"))
        assert await cache.get(subject) == CacheEntry(5, b"payload")


async def test_a_key_of_another_kind_is_unavailable_and_no_more(
    redis_url: str, redis_prefix: str, redis: Redis
) -> None:
    """An error that Redis answers with is said as ``UnavailableError``, and other subjects are served."""
    subject, other = fresh_subject(), fresh_subject()
    async with RedisCache(patient_link(redis_url, redis_prefix)) as cache:
        await redis.rpush(cache._prefix + subject.key, "x")
        with pytest.raises(UnavailableError):
            await cache.get(subject)
        with pytest.raises(UnavailableError):
            await cache.put(subject, CacheEntry(5, b"payload"))
        await cache.put(other, CacheEntry(5, b"payload"))
        assert await cache.get(other) == CacheEntry(5, b"payload")


@pytest.mark.once
async def test_a_redis_that_is_full_or_forgot_the_script(private_redis: Callable[[], PrivateRedis]) -> None:
    """Out of memory is ``UnavailableError`` for a put while reads go on; a script that was flushed is sent again."""
    server = await run_sync(private_redis)
    subject = fresh_subject()
    async with (
        RedisCache(patient_link(server.url, "prefsync")) as cache,
        Redis.from_url(server.url) as admin,
    ):
        await cache.put(subject, CacheEntry(1, b"one"))
        await admin.script_flush()
        await cache.put(subject, CacheEntry(2, b"two"))
        await admin.config_set("maxmemory", "1")
        with pytest.raises(UnavailableError):
            await cache.put(subject, CacheEntry(3, b"three"))
        assert await cache.get(subject) == CacheEntry(2, b"two")
        await admin.config_set("maxmemory", "0")
        await cache.put(subject, CacheEntry(4, b"four"))
        await run_sync(server.restart)
        await until_it_answers(lambda: cache.put(subject, CacheEntry(5, b"five")))
        assert await cache.get(subject) == CacheEntry(5, b"five")


@pytest.mark.once
async def test_a_frozen_redis_costs_a_bounded_wait(private_redis: Callable[[], PrivateRedis]) -> None:
    """While Redis is frozen, calls fail within the time limit and then at once; thawed, it is used again."""
    server = await run_sync(private_redis)
    subject = fresh_subject()
    async with RedisCache(RedisLink(server.url)) as cache:
        await until_it_answers(lambda: cache.put(subject, CacheEntry(1, b"one")))
        server.pause()
        for _ in range(5):
            with anyio.fail_after(2), pytest.raises(UnavailableError):
                await cache.get(subject)
        server.resume()
        assert await until_it_answers(lambda: cache.get(subject)) == CacheEntry(1, b"one")


async def test_one_bad_command_does_not_spoil_the_others(redis_url: str, redis_prefix: str) -> None:
    """A command that cannot be sent fails by itself; those that would have travelled with it are answered."""
    subject = fresh_subject()
    link = patient_link(redis_url, redis_prefix)
    async with RedisCache(link) as cache:
        await cache.put(subject, CacheEntry(1, b"one"))
        for bad in ("\ud800", object()):
            results: list[Any] = []

            async def spoil(bad: object = bad, results: list[Any] = results) -> None:
                try:
                    await link.client.gather("GET", bad)
                except Exception as error:  # noqa: BLE001  # whatever it is, it has to come
                    results.append(error)

            with anyio.fail_after(5):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(spoil)
                    assert await cache.get(subject) == CacheEntry(1, b"one")
            assert len(results) == 1
            assert not link.breaker.is_down


async def test_what_is_no_announcement_is_passed_over(
    redis_url: str, redis_prefix: str, redis: Redis
) -> None:
    """Messages of another version, or of somebody else, on the channel do not end a subscription."""
    subject = fresh_subject()
    async with RedisNotifier(patient_link(redis_url, redis_prefix)) as notifier:
        async with notifier.subscribe() as announcements:
            key = subject.key.encode()
            for message in [
                b"",
                b"\xff",
                b"null",
                key,
                key + b"null",
                key + b"[1,2]",
                key + b'[1,null,"",null]',
                key + b'[1,null,"user",{"revision":1}]',
                key + b'[1,null,"user",[]]',
                key + b'["x",null,"user",null]',
                key + b"[1,null,5,null]",
            ]:
                await redis.publish(notifier._channel, message)
            await notifier.publish(Announcement(subject, None, 7))
            with anyio.fail_after(LIMIT):
                assert await anext(announcements) == Announcement(subject, None, 7)


async def test_one_link_serves_many_and_closes_with_the_last(redis_url: str, redis_prefix: str) -> None:
    """Adapters that share a link can come and go; the link is open as long as one of them is."""
    link = patient_link(redis_url, redis_prefix)
    cache, notifier, subject = RedisCache(link), RedisNotifier(link), fresh_subject()
    with pytest.raises(RuntimeError, match="not open"):
        await cache.put(subject, CacheEntry(1, b"one"))
    async with notifier:
        async with cache:
            await cache.put(subject, CacheEntry(1, b"one"))
        await notifier.publish(Announcement(subject, None, 1))
        async with cache:
            assert await cache.get(subject) == CacheEntry(1, b"one")
    with pytest.raises(RuntimeError, match="not open"):
        await cache.put(subject, CacheEntry(1, b"one"))


async def test_the_hosts_client_stays_open(redis_url: str, redis_prefix: str, redis: Redis) -> None:
    """A client that was handed over is used, not closed, and not changed."""
    subject = fresh_subject()
    async with RedisCache(RedisLink(redis, prefix=redis_prefix)) as cache:
        await cache.put(subject, CacheEntry(1, b"one"))
        async with RedisCache(patient_link(redis_url, redis_prefix)) as other:
            assert await other.get(subject) == CacheEntry(1, b"one")
    assert await redis.ping() is True


def test_clients_and_urls_that_cannot_work_are_refused_at_once(redis_url: str) -> None:
    """A client that decodes replies, and a URL that is none, are errors of the host's at start."""
    with pytest.raises(ConfigurationError, match="decode_responses"):
        RedisLink(Redis.from_url(redis_url, decode_responses=True))
    for url in ("nonsense", "http://localhost", ""):
        with pytest.raises(ConfigurationError, match="redis://"):
            RedisLink(url)


async def test_two_prefixes_are_two_deployments(redis_url: str, redis_prefix: str) -> None:
    """Under another prefix nothing of the first one is seen or heard."""
    subject = fresh_subject()
    one = patient_link(redis_url, redis_prefix + "a")
    other = patient_link(redis_url, redis_prefix + "b")
    async with RedisCache(one) as cache, RedisCache(other) as elsewhere, RedisNotifier(one) as notifier:
        await cache.put(subject, CacheEntry(5, b"five"))
        assert await elsewhere.get(subject) is None
        async with RedisNotifier(other) as there, there.subscribe() as announcements:
            await notifier.publish(Announcement(subject, None, 1))
            await there.publish(Announcement(subject, None, 2))
            with anyio.fail_after(LIMIT):
                assert await anext(announcements) == Announcement(subject, None, 2)


@pytest.mark.parametrize("kind", ["closed by the server", "closed before the reply"])
async def test_a_connection_that_was_closed_is_made_again(
    redis_url: str, redis_prefix: str, redis: Redis, kind: str
) -> None:
    """A connection that the server closed, idle or with a command under way, costs no caller an error."""
    subject = fresh_subject()
    link = patient_link(redis_url, redis_prefix)
    async with RedisCache(link) as cache:
        await cache.put(subject, CacheEntry(1, b"one"))
        for _ in range(3):
            number = await link.client.gather("CLIENT", "ID")
            killing = redis.client_kill_filter(_id=number)
            if kind == "closed by the server":
                await killing
                assert await cache.get(subject) == CacheEntry(1, b"one")
            else:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(lambda killing=killing: killing)
                    found = [cache.get(subject) for _ in range(20)]
                    assert [await one for one in found] == [CacheEntry(1, b"one")] * 20
        assert not link.breaker.is_failing


async def test_cancelled_callers_leave_no_reply_to_others(redis_url: str, redis_prefix: str) -> None:
    """Whoever is cancelled, at whatever point, everybody else gets the reply to the own question."""
    subjects = [fresh_subject() for _ in range(50)]
    link = patient_link(redis_url, redis_prefix)
    wrong: list[object] = []
    async with RedisCache(link) as cache:
        for number, subject in enumerate(subjects, 1):
            await cache.put(subject, CacheEntry(number, b"%d" % number))

        async def ask(number: int, steps: int | None) -> None:
            with anyio.CancelScope() as scope:
                if steps is not None:
                    asyncio.get_running_loop().call_later(steps / 10_000, scope.cancel)
                entry = await cache.get(subjects[number - 1])
                if entry != CacheEntry(number, b"%d" % number):
                    wrong.append((number, entry))

        for turn in range(40):
            async with anyio.create_task_group() as tasks:
                for number in range(1, len(subjects) + 1):
                    tasks.start_soon(ask, number, turn % 20 if number % 2 else None)
    assert not wrong


async def test_credentials_and_database_of_a_url_are_used(private_redis: Callable[[], PrivateRedis]) -> None:
    """User, password and database are those of the URL; a wrong password is an outage, no endless wait."""
    server = await run_sync(private_redis)
    subject = fresh_subject()
    async with Redis.from_url(server.url) as admin:
        await admin.acl_setuser("me", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all"])
        await admin.acl_setuser("default", enabled=False)
    place = server.url.removeprefix("redis://").removesuffix("/0")
    async with RedisCache(RedisLink(f"redis://me:secret@{place}/3")) as cache:
        await cache.put(subject, CacheEntry(1, b"one"))
        number = cache._link.client.gather("CLIENT", "INFO")
        assert b" db=3 " in await number
        assert b" user=me " in await number
    async with RedisCache(RedisLink(f"redis://me:wrong@{place}/3")) as cache:
        with anyio.fail_after(LIMIT), pytest.raises(UnavailableError):
            await cache.get(subject)

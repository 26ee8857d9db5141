"""Near caches of two processes, on every way in which changes are announced: what they show, and for how long."""

from __future__ import annotations

import secrets
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from prefsync.adapters.redis import RedisCache, RedisNotifier
from prefsync.parts import Parts
from prefsync.schema import Preferences
from prefsync.settings import Settings
from prefsync.testing.samples import PATIENCE, fresh_subject
from prefsync.wiring import Runtime
from tests.contracts.support import BlackHole, Cut, impatient_link, proxy_to, through
from tests.servers import create_database, drop_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from prefsync.document import Subject
    from tests.clusters import PrivateCluster

pytestmark = pytest.mark.once

PROMISED = 2.0
"""Seconds by which an answer may be old where a process has lost its notifier (protocol.md section 4, promise 4)."""


class Appearance(Preferences, namespace="appearance"):
    """A namespace."""

    font_size: int = 14


@pytest.fixture
def database(postgres_url: str) -> Iterator[str]:
    """A database of the test's own."""
    name = f"prefsync_test_{secrets.token_hex(8)}"
    yield create_database(postgres_url, name)
    drop_database(postgres_url, name)


@pytest.fixture
def on_redis(redis_url: str, redis_prefix: str) -> dict[str, Any]:
    """Settings of processes that share a Redis."""
    return {"redis_url": redis_url, "redis_prefix": redis_prefix.rstrip(":")}


@pytest.fixture(params=["redis", "cluster", "postgresql"])
def announcing(request: pytest.FixtureRequest, postgres_url: str, on_redis: dict[str, Any]) -> dict[str, Any]:
    """Settings with which processes hear of one another's changes."""
    if request.param == "postgresql":
        return {**on_redis, "notifier_url": postgres_url}
    if request.param == "redis":
        return on_redis
    cluster: PrivateCluster = request.getfixturevalue("redis_cluster")
    return {**on_redis, "redis_url": cluster.url}


@asynccontextmanager
async def process(database: str, parts: Parts | None = None, **settings: Any) -> AsyncIterator[Runtime]:
    """Open what a process has, and wait until its near cache is believed."""
    runtime = Runtime(
        [Appearance],
        settings=Settings(database_url=database, near_cache=2**20, **settings),
        parts=parts,
        authenticates=False,
    )
    async with runtime:
        await until_near(runtime, fresh_subject())
        yield runtime


async def until_near(runtime: Runtime, subject: Subject) -> None:
    """Read until a subject is in the near cache."""
    with anyio.fail_after(PATIENCE):
        while runtime.service.documents.near(subject) is None:
            await runtime.service.read(subject)
            await anyio.sleep(0.01)


async def font_size(runtime: Runtime, subject: Subject) -> int:
    """Read."""
    return (await runtime.handle(subject).get(Appearance)).font_size


async def test_what_another_process_writes_is_seen(database: str, announcing: dict[str, Any]) -> None:
    """A near cache shows another process's writes as soon as they are announced, and its own at once."""
    async with process(database, **announcing) as one, process(database, **announcing) as other:
        subject = fresh_subject()
        for number in range(10):
            writes, reads = (one, other) if number % 2 else (other, one)
            await until_near(reads, subject)
            await writes.handle(subject).update(Appearance, font_size=20 + number)
            assert await font_size(writes, subject) == 20 + number
            with anyio.fail_after(PATIENCE):
                while await font_size(reads, subject) != 20 + number:
                    await anyio.sleep(0.001)


async def test_a_hit_asks_nobody(database: str, on_redis: dict[str, Any]) -> None:
    """What is near is answered without a command to Redis and without a statement."""
    async with process(database, **on_redis) as runtime:
        subject = fresh_subject()
        await until_near(runtime, subject)

        def asked(*_: object) -> Any:
            raise AssertionError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runtime.cache, "get", asked)
            patch.setattr(runtime.repository, "load", asked)
            for _ in range(100):
                await runtime.service.read(subject)


async def test_a_minimum_revision_passes_it_by(database: str, on_redis: dict[str, Any]) -> None:
    """Who says how new an answer must be gets one of the shared cache or the database, even of what is near."""
    async with process(database, **on_redis) as one, process(database, **on_redis) as other:
        subject = fresh_subject()
        written = await one.handle(subject).update(Appearance, font_size=20)
        assert written.font_size == 20
        revision = (await one.service.read(subject)).revision
        await until_near(other, subject)
        assert (await other.service.read(subject, at_least=revision)).revision == revision


async def test_an_erase_is_seen(database: str, announcing: dict[str, Any]) -> None:
    """Nothing of an erased subject is left in any near cache."""
    async with process(database, **announcing) as one, process(database, **announcing) as other:
        subject = fresh_subject()
        await one.handle(subject).update(Appearance, font_size=20)
        await until_near(other, subject)
        await one.service.erase(subject)
        assert await font_size(one, subject) == 14
        with anyio.fail_after(PATIENCE):
            while await font_size(other, subject) != 14:
                await anyio.sleep(0.001)


@pytest.mark.parametrize("outage", [Cut, BlackHole])
async def test_a_process_that_lost_its_notifier(
    database: str,
    redis_url: str,
    redis_prefix: str,
    outage: type[Cut],
) -> None:
    """Cut off from Redis, a process shows nothing older than 2 s, and is near again after that."""
    proxy = proxy_to(redis_url)
    link = impatient_link(through(proxy, redis_url), redis_prefix)
    parts = Parts(cache=RedisCache(link), notifier=RedisNotifier(link))
    theirs = impatient_link(redis_url, redis_prefix)
    others = Parts(cache=RedisCache(theirs), notifier=RedisNotifier(theirs))
    subject = fresh_subject()
    async with proxy, process(database, others) as one, process(database, parts) as cut:
        await one.handle(subject).update(Appearance, font_size=20)
        await until_near(cut, subject)
        assert await font_size(cut, subject) == 20
        trouble = outage(proxy)
        await trouble.begin()
        try:
            await one.handle(subject).update(Appearance, font_size=21)
            written = shown_at = time.monotonic()
            while True:
                asked_at = time.monotonic()
                if await font_size(cut, subject) == 21:
                    break
                shown_at = asked_at
            assert shown_at - written < PROMISED
        finally:
            await trouble.end()
        await until_near(cut, subject)

"""What the cache says is true: every race forced, every crash at the worst moment."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import redis
from anyio.to_thread import run_sync

from prefsync import Subject
from prefsync.adapters.memory import MemoryCache, MemoryRepository
from prefsync.adapters.redis import RedisCache
from prefsync.adapters.sqlalchemy import SqlAlchemyRepository
from prefsync.relay import _MARK
from tests.conftest import refuse
from tests.contracts.support import OUTAGES, patient_link, proxy_to, through
from tests.faults.asking import until
from tests.faults.crowd import LIMIT, headers_of, http_client
from tests.faults.fleet import Fleet
from tests.faults.follower import LOST, Follower
from tests.faults.race import race
from tests.faults.scale import IS_FULL
from tests.servers import ServerUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from prefsync.ports import CacheEntry

pytestmark = pytest.mark.once

SUBJECTS = 500
ROUNDS = 20 if IS_FULL else 4

WITHIN = 10.0
"""Seconds after which nothing is stale any more; one or two on an idle machine."""

TIMES = 3


# --- The stale-set race -----------------------------------------------------------------------------------------------


class UnguardedMemoryCache(MemoryCache):
    """What others shipped: whoever comes last wins."""

    async def put(self, subject: Subject, entry: CacheEntry) -> None:
        """Keep an entry, whatever is there."""
        self._entries.drop(subject)
        await super().put(subject, entry)


class UnguardedRedisCache(RedisCache):
    """The same in Redis."""

    async def put(self, subject: Subject, entry: CacheEntry) -> None:  # type: ignore[override]
        """Keep an entry, whatever is there."""
        value = b"%016d%b" % (entry.version, entry.payload)
        await self._link.client.gather("SET", self._prefix + subject.key, value)


async def race_in_redis(
    kind: type[RedisCache], postgres_url: str, redis_url: str, prefix: str, rounds: int
) -> int:
    """Force it on PostgreSQL and Redis, with a connection of each process's own."""
    async with AsyncExitStack() as stack:
        repository = await stack.enter_async_context(SqlAlchemyRepository(postgres_url))
        caches = [await stack.enter_async_context(kind(patient_link(redis_url, prefix))) for _ in range(3)]

        async def empty(subjects: Sequence[Subject]) -> None:
            link: Any = caches[0]._link
            await link.client.gather("DEL", *(caches[0]._prefix + subject.key for subject in subjects))

        subjects = [Subject(f"{prefix}{number}") for number in range(SUBJECTS)]
        return await race(repository, caches, empty, subjects, rounds)


async def race_in_memory(kind: type[MemoryCache], rounds: int) -> int:
    """Force it within one process."""
    cache = kind()

    async def empty(subjects: Sequence[Subject]) -> None:
        for subject in subjects:
            cache._entries.drop(subject)

    subjects = [Subject(f"user-{number}") for number in range(SUBJECTS)]
    return await race(MemoryRepository(), [cache] * 3, empty, subjects, rounds)


async def test_no_stale_set_in_redis(
    postgres_url: str, redis_url: str, redis_prefix: str, report: Callable[[str], None]
) -> None:
    """Of 10,000 readers that were overtaken between their query and their put, none leaves the cache stale."""
    stale = await race_in_redis(RedisCache, postgres_url, redis_url, redis_prefix, ROUNDS)
    report(
        f"stale sets forced on PostgreSQL and Redis: {SUBJECTS * ROUNDS:,}, stale reads after them: {stale}"
    )
    assert stale == 0


async def test_no_stale_set_in_memory(report: Callable[[str], None]) -> None:
    """The same within one process."""
    stale = await race_in_memory(MemoryCache, ROUNDS)
    report(f"stale sets forced in memory: {SUBJECTS * ROUNDS:,}, stale reads after them: {stale}")
    assert stale == 0


async def test_the_race_is_forced(postgres_url: str, redis_url: str, redis_prefix: str) -> None:
    """A cache without the guard is stale for each subject, in the eyes of whoever reads."""
    assert await race_in_memory(UnguardedMemoryCache, 1) == 2 * SUBJECTS
    assert await race_in_redis(UnguardedRedisCache, postgres_url, redis_url, redis_prefix, 1) == 2 * SUBJECTS


# --- A process that cannot tell ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """A process of each mount, neither of which takes a busy machine for an outage."""
    with ExitStack() as stack:
        try:
            fleet = Fleet(stack, 1, FAULTS_DATABASE_LIMIT="15", FAULTS_DIE="dies")
        except ServerUnavailableError as error:
            refuse(str(error))
        yield fleet


async def value_at(base: str, user: str) -> int:
    """Return what a server shows of a user."""
    async with http_client(base) as client:
        response = await client.get("/plugins", headers=headers_of(user))
    assert response.status_code == 200, response.text
    assert "prefsync-stale" not in response.headers
    return int(response.json().get("n", 0))


async def write(base: str, user: str, n: int, origin: str = "tab-1") -> None:
    """Write through a server, which dies of it where the client calls itself ``dies``."""
    headers = {**headers_of(user), "prefsync-client": origin}
    async with http_client(base) as client:
        response = await client.patch("/plugins", headers=headers, content=f'{{"n": {n}}}'.encode())
    assert response.status_code == 200, response.text


async def stale_for(base: str, user: str, n: int) -> float:
    """Return the seconds until a server shows a value."""
    began = time.monotonic()
    while await value_at(base, user) != n:
        assert time.monotonic() - began < LIMIT, f"{base} is stale"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


@asynccontextmanager
async def session_at(base: str, user: str) -> AsyncIterator[Follower]:
    """Let a session follow a user."""
    session = Follower(base, user, "ws")
    following = asyncio.create_task(session.run())
    try:
        await until(lambda: session.connections > 0, LIMIT)
        yield session
    finally:
        following.cancel()
        await asyncio.wait({following})


@pytest.mark.parametrize("mount", ["FastAPI", "Flask"])
async def test_a_process_dies_between_commit_and_announcement(
    mount: str, fleet: Fleet, report: Callable[[str], None]
) -> None:
    """Nothing is stale for longer than seconds: neither what another process reads, nor what its sessions are told."""
    dying = fleet.servers[mount].url
    (alive,) = set(fleet.urls) - {dying}
    reads, sessions = [], []
    for n in range(1, TIMES + 1):
        user = f"{mount}-{n}"
        await write(alive, user, 0)
        async with session_at(alive, user) as session:
            assert await value_at(alive, user) == 0
            with pytest.raises(LOST):
                await write(dying, user, n, "dies")
            died = time.monotonic()
            reads.append(await stale_for(alive, user, n))
            await until(lambda: len(session.events) > 1, LIMIT)  # awaited in the loop
            sessions.append(time.monotonic() - died)
    report(
        f"{mount} killed between commit and announcement, {TIMES} times: another process stale for"
        f" {max(reads):.2f} s at the most, its session told within {max(sessions):.2f} s"
    )
    assert max(reads) < WITHIN
    assert max(sessions) < WITHIN


@pytest.mark.parametrize("outage", OUTAGES)
async def test_a_process_writes_while_it_is_cut_off_from_redis(
    outage: str, fleet: Fleet, report: Callable[[str], None]
) -> None:
    """It goes on; what it writes is stale elsewhere for no longer than seconds, though it can tell nobody."""
    url = fleet.urls[0]
    async with proxy_to(fleet.redis.url) as proxy:
        with ExitStack() as stack:
            behind = through(proxy, fleet.redis.url)
            apart = await run_sync(lambda: fleet.start("FastAPI", 1, stack, PREFSYNC_REDIS_URL=behind))
            await write(apart.url, outage, 0)
            assert await value_at(url, outage) == 0
            await OUTAGES[outage](proxy).begin()
            took = []
            for n in range(1, TIMES + 1):
                await write(apart.url, outage, n)
                assert await value_at(apart.url, outage) == n
                took.append(await stale_for(url, outage, n))
            await OUTAGES[outage](proxy).end()
            for n in range(TIMES + 1, 2 * TIMES + 1):
                await write(url, outage, n)
                await stale_for(apart.url, outage, n)
    report(
        f"writes of a process cut off from Redis ({outage}): stale elsewhere for {max(took):.2f} s at the most"
    )
    assert max(took) < WITHIN


async def test_redis_comes_back_with_what_it_had_long_ago(
    fleet: Fleet, report: Callable[[str], None]
) -> None:
    """After a restart from an old snapshot, or a failover to a replica that was behind, nothing is stale for long."""
    users = [f"snapshot-{number}" for number in range(20)]
    url, other = fleet.urls
    for user in users:
        await write(url, user, 1)
        assert await value_at(other, user) == 1
    with redis.Redis.from_url(fleet.redis.url) as client:
        await relay_has_passed(client)
        snapshot = {key: client.dump(key) for key in client.keys("*:doc:1:*")}
        for user in users:
            await write(url, user, 2)
        await relay_has_passed(client)  # so that it sees nothing new in these writes
        with client.pipeline() as pipeline:
            for key in client.keys("*:doc:1:*"):
                pipeline.delete(key)
            for key, value in snapshot.items():
                pipeline.restore(key, 300_000, value)
            pipeline.execute()
    began = time.monotonic()
    assert await value_at(other, users[0]) in {1, 2}
    for user in users:
        await stale_for(other, user, 2)
    took = time.monotonic() - began
    report(f"Redis back with an old snapshot: {len(users)} users stale for {took:.2f} s at the most")
    assert took < WITHIN


async def relay_has_passed(client: redis.Redis) -> None:
    """Return when the relay has begun a look, and ended it."""
    (mark,) = client.keys(f"*:doc:1:{_MARK.key}")
    for _ in range(2):
        before = client.get(mark)
        await until(lambda: client.get(mark) != before, LIMIT)  # noqa: B023  # awaited in the loop

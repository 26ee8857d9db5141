"""Redis and PostgreSQL fail in the middle of traffic at both mounts: what design.md promises for it holds."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest
import redis
from anyio.to_thread import run_sync

from tests.conftest import refuse
from tests.contracts.support import OUTAGES, proxy_to, through
from tests.faults.client import BOUND
from tests.faults.fleet import Fleet
from tests.faults.history import judge
from tests.faults.scene import PATIENCE, Scene
from tests.servers import ServerUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.faults.scene import Verdict
    from tests.servers import PrivatePostgres, PrivateRedis, PrivateServer

pytestmark = pytest.mark.once

AWAY = 1.5
"""Seconds that a part is out of reach."""

WRITES = 20
"""Acknowledged before a fault, and once more after it; and meanwhile where writes go on."""

LAG = 10.0
"""Seconds that a read may be behind where the cache was out of somebody's reach: "seconds", on a busy machine too."""

CONNECTIONS = 12
"""The most that a process has with PostgreSQL: its pool (ten), and some that are closing."""


def fleet_of(stack: ExitStack, **environment: str) -> Fleet:
    """Start a process of each mount."""
    try:
        return Fleet(stack, 1, **environment)
    except ServerUnavailableError as error:
        refuse(str(error))


@pytest.fixture(scope="module")
def patient() -> Iterator[Fleet]:
    """Processes that do not take a busy machine for an outage of PostgreSQL."""
    with ExitStack() as stack:
        yield fleet_of(stack, FAULTS_DATABASE_LIMIT="15")


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Processes as they are."""
    with ExitStack() as stack:
        yield fleet_of(stack)


def expect_no_outage(verdict: Verdict) -> None:
    """Every request was answered as if nothing were amiss."""
    judge(verdict.faults)
    assert {status for _, status in verdict.answers} <= {200, 412}, verdict.answers
    assert verdict.unknown == verdict.marked == 0


# --- Redis ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def flushed(server: PrivateRedis) -> AsyncIterator[None]:
    """All that it holds is gone at once, again and again."""
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        yield
        client.flushall()


@asynccontextmanager
async def restarted(server: PrivateServer) -> AsyncIterator[None]:
    """It ends in order, and begins again."""
    await run_sync(server.stop)
    yield
    await run_sync(server.start)


@asynccontextmanager
async def killed(server: PrivateServer) -> AsyncIterator[None]:
    """It ends where it stands, and begins again."""
    await run_sync(server.kill)
    yield
    await run_sync(server.start)


@asynccontextmanager
async def paused(server: PrivateServer) -> AsyncIterator[None]:
    """Its connections stay open, and nothing answers."""
    server.pause()
    try:
        yield
    finally:
        server.resume()


REDIS_FAULTS = {"flushed": flushed, "restarted": restarted, "killed": killed, "paused": paused}


@pytest.mark.parametrize("fault", REDIS_FAULTS)
async def test_redis_fails(fault: str, patient: Fleet, report: Callable[[str], None]) -> None:
    """No read and no write fails or hangs, none is lost, and no read is older than seconds."""
    async with Scene(patient.urls, f"redis-{fault}") as scene:
        await scene.more_writes(WRITES)
        async with REDIS_FAULTS[fault](patient.redis):
            await asyncio.sleep(AWAY)
            await scene.more_writes(WRITES)
        ended = time.monotonic()
        await scene.more_writes(WRITES)
        verdict = await scene.verdict(0.0 if fault == "flushed" else LAG)
    report(f"Redis {fault:22} {verdict}, {time.monotonic() - ended:.2f} s until all was level")
    expect_no_outage(verdict)


@pytest.mark.parametrize("outage", OUTAGES)
async def test_one_process_is_cut_off_from_redis(
    outage: str, patient: Fleet, report: Callable[[str], None]
) -> None:
    """Nobody fails; what it writes meanwhile, the others show within seconds; afterwards all of them are right."""
    async with proxy_to(patient.redis.url) as proxy:
        with ExitStack() as stack:
            url = through(proxy, patient.redis.url)
            apart = await run_sync(lambda: patient.start("FastAPI", 1, stack, PREFSYNC_REDIS_URL=url))
            async with Scene([*patient.urls, apart.url], f"apart-{outage}") as scene:
                await scene.more_writes(WRITES)
                await OUTAGES[outage](proxy).begin()
                await asyncio.sleep(AWAY)
                await scene.more_writes(WRITES)
                await OUTAGES[outage](proxy).end()
                await scene.more_writes(WRITES)
                verdict = await scene.verdict(LAG)
    report(f"Redis apart by {outage:13} {verdict}")
    expect_no_outage(verdict)


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def crashed(server: PrivatePostgres) -> AsyncIterator[None]:
    """It ends at once, and recovers."""
    await run_sync(server.crash)
    yield
    await run_sync(server.start)


POSTGRES_FAULTS = {"restarted": restarted, "crashed": crashed, "killed": killed, "paused": paused}


@pytest.mark.parametrize("fault", POSTGRES_FAULTS)
async def test_postgres_fails(fault: str, fleet: Fleet, report: Callable[[str], None]) -> None:
    """Reads are from the cache and say so, or 503 like the writes; nothing hangs, nothing is lost, all recovers."""
    async with Scene(fleet.urls, f"postgres-{fault}") as scene:
        await scene.more_writes(WRITES)
        async with POSTGRES_FAULTS[fault](fleet.postgres):
            await scene.noticed()
            await asyncio.sleep(AWAY)
        ended = time.monotonic()
        await scene.more_writes(1)
        back = time.monotonic() - ended
        await scene.more_writes(WRITES)
        verdict = await scene.verdict(LAG)
    report(f"PostgreSQL {fault:17} {verdict}, writes again after {back:.2f} s")
    judge(verdict.faults)
    assert {status for _, status in verdict.answers} <= {200, 412, 503}, verdict.answers
    assert verdict.marked
    assert verdict.slowest < BOUND
    await nothing_is_left(fleet)


async def nothing_is_left(fleet: Fleet) -> None:
    """Wait until no transaction is open and no process has more connections than its pool."""
    connection = await asyncpg.connect(fleet.postgres.url)
    deadline = time.monotonic() + PATIENCE
    try:
        while True:
            states = [
                row["state"]
                for row in await connection.fetch(
                    "SELECT state FROM pg_stat_activity WHERE application_name = 'prefsync'"
                )
            ]
            if set(states) <= {"idle"} and len(states) <= CONNECTIONS * len(fleet.servers):
                return
            assert time.monotonic() < deadline, f"connections do not come to rest: {states}"
            await asyncio.sleep(0.05)
    finally:
        await connection.close()

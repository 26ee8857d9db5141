"""Health tells which part is away, since when, and that it is back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.to_thread import run_sync

from prefsync.schema import Preferences
from prefsync.settings import Settings
from prefsync.testing.samples import PATIENCE
from prefsync.wiring import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import PrivatePostgres, PrivateRedis

pytestmark = pytest.mark.once


class Appearance(Preferences, namespace="appearance"):
    """A namespace."""

    theme: str = "system"


async def until(true: Callable[[], bool]) -> None:
    """Wait for what comes by itself."""
    with anyio.fail_after(2 * PATIENCE):
        while not true():
            await anyio.sleep(0.02)


async def test_parts_that_go_and_come_back(
    private_postgres: Callable[[], PrivatePostgres], private_redis: Callable[[], PrivateRedis]
) -> None:
    """Each part is told to be well with its latency, ill from when it went, and well again without anybody's doing."""
    postgres, redis = await run_sync(private_postgres), await run_sync(private_redis)
    settings = Settings(database_url=postgres.url, redis_url=redis.url)
    runtime = Runtime([Appearance], settings=settings, authenticates=False)
    assert runtime.health().parts == {}
    async with runtime:

        def ill() -> set[str]:
            return {name for name, part in runtime.health().parts.items() if not part.is_well}

        await until(lambda: not ill())
        latencies = {name: part.latency for name, part in runtime.health().parts.items()}
        assert latencies.keys() == {"database", "cache", "notifier", "relay"}
        assert all(latencies[name] is not None for name in ("database", "cache"))

        stopped = time.time_ns() // 1_000_000
        await run_sync(redis.stop)
        await until(lambda: ill() >= {"cache", "notifier"})
        found = runtime.health().parts["cache"]
        assert found.since >= stopped
        assert found.latency is None
        assert runtime.health().parts["database"].since < stopped
        await run_sync(redis.start)
        await until(lambda: not ill())

        await run_sync(postgres.stop)
        await until(lambda: "database" in ill() and not runtime.health().database)
        await until(lambda: "relay" in ill())
        assert "cache" not in ill()
        await run_sync(postgres.start)
        await until(lambda: not ill())
        assert runtime.health().database

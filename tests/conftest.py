"""The servers that tests run against: real ones, found or started.

Where none can be had, a test is skipped with a line that says why; with ``CI`` set it fails.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING, NoReturn, TypeVar

import pytest
import redis
from hypothesis import HealthCheck, settings

from tests.clusters import PrivateCluster
from tests.servers import (
    PrivatePostgres,
    PrivateRedis,
    PrivateServer,
    ServerUnavailableError,
    create_database,
    drop_database,
    local_postgres,
    local_redis,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Every run tries the same examples, however long a busy machine takes over them.
settings.register_profile(
    "prefsync",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("prefsync")

Server = TypeVar("Server", bound="PrivateServer | PrivateCluster")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio: the drivers of PostgreSQL and Redis know nothing else."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _patience() -> Iterator[None]:
    """That the machine is busy with other tests is no outage; what tests outages sets shorter limits, or waits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prefsync.adapters.sqlalchemy.runners._TIME_LIMIT", 15.0)
        patch.setattr("prefsync.adapters.sqlalchemy.asyncpg.TIME_LIMIT", 15.0)
        patch.setattr("prefsync.adapters.sqlalchemy.repository._BUSY", 15.0)
        patch.setattr("prefsync.wiring._DATABASE_LIMIT", 16.0)
        yield


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A plain ``postgresql://`` URL to an empty database of this run, dropped at its end.

    On the server of ``PREFSYNC_TEST_POSTGRES_URL``, else on 127.0.0.1:5432, else on a private one.
    """
    with contextlib.ExitStack() as stack:
        server = os.environ.get("PREFSYNC_TEST_POSTGRES_URL") or local_postgres()
        if server is None:
            server = stack.enter_context(_available(PrivatePostgres)).url
        name = f"prefsync_test_{secrets.token_hex(8)}"
        url = create_database(server, name)
        stack.callback(drop_database, server, name)
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A ``redis://`` URL. Others may use the server too: keep to ``redis_prefix``, and never flush.

    The server of ``PREFSYNC_TEST_REDIS_URL``, else 127.0.0.1:6379, else a private one.
    """
    with contextlib.ExitStack() as stack:
        url = os.environ.get("PREFSYNC_TEST_REDIS_URL") or local_redis()
        yield url or stack.enter_context(_available(PrivateRedis)).url


@pytest.fixture
def redis_prefix(redis_url: str) -> Iterator[str]:
    """A prefix for this test's keys and channels; its keys are deleted afterwards."""
    prefix = f"prefsync-test-{secrets.token_hex(8)}:"
    yield prefix
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter(f"{prefix}*", count=1000):
            client.unlink(key)


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[PrivateCluster]:
    """A cluster of six nodes for tests that leave it as it is."""
    with _available(PrivateCluster) as cluster:
        yield cluster


@pytest.fixture
def private_cluster() -> Iterator[Callable[[], PrivateCluster]]:
    """Start clusters that a test may break; each call gives another one, and all end with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(_available(PrivateCluster))


@pytest.fixture
def private_redis() -> Iterator[Callable[[], PrivateRedis]]:
    """Start Redis servers that a test may break; each call gives another one, and all end with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(_available(PrivateRedis))


@pytest.fixture
def private_postgres() -> Iterator[Callable[[], PrivatePostgres]]:
    """Start PostgreSQL servers that a test may break; each call gives another one, and all end with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(_available(PrivatePostgres))


def _available(kind: Callable[[], Server]) -> Server:
    try:
        return kind()
    except ServerUnavailableError as error:
        refuse(str(error))


def refuse(reason: str) -> NoReturn:
    """Skip a test that cannot run here, or fail it where ``CI`` is set."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (with CI set, real servers are a must)")
    pytest.skip(reason)

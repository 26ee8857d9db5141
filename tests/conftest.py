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
    PrivateMariadb,
    PrivatePostgres,
    PrivateRedis,
    PrivateServer,
    ServerUnavailableError,
    create_database,
    drop_database,
    local_mysql,
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

# What the lines of ``report`` are called among the properties of a test.
_FIGURE = "figure"

Server = TypeVar("Server", bound="PrivateServer | PrivateCluster")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what runs once: it waits for servers and clocks, so that the quick rest fills the end evenly."""
    items.sort(key=lambda item: item.get_closest_marker("once") is None)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Note a line for the end of the run, in whichever process the test runs."""

    def note(line: str) -> None:
        request.node.user_properties.append((_FIGURE, line))

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was noted. With pytest-xdist only a test's own properties travel here, and no stash does."""
    reports = [one for some in terminalreporter.stats.values() for one in some if hasattr(one, "when")]
    figures = [
        (one.nodeid, line)
        for one in reports
        if one.when == "call"
        for name, line in one.user_properties
        if name == _FIGURE
    ]
    if figures:
        terminalreporter.section("figures")
        for _, line in sorted(figures, key=lambda figure: figure[0].partition("::")[0]):  # by module
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio: the drivers of PostgreSQL and Redis know nothing else."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _patience() -> Iterator[None]:
    """That the machine is busy with other tests is no outage; what tests outages sets shorter limits, or waits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prefsync.adapters.sqlalchemy.runners._TIME_LIMIT", 15.0)
        patch.setattr("prefsync.adapters.sqlalchemy.gathered_writes._TIME_LIMIT", 15.0)
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
            server = stack.enter_context(available(PrivatePostgres)).url
        name = f"prefsync_test_{secrets.token_hex(8)}"
        url = create_database(server, name)
        stack.callback(drop_database, server, name)
        yield url


@pytest.fixture(scope="session")
def mysql_url() -> Iterator[str]:
    """A ``mysql://`` URL to a server, for databases of a test's own: ``PREFSYNC_TEST_MYSQL_URL``, else 127.0.0.1:3306.

    Else a private one, a MariaDB.
    """
    with contextlib.ExitStack() as stack:
        url = os.environ.get("PREFSYNC_TEST_MYSQL_URL") or local_mysql()
        yield url or stack.enter_context(available(PrivateMariadb)).url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A ``redis://`` URL. Others may use the server too: keep to ``redis_prefix``, and never flush.

    The server of ``PREFSYNC_TEST_REDIS_URL``, else 127.0.0.1:6379, else a private one.
    """
    with contextlib.ExitStack() as stack:
        url = os.environ.get("PREFSYNC_TEST_REDIS_URL") or local_redis()
        yield url or stack.enter_context(available(PrivateRedis)).url


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
    with available(PrivateCluster) as cluster:
        yield cluster


@pytest.fixture
def private_cluster() -> Iterator[Callable[[], PrivateCluster]]:
    """Start clusters that a test may break; each call gives another one, and all end with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(available(PrivateCluster))


@pytest.fixture
def private_redis() -> Iterator[Callable[[], PrivateRedis]]:
    """Start Redis servers that a test may break; each call gives another one, and all end with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(available(PrivateRedis))


@pytest.fixture
def private_postgres() -> Iterator[Callable[[], PrivatePostgres]]:
    """Start PostgreSQL servers that a test may break; each call gives another one, and all end with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(available(PrivatePostgres))


def available(kind: Callable[[], Server]) -> Server:
    """Return a server of our own, not started; without a binary for it, the test is refused."""
    try:
        return kind()
    except ServerUnavailableError as error:
        refuse(str(error))


def refuse(reason: str) -> NoReturn:
    """Skip a test that cannot run here, or fail it where ``CI`` is set."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (with CI set, real servers are a must)")
    pytest.skip(reason)

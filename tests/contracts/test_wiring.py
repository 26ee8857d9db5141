"""What the settings build."""

from __future__ import annotations

import secrets
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import pytest

from prefsync.adapters.limits import LimitsRateLimiter
from prefsync.adapters.memory import MemoryCache
from prefsync.adapters.postgres import PostgresNotifier
from prefsync.adapters.redis import RedisCache, RedisClusterNotifier
from prefsync.document import Subject
from prefsync.errors import ConfigurationError, RateLimitedError
from prefsync.parts import Parts
from prefsync.ports import Announcement, Rate
from prefsync.schema import Preferences
from prefsync.settings import Settings
from prefsync.wiring import Runtime
from tests.contracts.support import patient_link
from tests.servers import create_database, drop_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefsync.http.quotas import Quota
    from tests.clusters import PrivateCluster

pytestmark = pytest.mark.once

LIMIT = 20.0


class Appearance(Preferences, namespace="appearance"):
    """A namespace."""

    theme: str = "system"


@pytest.fixture
def database(postgres_url: str) -> Iterator[str]:
    """A database of the test's own."""
    name = f"prefsync_test_{secrets.token_hex(8)}"
    yield create_database(postgres_url, name)
    drop_database(postgres_url, name)


async def test_processes_without_redis_hear_of_changes_over_postgresql(
    database: str, postgres_url: str
) -> None:
    """With a notifier's URL alone, what one process writes is announced, change and all, in the other."""
    settings = Settings(database_url=database, notifier_url=postgres_url)
    subject = Subject("user")
    async with (
        Runtime([Appearance], settings=settings, authenticates=False) as one,
        Runtime([Appearance], settings=settings, authenticates=False) as other,
    ):
        assert isinstance(other.notifier, PostgresNotifier)
        assert isinstance(other.cache, MemoryCache)
        async with other.notifier.subscribe() as announcements:
            await one.handle(subject).update(Appearance, theme="dark")
            with anyio.fail_after(LIMIT):
                heard = await anext(announcements)
            assert isinstance(heard, Announcement)
            assert heard.subject == subject
            assert heard.change is not None
            assert heard.change.assigned == {"appearance": {"theme": "dark"}}


async def test_a_clusters_url_puts_everything_on_the_cluster(redis_cluster: PrivateCluster) -> None:
    """With ``redis+cluster://`` two processes share cache, announcements and limits on a cluster."""
    settings = Settings(
        database_url="sqlite:///:memory:", redis_url=redis_cluster.url, redis_prefix=secrets.token_hex(8)
    )
    subject = Subject("user")
    async with Runtime([Appearance], settings=settings, authenticates=False) as runtime:
        assert isinstance(runtime.cache, RedisCache)
        assert isinstance(runtime.notifier, RedisClusterNotifier)
        async with runtime.notifier.subscribe() as announcements:
            await runtime.handle(subject).update(Appearance, theme="dark")
            with anyio.fail_after(LIMIT):
                heard = await anext(announcements)
                assert isinstance(heard, Announcement)
                while await runtime.cache.get(subject) is None:
                    await anyio.sleep(0.02)
        assert (await runtime.limiter.acquire("key")).remaining == settings.rate_limit.limit - 1


async def test_operations_with_rates_of_their_own_share_their_counts(
    database: str, redis_url: str, redis_prefix: str
) -> None:
    """Two processes count writes together and apart from all else, to exactly the limit, however they race."""
    passed: Counter[bytes] = Counter()

    async def ask(quota: Quota) -> None:
        headers: list[tuple[bytes, bytes]] = []
        with suppress(RateLimitedError):
            await quota.count("somebody", headers)
            passed[dict(headers)[b"ratelimit-policy"]] += 1

    def process() -> Runtime:
        link = patient_link(redis_url, redis_prefix)
        parts = Parts(
            limiter=LimitsRateLimiter(Rate(7, 60), link),
            operation_limiters={"writes": LimitsRateLimiter(Rate(11, 60), link)},
        )
        return Runtime(
            [Appearance], settings=Settings(database_url=database), parts=parts, authenticates=False
        )

    async with process() as one, process() as other, anyio.create_task_group() as tasks:
        for quotas in (one.api.admission.quotas, other.api.admission.quotas) * 10:
            for quota in (quotas.reads, quotas.writes, quotas.streams):
                tasks.start_soon(ask, quota)
    assert passed == {b'"user";q=7;w=60': 7, b'"user-writes";q=11;w=60': 11}


async def test_a_cluster_is_no_server(redis_cluster: PrivateCluster) -> None:
    """A cluster that is given as if it were one server is refused at the start, and the error says what to write."""
    url = redis_cluster.url.replace("redis+cluster", "redis")
    settings = Settings(database_url="sqlite:///:memory:", redis_url=url)
    with pytest.raises(ConfigurationError, match="write redis\\+cluster://"):
        await Runtime([Appearance], settings=settings, authenticates=False).__aenter__()


async def test_two_databases_share_a_server_for_announcements(database: str, postgres_url: str) -> None:
    """Deployments that announce on one server, and each store elsewhere, do not hear one another."""
    first = Settings(database_url=database, notifier_url=postgres_url)
    second = Settings(database_url="sqlite:///:memory:", notifier_url=postgres_url)
    async with (
        Runtime([Appearance], settings=first, authenticates=False) as one,
        Runtime([Appearance], settings=second, authenticates=False) as other,
        other.notifier.subscribe() as announcements,
    ):
        await one.handle(Subject("user")).update(Appearance, theme="dark")
        await other.handle(Subject("other")).update(Appearance, theme="dark")
        with anyio.fail_after(LIMIT):
            heard = await anext(announcements)
        assert isinstance(heard, Announcement)
        assert heard.subject == Subject("other")

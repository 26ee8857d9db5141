"""What the settings build."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import anyio
import pytest

from prefsync.adapters.memory import MemoryCache
from prefsync.adapters.postgres import PostgresNotifier
from prefsync.document import Subject
from prefsync.ports import Announcement
from prefsync.schema import Preferences
from prefsync.settings import Settings
from prefsync.wiring import Runtime
from tests.servers import create_database, drop_database

if TYPE_CHECKING:
    from collections.abc import Iterator

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

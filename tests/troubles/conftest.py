"""Hosts whose database can be made to refuse: through the mount, on the engines that hosts have."""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from prefsync.adapters.sqlalchemy import SqlAlchemyRepository
from prefsync.parts import Parts
from prefsync.ports import Rate
from prefsync.settings import Settings
from prefsync.testing.mount import KEY
from tests.http.hosts import app_with, memory_mount, running
from tests.servers import create_database, drop_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from prefsync.testing.mount import Caller
    from prefsync_fastapi import PrefSync


MANY = Rate(1_000_000, 60)


@pytest.fixture
def database(postgres_url: str) -> Iterator[str]:
    """A PostgreSQL database of the test's own."""
    name = f"prefsync_test_{secrets.token_hex(8)}"
    yield create_database(postgres_url, name)
    drop_database(postgres_url, name)


@contextlib.asynccontextmanager
async def mounted(
    source: str | AsyncEngine | Engine, *, pool_size: int = 4, rate: Rate = MANY, **options: Any
) -> AsyncIterator[tuple[PrefSync, Caller]]:
    """Run an app on a database, and give its mount and a user of it."""
    mount = memory_mount(
        settings=Settings(jwt_key=KEY, rate_limit=rate),
        parts=Parts(repository=SqlAlchemyRepository(source, pool_size=pool_size)),
        **options,
    )
    async with running(app_with(mount)) as caller:
        yield mount, caller

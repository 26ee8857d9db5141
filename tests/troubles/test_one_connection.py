"""A pool of one connection: everybody waits for it, nobody for ever, and nothing is left of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest
from sqlalchemy import create_engine

from prefsync.testing.mount import newcomer
from tests.troubles.conftest import mounted

if TYPE_CHECKING:
    from pathlib import Path

    from prefsync.testing.mount import Caller

pytestmark = pytest.mark.once

LIMIT = 60


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg", "psycopg2", "sqlite"])
async def test_everything_works_on_one_connection(database: str, tmp_path: Path, driver: str) -> None:
    """Forty users read, write, repeat and catch up at once, beside the background work: all are answered, none refused."""
    url = f"sqlite:///{tmp_path}/x.sqlite3"
    if driver != "sqlite":
        url = database.replace("postgresql:", f"postgresql+{driver}:")
    engine = create_engine(url, pool_size=1, max_overflow=0) if driver == "psycopg2" else None

    async def use(caller: Caller, number: int) -> None:
        wrote = await caller.patch(
            "/editor", {"tab_size": number % 16 + 1}, headers={"Idempotency-Key": f'"{number}"'}
        )
        again = await caller.patch(
            "/editor", {"tab_size": number % 16 + 1}, headers={"Idempotency-Key": f'"{number}"'}
        )
        assert (wrote.status, again.status) == (200, 200), (wrote, again)
        assert wrote.headers["ETag"] == again.headers["ETag"]
        assert (await caller.get("/editor")).json()["tab_size"] == number % 16 + 1
        changes = await caller.get("/changes", query="since=0")
        assert changes.status in {200, 410}, changes

    try:
        with anyio.fail_after(LIMIT):
            async with mounted(engine or url, pool_size=1) as (mount, caller):
                await asyncio.gather(*(use(newcomer(caller.client), number) for number in range(40)))
                await mount.runtime.service.erase(caller.subject)
    finally:
        if engine is not None:
            engine.dispose()

"""A database that answers and stores nothing: writes are told so, at once, and reads go on as if nothing was."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from prefsync.testing.mount import newcomer
from tests.troubles.conftest import mounted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from prefsync.testing.mount import Answer, Caller

pytestmark = pytest.mark.once

LIMIT = 60

DARK = {"theme": "dark"}


async def refused(caller: Caller, why: str, *, rounds: int = 8) -> None:
    """Check that no write gets through, that each says why and when to try again, and that the database is read."""
    for _ in range(rounds):
        known, stranger = caller, newcomer(caller.client)
        alone = await known.patch("/appearance", {"theme": "light"})
        together = await asyncio.gather(
            *(known.patch("/appearance", {"font_size": size}) for size in range(10, 14)),
            *(newcomer(caller.client).patch("/appearance", DARK) for _ in range(3)),
        )
        for answer in (alone, *together):
            problem = answer.json()
            assert (answer.status, problem["type"]) == (503, "urn:prefsync:problem:unavailable"), problem
            assert why in problem["detail"]
            assert answer.headers["Retry-After"] == "5"
        # Of a stranger nothing is cached: the database is asked, and no breaker is in the way.
        for reader, theme in ((known, "dark"), (stranger, "system")):
            answer = await reader.get("/appearance")
            assert (answer.status, answer.json()["theme"]) == (200, theme)
            assert "Prefsync-Stale" not in answer.headers


async def eventually(ask: Callable[[], Any], status: int, why: str = "") -> Answer:
    """Ask until the answer is as expected: connections that were cut are noticed one by one."""
    with anyio.fail_after(LIMIT):
        while True:
            answer: Answer = await ask()
            if answer.status == status and why in answer.json().get("detail", ""):
                return answer
            await anyio.sleep(0.05)


def set_read_only(url: str, value: str) -> None:
    """Make a database read-only, as a failover does: what was connected is cut."""
    name = url.rpartition("/")[2]
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("SET default_transaction_read_only = off")
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg", "psycopg2"])
async def test_a_read_only_postgresql(database: str, driver: str, caplog: pytest.LogCaptureFixture) -> None:
    """After a failover to a standby, say. When it takes writes again, they get through, without a restart."""
    url = database.replace("postgresql:", f"postgresql+{driver}:")
    engine = create_engine(url, pool_size=2) if driver == "psycopg2" else None
    try:
        async with mounted(engine or url) as (_, caller):
            assert (await caller.patch("/appearance", DARK)).status == 200
            set_read_only(database, "on")
            await eventually(lambda: caller.patch("/appearance", {"theme": "light"}), 503, "it is read-only")
            await eventually(lambda: newcomer(caller.client).get("/appearance"), 200)
            await refused(caller, "it is read-only")
            set_read_only(database, "off")
            await eventually(lambda: caller.patch("/appearance", {"theme": "light"}), 200)
    finally:
        if engine is not None:
            engine.dispose()
    assert 1 <= caplog.text.count("it is read-only; reads go on") <= 3, "said now and then, not each second"
    assert "Traceback" not in caplog.text


async def test_starting_on_a_read_only_postgresql(database: str) -> None:
    """A process starts where it can only read, be it that nobody noted the version of the tables there."""
    async with mounted(database) as (_, caller):
        assert (await caller.patch("/appearance", DARK)).status == 200
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("DROP TABLE prefsync_alembic_version")
    set_read_only(database, "on")
    async with mounted(database) as (_, other):
        await refused(caller.through(other.client), "it is read-only", rounds=2)


async def test_a_read_only_sqlite_file(tmp_path: Path) -> None:
    """A process starts on a file that it may only read, and serves what is in it."""
    path = tmp_path / "prefsync.sqlite3"
    async with mounted(f"sqlite:///{path}") as (_, caller):
        assert (await caller.patch("/appearance", DARK)).status == 200
    async with mounted(f"sqlite:///file:{path}?mode=ro&uri=true") as (_, other):
        await refused(caller.through(other.client), "it is read-only")


async def test_a_full_disk_under_sqlite(tmp_path: Path) -> None:
    """Where the file cannot grow, writes that need room say so; when there is room again, they get through."""
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{tmp_path}/prefsync.sqlite3", pool_size=1, max_overflow=0
    )
    async with mounted(engine) as (_, caller):
        assert (await caller.patch("/appearance", DARK)).status == 200
        await limit_pages(engine, 1)  # SQLite takes what there is for the least
        filler = {"x": "x" * 16_000}
        with anyio.fail_after(LIMIT):  # what is free in the last pages is filled first
            while (await newcomer(caller.client).put("/plugins", filler)).status != 503:
                pass
        answer = await caller.put("/plugins", filler)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert "its disk is full" in answer.json()["detail"]
        for _ in range(5):
            answer = await newcomer(caller.client).get("/appearance")
            assert (answer.status, answer.json()["theme"]) == (200, "system")
        assert (await caller.get("/appearance")).json()["theme"] == "dark"
        assert (await caller.get("/plugins")).json() == {}, "half of a write that failed was left"
        await limit_pages(engine, 1_000_000)
        assert (await caller.put("/plugins", filler)).status == 200
    await engine.dispose()


async def limit_pages(engine: Any, pages: int) -> None:
    """Bound the size of a SQLite database."""
    async with engine.connect() as connection:
        await connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")


FULL = """
CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'could not extend file "base/1/2": No space left on device' USING ERRCODE = 'disk_full';
END $$;
CREATE TRIGGER no_room BEFORE INSERT ON preference_changes FOR EACH ROW EXECUTE FUNCTION no_room();
"""


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_full_disk_under_postgresql(database: str, driver: str) -> None:
    """What PostgreSQL says where a table cannot grow, said for it by a trigger: likewise."""
    async with mounted(database.replace("postgresql:", f"postgresql+{driver}:")) as (_, caller):
        assert (await caller.patch("/appearance", DARK)).status == 200
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute(FULL)
            await refused(caller, "its disk is full", rounds=3)
            admin.execute("DROP TRIGGER no_room ON preference_changes")
        assert (await caller.patch("/appearance", {"theme": "light"})).status == 200

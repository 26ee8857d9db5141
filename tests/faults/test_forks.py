"""Parent and children go on, each on connections of its own, whatever was open when the process was forked."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from prefsync import ConfigurationError, OpenPreferences, Runtime, Settings
from prefsync.adapters.sqlalchemy import SqlAlchemyRepository, sqlite_forks
from tests.faults.forked import KINDS
from tests.servers import create_database, drop_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
]

# Seconds that a program may take: a few seconds of work, on a machine that is busy with other tests.
LIMIT = 90.0


def output(module: str, *arguments: str) -> list[Any]:
    """Run a program and return the lines of JSON that it prints; on its standard error there must be nothing."""
    warnings = ["-W", "default::ResourceWarning", "-W", "ignore::DeprecationWarning"]
    ran = subprocess.run(
        [sys.executable, *warnings, "-m", module, *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert ran.stderr == ""
    assert ran.returncode == 0
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.fixture
def database(postgres_url: str) -> Iterator[str]:
    """A database of the test's own."""
    name = f"prefsync_test_{secrets.token_hex(8)}"
    yield create_database(postgres_url, name)
    drop_database(postgres_url, name)


@pytest.mark.parametrize("kind", KINDS)
def test_parent_and_children_work_side_by_side(
    kind: str, database: str, redis_url: str, redis_prefix: str, tmp_path: Path
) -> None:
    """Forked in the midst of work, all of them write, hear of each other's writes, and end without a word.

    What a child was told to be written is there, also where the parent has closed everything meanwhile.
    """
    url = f"sqlite:///{tmp_path}/x.sqlite3" if KINDS[kind] == "sqlite" else database
    *children, parent = output("tests.faults.forked", kind, url, redis_url, redis_prefix)
    assert {child["name"]: child["written"] for child in children} == parent["stored"]
    assert parent["statuses"] == [0] * len(children)
    for child in children:
        assert child["heard"]["parent"] > 0
        assert child["heard"][child["name"]] > 0


@pytest.mark.parametrize("driver", ["asyncpg", "redis"])
def test_what_is_kept_does_not_reach_the_parent(driver: str, postgres_url: str, redis_url: str) -> None:
    """A parent's connection goes on after a child that has kept its copy ended, garbage collection and all."""
    output("tests.faults.kept", driver, {"asyncpg": postgres_url, "redis": redis_url}[driver])


async def test_a_sqlite_connection_that_was_at_work_is_not_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To close it could undo what the parent is about: files are refused then, until the host forks in time."""
    file = tmp_path / "x.sqlite3"
    rests, works = (
        sqlite3.connect(file, factory=sqlite_forks.ForkAwareConnection, check_same_thread=False)
        for _ in range(2)
    )
    works.execute("BEGIN")
    monkeypatch.setattr(sqlite_forks, "_INHERITED", inherited := [rests, works])
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="forked in the middle"):
            await SqlAlchemyRepository(f"sqlite:///{file}").__aenter__()
    assert inherited == [works]
    works.rollback()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        rests.execute("SELECT 1")
    async with SqlAlchemyRepository(f"sqlite:///{file}") as repository:
        await repository.ping()
    assert inherited == []


async def test_an_abandoned_runtime_is_not_opened_again(tmp_path: Path) -> None:
    """Who enters it is told to make a new one, which works."""

    class Plugins(OpenPreferences, namespace="plugins"):
        """A namespace."""

    settings = Settings(database_url=f"sqlite:///{tmp_path}/x.sqlite3")
    runtime = Runtime([Plugins], settings=settings, authenticates=False)
    async with runtime:
        await runtime.repository.ping()
    runtime.abandon()
    with pytest.raises(RuntimeError, match="forked"):
        await runtime.__aenter__()
    async with Runtime([Plugins], settings=settings, authenticates=False) as another:
        await another.repository.ping()

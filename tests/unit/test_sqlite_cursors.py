"""Connections to one SQLite file do not hold up or fail one another without need."""

from __future__ import annotations

import gc
import sqlite3
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event

from prefsync.adapters.sqlalchemy import SqlAlchemyRepository
from prefsync.adapters.sqlalchemy.sqlite_forks import ForkAwareConnection
from tests.unit.support import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any


def test_a_failed_statement_is_forgotten_while_its_connection_waits(tmp_path: Path) -> None:
    """Its cursor can be collected at once, in the event loop's thread say, whatever the connection does in its own."""
    file = tmp_path / "prefs.sqlite3"
    options = {"check_same_thread": False, "isolation_level": None, "timeout": PATIENCE}
    with (
        closing(sqlite3.connect(file, **options)) as other,
        closing(sqlite3.connect(file, factory=ForkAwareConnection, **options)) as connection,
    ):
        connection.execute("CREATE TABLE keys (name TEXT PRIMARY KEY)")
        connection.execute("INSERT INTO keys VALUES ('a')")
        cursor = connection.cursor()
        with pytest.raises(sqlite3.IntegrityError):
            cursor.execute("INSERT INTO keys VALUES ('a')")
        other.execute("BEGIN IMMEDIATE")
        begun = threading.Event()
        # Called when a statement begins, inside of SQLite, which lets nobody else in before it ends.
        connection.set_trace_callback(lambda _statement: begun.set())
        waiting = threading.Thread(target=lambda: connection.cursor().execute("BEGIN IMMEDIATE"))
        waiting.start()
        assert begun.wait(PATIENCE)
        del cursor
        gc.collect()  # its error's traceback holds it, and it holds its error
        assert waiting.is_alive(), "it waited until the other gave up"
        other.rollback()
        waiting.join()
        connection.rollback()


@pytest.mark.anyio
async def test_a_database_is_named_while_another_process_writes(tmp_path: Path) -> None:
    """Who looked for its name and found none gives it one, although somebody else would write just then."""
    file = tmp_path / "prefs.sqlite3"

    async with SqlAlchemyRepository(f"sqlite+aiosqlite:///{file}") as repository:
        runner: Any = repository._runner

        @event.listens_for(runner._engine.sync_engine, "before_cursor_execute")
        def write_first(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            if statement.startswith("INSERT INTO preference_deployment"):
                with closing(sqlite3.connect(file, timeout=0)) as other, suppress(sqlite3.OperationalError):
                    other.execute("CREATE TABLE of_another (id INTEGER)")
                    other.commit()

        assert await repository.identity() == await repository.identity()

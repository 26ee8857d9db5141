"""What SQLite needs: engines of ours made durable, and the host's refused where they cannot work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.pool import StaticPool

from prefsync.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

__all__ = ["begin_to_write", "prepare_sqlite", "refuse_scattered_memory"]


def prepare_sqlite(engine: Engine, busy_seconds: float) -> None:
    """Make SQLite durable, and let readers go on while one connection writes.

    Write-ahead logging with full synchronisation: an acknowledged commit survives a power cut
    (https://www.sqlite.org/pragma.html#pragma_synchronous). A write takes its lock at the start: a
    transaction that reads first and writes then can fail although it waited
    (https://www.sqlite.org/lang_transaction.html, section 2.2).
    """

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # pysqlite must not open transactions by itself
        cursor = connection.cursor()
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            f"busy_timeout = {int(busy_seconds * 1000)}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("prefsync_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def begin_to_write(connection: Connection) -> None:
    """Be in a transaction that holds SQLite's lock, unless the engine begins transactions in a way of its own.

    The driver begins one with the first statement that changes something: what an operation looked at before could be
    another's by then.
    """
    if not connection.in_transaction():
        connection.begin()
    driver: Any = connection.connection.driver_connection
    if not driver.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def refuse_scattered_memory(engine: Engine) -> None:
    """Raise where each connection of an engine would be to a database in memory of its own.

    Raises:
        ConfigurationError: It would.
    """
    if engine.url.database in {None, "", ":memory:"} and not isinstance(engine.pool, StaticPool):
        raise ConfigurationError(
            "a SQLite database in memory is another one in each thread; make the engine with"
            ' poolclass=StaticPool and connect_args={"check_same_thread": False}, or give it a file'
        )

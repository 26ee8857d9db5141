"""What happens to the tables when a repository is opened, and when the host asks for an upgrade.

One process at a time: those that start together wait for one another, and find the work done.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from prefsync.adapters.sqlalchemy.sqlite import begin_to_write
from prefsync.adapters.sqlalchemy.versions import HEAD, Standing, create_tables, stamp, version_of
from prefsync.errors import IncompatibleTablesError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

    from prefsync.adapters.sqlalchemy.versions import TablesVersion

__all__ = ["TablesMode", "prepare", "upgrade_tables"]

logger = logging.getLogger("prefsync")

TablesMode: TypeAlias = Literal["create", "upgrade", "check"]

# Any number that no other user of advisory locks is likely to take: "prefsync" as bytes.
_ADVISORY_LOCK: Final = int.from_bytes(b"prefsync") % 2**63

# Such a lock is the server's; ours is that of one database. Names have 64 characters at most.
_MYSQL_LOCK: Final = "LEFT(CONCAT('prefsync ', DATABASE()), 64)"

# Seconds, where the caller settles how long to wait: MariaDB takes less than 0 for 0.
_FOR_EVER: Final = 31_536_000

# A connection's status in libpq where no transaction was begun (PQTRANS_IDLE).
_IDLE: Final = 0

# Seconds that one process waits for another that is creating or upgrading the tables.
_PATIENCE: Final = 60


def prepare(connection: Connection, mode: TablesMode) -> TablesVersion:
    """See that the tables can be worked with, and do what the host allows where they cannot. Commits.

    Args:
        connection: Without a transaction.
        mode: ``check`` changes nothing; ``create`` creates all tables in a database that has none; ``upgrade`` upgrades
            older ones too.

    Raises:
        IncompatibleTablesError: They cannot be worked with; the message says what to do.
    """
    version = version_of(connection)
    connection.rollback()
    if mode != "check" and not _is_done(version, mode):
        version = _change(connection, mode, version)
    match version.standing:
        case Standing.NEWER:
            logger.info(
                "the tables are at %s, newer than this code, which is made for %s and works with them",
                version.revision,
                HEAD,
            )
        case Standing.CURRENT:
            return version
        case _:
            raise IncompatibleTablesError(_advice(version))
    return version


def _is_done(version: TablesVersion, mode: TablesMode) -> bool:
    match version.standing:
        case Standing.EMPTY:
            return False
        case Standing.OLDER:
            return mode != "upgrade"
        case _:
            return version.is_stamped


def _change(connection: Connection, mode: TablesMode, before: TablesVersion) -> TablesVersion:
    _begin(connection)
    try:
        with _alone(connection, waits=_PATIENCE):
            version = version_of(connection)  # another process may have been here meanwhile
            if version.standing is Standing.EMPTY:
                create_tables(connection)
            elif version.standing is Standing.OLDER and mode == "upgrade":
                _migrate(connection, version)
            elif version.standing is Standing.CURRENT and not version.is_stamped:
                stamp(connection, HEAD)
            after = version_of(connection)
            connection.commit()
    except DBAPIError:
        connection.rollback()
        if before.standing is Standing.CURRENT:
            # A database that can only be read: all that could not be done is to note what is so anyway.
            logger.debug("the version of the tables could not be noted")
            return before
        # A transaction of an isolation above READ COMMITTED, as hosts set it for their engines, sees what there was
        # before it waited: another process may have done the work meanwhile.
        after = version_of(connection)
        connection.rollback()
        if after.standing is not Standing.CURRENT:
            raise
    return after


def upgrade_tables(connection: Connection, *, to: str = HEAD) -> TablesVersion:
    """Bring prefsync's tables to a revision: create them, adopt those that have no version yet, upgrade older ones.

    Needs the extra ``migrations``. Runs in the caller's transaction, which the caller commits; other processes that do
    the same wait until then. (MySQL and MariaDB have no such transactions: what is done there is done.) On PostgreSQL,
    above READ COMMITTED, let it be the transaction's first work, which then is done at that level: after a query, a
    transaction sees nothing of what others did. Tables that are newer stay as they are. For an async connection:
    ``await connection.run_sync(upgrade_tables)``.

    Args:
        connection: To the database.
        to: The revision.

    Returns:
        The version that the tables have now.

    Raises:
        MissingExtraError: Alembic is not installed.
        IncompatibleTablesError: The tables are of a newer generation, or not prefsync's.

    Example:
        ```python
        with engine.begin() as connection:
            upgrade_tables(connection)
        ```
    """
    _begin(connection)
    with _alone(connection):
        version = version_of(connection)
        if version.standing is Standing.INCOMPATIBLE:
            raise IncompatibleTablesError(_advice(version))
        if version.standing is not Standing.NEWER:
            _migrate(connection, version, to)
        return version_of(connection)


def _migrate(connection: Connection, version: TablesVersion, to: str = HEAD) -> None:
    from prefsync.adapters.sqlalchemy.migrations import migrate  # only where Alembic is needed

    if version.revision is not None and not version.is_stamped:
        stamp(connection, version.revision)
    migrate(connection, to)


def _advice(version: TablesVersion) -> str:
    match version.standing:
        case Standing.EMPTY:
            return "this database has no tables of prefsync's: run `prefsync db upgrade`, or set PREFSYNC_TABLES=create"
        case Standing.OLDER:
            return (
                f"the tables of this database are at {version.revision}, older than this code, which needs {HEAD}:"
                " run `prefsync db upgrade`, or set PREFSYNC_TABLES=upgrade"
            )
        case _ if version.fault:
            return (
                f"this database has tables with the names of prefsync's, which are others ({version.fault}): give"
                " prefsync a database of its own, or on PostgreSQL a schema, ?options=-csearch_path%3Dprefsync in the URL"
            )
        case _:
            return (
                f"the tables of this database are at {version.revision}, which this code ({HEAD}) cannot work with:"
                " deploy the newer prefsync-kit that upgraded them"
            )


def _begin(connection: Connection) -> None:
    """Be in a transaction; a caller's that is under way will do."""
    if not connection.in_transaction():
        connection.execution_options(prefsync_write=True)  # see prepare_sqlite
    if connection.dialect.name == "sqlite":
        begin_to_write(connection)
    if connection.dialect.name == "postgresql" and _is_unused(connection):
        # Above this level a transaction sees what there was at its first query, be that one the wait for another process.
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL READ COMMITTED"))


def _is_unused(connection: Connection) -> bool:
    """Tell whether PostgreSQL has heard nothing of a transaction yet; after a query, its isolation level stands."""
    driver: Any = connection.connection.driver_connection
    if hasattr(driver, "is_in_transaction"):  # asyncpg
        return not driver.is_in_transaction()
    info = getattr(driver, "info", None)  # psycopg and psycopg2
    return getattr(info, "transaction_status", None) == _IDLE


@contextmanager
def _alone(connection: Connection, waits: int = 0) -> Iterator[None]:
    """Be the only one to change tables, until the end of the transaction.

    Args:
        connection: In a transaction; on SQLite that is enough.
        waits: Seconds to wait for another; 0 leaves it to how the connection is set up.
    """
    end: Callable[[], object] = lambda: None  # noqa: E731  # nothing to be done
    if connection.dialect.name == "postgresql":
        if waits:
            connection.execute(text(f"SET LOCAL lock_timeout = '{waits}s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})
    elif connection.dialect.name in {"mysql", "mariadb"}:
        # A transaction there ends with each change of a table, and would take its locks along.
        got = connection.execute(
            text(f"SELECT GET_LOCK({_MYSQL_LOCK}, :waits)"), {"waits": waits or _FOR_EVER}
        )
        if not got.scalar():
            raise TimeoutError("another process is changing the tables")
        end = partial(connection.execute, text(f"SELECT RELEASE_LOCK({_MYSQL_LOCK})"))
    try:
        yield
        if connection.dialect.name in {"mysql", "mariadb"}:
            connection.exec_driver_sql("COMMIT")  # the version too, before the next one looks
    finally:
        end()

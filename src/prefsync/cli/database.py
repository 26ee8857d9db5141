"""Commands about the tables: ``db status`` and ``db upgrade``."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from prefsync.cli.ends import Exit, RefusedError
from prefsync.errors import MissingExtraError

if TYPE_CHECKING:
    from argparse import Namespace

    from sqlalchemy import Connection

    from prefsync.adapters.sqlalchemy import SqlAlchemyRepository
    from prefsync.adapters.sqlalchemy.versions import TablesVersion
    from prefsync.cli.printing import Printer
    from prefsync.cli.target import Target

__all__ = ["sql_repository", "status", "tables_of", "upgrade"]


def sql_repository(target: Target) -> SqlAlchemyRepository:
    """Return the repository of the app, or of the environment's settings."""
    from prefsync.adapters.sqlalchemy import SqlAlchemyRepository

    repository = target.repository
    if not isinstance(repository, SqlAlchemyRepository):
        raise RefusedError(f"preferences are kept in {type(repository).__name__}, which has no tables")
    return repository


def tables_of(connection: Connection) -> tuple[TablesVersion, list[str]]:
    """Return the version of the tables, and in what they differ from it, where Alembic is there to tell."""
    from prefsync.adapters.sqlalchemy.versions import Standing, version_of

    version = version_of(connection)
    if version.standing is not Standing.CURRENT or find_spec("alembic") is None:
        return version, []
    from prefsync.adapters.sqlalchemy.migrations import differences

    return version, differences(connection)


def status(target: Target, _given: Namespace, printer: Printer) -> Exit:
    """Print which version the tables have, and which this code needs."""
    from prefsync.adapters.sqlalchemy.versions import HEAD, Standing

    repository = sql_repository(target)
    version, differences = target.run(partial(repository.on_connection, tables_of))
    standing = version.standing.name.lower()
    words = [f"tables: {version.revision or 'none'}", f"needed: {HEAD}", f"standing: {standing}"]
    if version.fault:
        words.append(f"fault: {version.fault}")
    words += [f"differs: {line}" for line in differences]
    if version.standing in {Standing.EMPTY, Standing.OLDER}:
        words.append("run `prefsync db upgrade`")
    value = {
        "revision": version.revision,
        "needed": HEAD,
        "standing": standing,
        "noted": version.is_stamped,
        "fault": version.fault,
        "differences": differences,
    }
    printer.result(value, words)
    if version.standing not in {Standing.CURRENT, Standing.NEWER}:
        return Exit.TABLES
    return Exit.FAILED if differences else Exit.OK


def upgrade(target: Target, given: Namespace, printer: Printer) -> Exit:
    """Bring the tables to the version that this code needs, or print the SQL that would."""
    from prefsync.adapters.sqlalchemy import upgrade_tables
    from prefsync.adapters.sqlalchemy.versions import HEAD, REVISIONS, version_of

    if find_spec("alembic") is None:
        raise MissingExtraError("prefsync db upgrade", "migrations")
    to = given.to or HEAD
    if to not in REVISIONS:
        raise RefusedError(f"there is no revision {to}; there are {', '.join(REVISIONS)}")

    def work(connection: Connection) -> tuple[TablesVersion, TablesVersion, str]:
        if given.sql:
            from prefsync.adapters.sqlalchemy.migrations import sql_of

            found = version_of(connection)
            return found, found, sql_of(connection.dialect.name, since=found.revision, to=to)
        before = version_of(connection)
        connection.rollback()
        after = upgrade_tables(connection, to=to)
        connection.commit()
        return before, after, ""

    before, after, sql = target.run(partial(sql_repository(target).on_connection, work))
    if given.sql:
        printer.result({"sql": sql}, [sql.rstrip()])
        return Exit.OK
    printer.result(*_told(before, after))
    return Exit.OK


def _told(before: TablesVersion, after: TablesVersion) -> tuple[dict[str, Any], list[str]]:
    from prefsync.adapters.sqlalchemy.migrations import steps

    done = [
        (revision, about)
        for revision, about in steps()
        if (before.revision or "") < revision <= (after.revision or "")
    ]
    words = [f"{revision}  {about}" for revision, about in done]
    adopted = before.revision is not None and not before.is_stamped
    if adopted:
        words.insert(0, f"the tables had no version; they were {before.revision}")
    value = {
        "before": before.revision,
        "revision": after.revision,
        "adopted": adopted,
        "done": [revision for revision, _ in done],
    }
    return value, [*words, f"the tables are at {after.revision}"]

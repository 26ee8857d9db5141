"""The revisions of the tables, run by Alembic (extra ``migrations``).

Alembic's own command line and ``env.py`` are not involved: its proxies (``alembic.context``, ``alembic.op``) are one a
process, and the host's may be in use, be it that its own revision calls us. A revision here is handed its operations.
"""

from __future__ import annotations

from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prefsync.errors import MissingExtraError

if find_spec("alembic") is None:
    raise MissingExtraError("upgrading tables", "migrations")

from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from prefsync.adapters.sqlalchemy.tables import metadata
from prefsync.adapters.sqlalchemy.versions import HEAD, VERSION_TABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

__all__ = ["differences", "migrate", "sql_of", "steps"]

_FOLDER: Final = Path(__file__).parent


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(_FOLDER), version_locations=[str(_FOLDER / "versions")])


def steps() -> list[tuple[str, str]]:
    """Return all revisions, oldest first, each with what it is about."""
    return [(script.revision, script.doc or "") for script in reversed(list(_scripts().walk_revisions()))]


def migrate(connection: Connection, to: str = HEAD) -> None:
    """Run the revisions that lead to one, in the connection's transaction.

    Args:
        connection: In a transaction, and the only one that migrates.
        to: The revision.
    """
    _run(MigrationContext.configure(connection, opts=_options(to)))


def sql_of(dialect: str, *, since: str | None = None, to: str = HEAD) -> str:
    """Return the SQL that leads from a revision (from nothing where left out) to another: for those who run it by hand.

    Args:
        dialect: Of which database, ``postgresql`` say.
        since: The revision that the tables have.
        to: The one that they are to have.
    """
    text = StringIO()
    options = {**_options(to), "as_sql": True, "output_buffer": text, "starting_rev": since}
    _run(MigrationContext.configure(dialect_name=dialect, opts=options))
    return text.getvalue()


def _run(context: MigrationContext) -> None:
    context.run_migrations(op=Operations(context))


def _options(to: str) -> dict[str, Any]:
    scripts = _scripts()

    def lead(revision: Any, _context: MigrationContext) -> Any:
        return scripts._upgrade_revs(to, revision)  # noqa: SLF001  # as alembic.command.upgrade does it

    return {"version_table": VERSION_TABLE, "fn": lead, "script": scripts}


def differences(connection: Connection) -> list[str]:
    """Return in what the tables of a database differ from those that this code defines; the host's are left out."""
    context = MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE, "include_name": _only_ours}
    )
    return [_in_words(difference) for difference in compare_metadata(context, metadata)]


def _only_ours(name: str | None, type_: str, _parents: Mapping[str, Any]) -> bool:
    return type_ != "table" or name in metadata.tables


def _in_words(difference: Any) -> str:
    """Say what Alembic found: a tuple of what is to be done and to what, or a list of such about one column."""
    if isinstance(difference, list):
        return "; ".join(map(_in_words, difference))
    what, *about = difference
    names = [
        str(getattr(each, "name", each)) for each in about if isinstance(each, str) or hasattr(each, "name")
    ]
    return f"{what.replace('_', ' ')}: {'.'.join(names)}"

"""Which version the tables of a database have, and whether this code can work with them.

The version is Alembic's, in a table of prefsync's own; nothing here needs Alembic, so that a process can look at its
database when it starts wherever it runs.

A revision is named by its generation and its number, ``1_0002``. Code works with newer tables of its own generation:
while a deployment is under way, the old code runs on what the new one has migrated already. A revision that the code
before it cannot work with begins another generation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Column, MetaData, PrimaryKeyConstraint, String, Table, insert, inspect, select

from prefsync.adapters.sqlalchemy.tables import erasures, metadata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

__all__ = [
    "HEAD",
    "REVISIONS",
    "VERSION_TABLE",
    "Standing",
    "TablesVersion",
    "create_tables",
    "exclude_prefsync_tables",
    "stamp",
    "version_of",
]

REVISIONS: Final = ("1_0001", "1_0002")
"""All revisions, oldest first: the files in ``migrations/versions``."""

HEAD: Final = REVISIONS[-1]
"""The one that this code is made for."""

VERSION_TABLE: Final = "prefsync_alembic_version"
"""Where the version is kept: a host that uses Alembic itself has a table of its own."""

_REVISION: Final = re.compile(r"(\d+)_(\d+)")

# As Alembic makes it.
_version: Final = Table(
    VERSION_TABLE,
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),
)

# Before there was a version table, these were the tables.
_FIRST: Final = (
    "user_preferences",
    "preference_changes",
    "preference_requests",
    "preference_deployment",
    "preference_relay",
    "preference_erasures",
)
_UNSTAMPED: Final = {"1_0002": (*_FIRST, "preference_tickets"), "1_0001": _FIRST}


class Standing(Enum):
    """How the tables of a database stand to this code."""

    EMPTY = auto()
    """There are none."""
    OLDER = auto()
    """They have to be upgraded first."""
    CURRENT = auto()
    NEWER = auto()
    """Newer code has upgraded them, in a way that this code can live with."""
    INCOMPATIBLE = auto()
    """Newer code has upgraded them, and this code is of no use any more; or they are not prefsync's."""


@dataclass(frozen=True, slots=True)
class TablesVersion:
    """The version of a database's tables.

    Attributes:
        standing: How they stand to this code.
        revision: Theirs; ``None`` where there is none.
        is_stamped: Whether the database says so itself; else it is told by the tables that are there.
        fault: Where the tables are not prefsync's: what is missing.
    """

    standing: Standing
    revision: str | None = None
    is_stamped: bool = False
    fault: str | None = None


def version_of(connection: Connection) -> TablesVersion:
    """Look at the tables of a database, and change nothing."""
    inspector = inspect(connection)
    if inspector.has_table(VERSION_TABLE):
        stamped = [str(row[0]) for row in connection.execute(select(_version.c.version_num))]
        if stamped:
            return _stamped(stamped)
    present = {name for name in metadata.tables if inspector.has_table(name)}
    if not present:
        return TablesVersion(Standing.EMPTY)
    columns = {name: {column["name"] for column in inspector.get_columns(name)} for name in present}
    missing = [
        f"{table.name}.{column.name}"
        for table in metadata.sorted_tables
        for column in table.columns
        if column.name not in columns.get(table.name, ())
    ]
    if not missing:
        return TablesVersion(Standing.CURRENT, HEAD)
    revision = next(
        (revision for revision, tables in _UNSTAMPED.items() if _all_of(tables, present, missing)), None
    )
    if revision is None:
        return TablesVersion(Standing.INCOMPATIBLE, fault=f"there is no {missing[0]}")
    return TablesVersion(Standing.OLDER, revision)


def _all_of(tables: tuple[str, ...], present: set[str], missing: list[str]) -> bool:
    """Tell whether tables are there, with all of their columns."""
    return present.issuperset(tables) and not any(name.partition(".")[0] in tables for name in missing)


def _stamped(revisions: list[str]) -> TablesVersion:
    revision = ", ".join(sorted(revisions))
    if revision in REVISIONS:
        return TablesVersion(
            Standing.CURRENT if revision == HEAD else Standing.OLDER, revision, is_stamped=True
        )
    found, ours = _REVISION.fullmatch(revision), _REVISION.fullmatch(HEAD)
    is_compatible = found is not None and ours is not None and found[1] == ours[1]
    return TablesVersion(
        Standing.NEWER if is_compatible else Standing.INCOMPATIBLE, revision, is_stamped=True
    )


def create_tables(connection: Connection) -> None:
    """Create all tables in a database that has none, and note their version."""
    metadata.create_all(connection)
    stamp(connection, HEAD)


def stamp(connection: Connection, revision: str) -> None:
    """Note the version of tables that have none noted."""
    # There from the beginning, so that it can be locked before anything was ever erased.
    if connection.execute(select(erasures.c.id)).first() is None:
        connection.execute(insert(erasures).values(id=1, floor=0))
    _version.create(connection, checkfirst=True)
    connection.execute(insert(_version).values(version_num=revision))


def exclude_prefsync_tables(name: str | None, type_: str, parent_names: Mapping[str, Any]) -> bool:
    """Tell Alembic to leave prefsync's tables alone: for ``include_name`` in the host's own ``env.py``.

    Without it, autogenerate takes tables that the host's models do not know for tables to be dropped.

    Example:
        ```python
        context.configure(connection=connection, target_metadata=metadata, include_name=exclude_prefsync_tables)
        ```

    Args:
        name: Of what Alembic found in the database.
        type_: What that is.
        parent_names: Where it is.
    """
    is_ours = name in metadata.tables or name == VERSION_TABLE
    return type_ != "table" or not is_ours or parent_names.get("schema_name") is not None

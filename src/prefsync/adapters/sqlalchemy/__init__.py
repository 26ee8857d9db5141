"""Storage in SQL databases through SQLAlchemy (extras ``sqlite`` and ``postgres``)."""

from importlib.util import find_spec

from prefsync.errors import MissingExtraError

if find_spec("sqlalchemy") is None:
    raise MissingExtraError("SQL storage (prefsync.adapters.sqlalchemy)", "sqlite")

from prefsync.adapters.sqlalchemy.preparing import upgrade_tables
from prefsync.adapters.sqlalchemy.repository import SqlAlchemyRepository
from prefsync.adapters.sqlalchemy.tables import metadata
from prefsync.adapters.sqlalchemy.tickets import SqlAlchemyTickets
from prefsync.adapters.sqlalchemy.versions import exclude_prefsync_tables

__all__ = [
    "SqlAlchemyRepository",
    "SqlAlchemyTickets",
    "exclude_prefsync_tables",
    "metadata",
    "upgrade_tables",
]

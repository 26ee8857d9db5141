"""Empty databases, one for each test and kind, and what tests of migrations look at."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, inspect

from tests.servers import create_database, drop_database

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ["sqlite", "postgresql"]

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    """A database for the tests of one module, on the server of the run's."""
    name = f"prefsync_test_{secrets.token_hex(8)}"
    yield create_database(postgres_url, name)
    drop_database(postgres_url, name)


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A plain URL, as hosts set it, of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/prefsync.sqlite3"
    url: str = request.getfixturevalue("database")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return url


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """A blocking engine on it, as hosts and their Alembic have one."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    yield engine
    engine.dispose()


def make_first_tables(engine: Engine) -> None:
    """Make the tables of the first prefsync, which noted no version, with Anna's preferences: her theme is dark."""
    script = (HERE / f"first_{engine.dialect.name}.sql").read_text()
    with engine.begin() as connection:
        for statement in re.split(r";\n", script):
            if statement.strip():
                connection.exec_driver_sql(statement)


def described(engine: Engine) -> dict[str, Any]:
    """Describe all that a database has: tables, columns with types, comments and collations, keys and indexes."""
    inspector = inspect(engine)
    return {
        table: {
            "columns": [
                {**column, "type": f"{column['type']!r} {getattr(column['type'], 'collation', None)}"}
                for column in inspector.get_columns(table)
            ],
            "key": inspector.get_pk_constraint(table),
            "indexes": inspector.get_indexes(table),
            "unique": inspector.get_unique_constraints(table),
            "foreign": inspector.get_foreign_keys(table),
        }
        for table in inspector.get_table_names()
    }

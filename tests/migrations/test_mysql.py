"""The revisions on MySQL and MariaDB, whose changes of tables are not part of a transaction."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import create_engine

from prefsync.adapters.sqlalchemy import SqlAlchemyRepository, metadata
from prefsync.adapters.sqlalchemy.migrations import differences
from prefsync.adapters.sqlalchemy.versions import HEAD
from tests.migrations.conftest import described
from tests.migrations.test_upgrading import LIMIT, upgraded
from tests.servers import create_mysql_database, drop_mysql_database

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.once


@pytest.fixture
def mysql_database(mysql_url: str) -> Iterator[str]:
    """A database whose defaults are others than ours."""
    name = f"prefsync_test_{secrets.token_hex(8)}"
    yield create_mysql_database(mysql_url, name)
    drop_mysql_database(mysql_url, name)


async def test_no_drift_however_many_upgrade_at_once(mysql_database: str) -> None:
    """Of many that upgrade together each ends well; they lead to the tables that a new database is given."""
    engine = create_engine(mysql_database.replace("mysql:", "mysql+pymysql:"))
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(anyio.to_thread.run_sync, upgraded, engine)
    migrated = described(engine)
    with engine.begin() as connection:
        assert differences(connection) == []
        metadata.drop_all(connection)
        connection.exec_driver_sql("DROP TABLE prefsync_alembic_version")
    repositories = [SqlAlchemyRepository(mysql_database, pool_size=1) for _ in range(4)]
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            for repository in repositories:
                tasks.start_soon(repository.__aenter__)
        for repository in repositories:
            await repository.__aexit__()
    assert described(engine) == migrated
    with engine.connect() as connection:
        version = connection.exec_driver_sql("SELECT version_num FROM prefsync_alembic_version").all()
    assert [tuple(row) for row in version] == [(HEAD,)]
    engine.dispose()

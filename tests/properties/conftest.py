"""Backends of every kind, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.properties.backends import Backend

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """An open backend of each kind: memory, SQLite, PostgreSQL with Redis."""
    match request.param:
        case "memory":
            backend = Backend()
        case "sqlite":
            backend = Backend(f"sqlite:///{tmp_path}/prefs.sqlite3")
        case _:
            values = map(request.getfixturevalue, ("postgres_url", "redis_url", "redis_prefix"))
            backend = Backend(*values)
    with backend:
        yield backend

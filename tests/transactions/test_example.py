"""The sign-up example: the user and their first preferences, or neither."""

from __future__ import annotations

import importlib.util
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, text

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = Path(__file__).parents[2] / "examples" / "signup_app.py"


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the example keeps things, and what it signs tokens with."""
    key = secrets.token_urlsafe(48)
    monkeypatch.setenv("PREFSYNC_JWT_KEY", key)
    monkeypatch.setenv("PREFSYNC_DATABASE_URL", f"sqlite:///{tmp_path / 'example.db'}")
    return key


@pytest.fixture
def client(key: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:  # noqa: ARG001  # read from the environment
    """The example, running."""
    spec = importlib.util.spec_from_file_location("signup_app_under_test", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    with TestClient(module.app) as client:
        yield client


def preferences_of(client: TestClient, key: str, user: str) -> dict[str, Any]:
    """Return what a user's client is answered."""
    claims = {"sub": user, "exp": int(time.time()) + 600, "scope": "preferences:read"}
    token = jwt.encode(claims, key, algorithm="HS256")
    answer = client.get("/preferences", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    values: dict[str, Any] = answer.json()
    return values


def test_who_signs_up_has_preferences(client: TestClient, key: str) -> None:
    """What the form asks for is there at once, for the user's clients too."""
    answer = client.post("/sign-up", json={"name": "Anna", "theme": "dark", "newsletter": True})
    assert answer.status_code == 201
    values = str(preferences_of(client, key, answer.json()["id"]))
    assert "'theme': 'dark'" in values
    assert "'digest': 'weekly'" in values


def test_who_cannot_sign_up_leaves_nothing(client: TestClient, tmp_path: Path) -> None:
    """Where the name is taken, no preferences are left of the user who never was."""
    assert client.post("/sign-up", json={"name": "Anna"}).status_code == 201
    assert client.post("/sign-up", json={"name": "Anna", "theme": "dark"}).status_code == 409
    assert client.post("/sign-up", json={"name": "Anna", "theme": "pink"}).status_code == 422
    engine = create_engine(f"sqlite:///{tmp_path / 'example.db'}")
    with engine.connect() as connection:
        users = connection.execute(text("SELECT id FROM users")).scalars().all()
        assert connection.execute(text("SELECT user_id FROM user_preferences")).scalars().all() == users
        assert set(connection.execute(text("SELECT user_id FROM preference_changes")).scalars()) == set(users)
    engine.dispose()

"""Where the documentation's code runs: an empty folder, and an environment with nothing but a key for tokens."""

from __future__ import annotations

import importlib.util
import os
import secrets
import sys
import time
from typing import TYPE_CHECKING

import jwt
import pytest

from tests.docs.pages import ROOT, as_module

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    from fastapi import FastAPI


@pytest.fixture(autouse=True)
def jwt_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The secret that tokens are signed with; storage is a SQLite file in the test's own folder."""
    key = secrets.token_urlsafe(48)
    for name in os.environ:
        if name.startswith("PREFSYNC_") and not name.startswith("PREFSYNC_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PREFSYNC_JWT_KEY", key)
    monkeypatch.setenv("PREFSYNC_DATABASE_URL", f"sqlite:///{(tmp_path / 'docs.sqlite3').as_posix()}")
    monkeypatch.chdir(tmp_path)
    return key


@pytest.fixture
def bearer(jwt_key: str) -> Callable[[str], dict[str, str]]:
    """Make the header of a user who may do everything."""

    def header(user: str) -> dict[str, str]:
        claims = {"sub": user, "exp": int(time.time()) + 600, "scope": "preferences:read preferences:write"}
        return {"Authorization": f"Bearer {jwt.encode(claims, jwt_key, algorithm='HS256')}"}

    return header


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], ModuleType]:
    """Import a file under a name that no other module has."""

    def load(file: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"docs_{file.stem}", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def run(load: Callable[[Path], ModuleType], tmp_path: Path) -> Callable[[str], ModuleType]:
    """Run a page's Python from top to bottom, and return what it defines."""

    def run(page: str) -> ModuleType:
        file = tmp_path / f"{(ROOT / page).stem}.py"
        file.write_text(as_module(page), encoding="utf-8")
        return load(file)

    return run


@pytest.fixture
def example_app(load: Callable[[Path], ModuleType]) -> FastAPI:
    """The example app, made anew with this test's settings."""
    app: FastAPI = load(ROOT / "examples" / "fastapi_app.py").app
    return app

"""A command line about an app of the test's own, in this process."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from prefsync.cli import main

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "the-secret-of-the-command-line-tests-1234567890"

APP = '''
from typing import Literal

from prefsync import OpenPreferences, Parts, Preferences, Runtime, Settings
from prefsync.adapters.memory import MemoryRepository


class Appearance(Preferences, namespace="appearance"):
    """How it looks."""

    theme: Literal["system", "light", "dark"] = "system"
    font_size: int = 14


class Plugins(OpenPreferences, namespace="plugins"):
    """What plugins keep."""


MODELS = [Appearance, Plugins]
in_memory = Runtime(MODELS, settings=Settings(), parts=Parts(repository=MemoryRepository()), authenticates=False)
nothing = 42


def create_app():
    from flask import Flask
    from prefsync_flask import PrefSync

    app = Flask("host")
    PrefSync(app, MODELS)
    return app


def fastapi():
    from prefsync_fastapi import PrefSync

    return PrefSync(MODELS)


def fastapi_app(*prefixes):
    from fastapi import FastAPI

    app = FastAPI()
    for prefix in prefixes or ("/preferences",):
        app.include_router(fastapi().router, prefix=prefix)
    return app


def fastapi_app_with_two():
    return fastapi_app("/preferences", "/more")


def fastapi_app_with_none():
    from fastapi import FastAPI

    return FastAPI()
'''


class Shell:
    """Runs commands, and keeps what they print.

    Args:
        app: The module of the app.
        captured: What was printed since it was last asked.
    """

    def __init__(self, app: str, captured: pytest.CaptureFixture[str]) -> None:
        self.app = app
        self._captured = captured

    def run(self, *words: str, code: int = 0, app: str | None = "MODELS") -> tuple[str, str]:
        """Run a command, which ends with a code and without a traceback; return what it printed, and its errors."""
        named = [] if app is None else ["--app", f"{self.app}:{app}"]
        self._captured.readouterr()
        ended = main([*named, *words])
        out, err = self._captured.readouterr()
        assert ended == code, (ended, out, err)
        assert "Traceback" not in out + err
        return out, err

    def json(self, *words: str, **more: Any) -> Any:
        """Run a command that prints JSON, and return that."""
        return json.loads(self.run(*words, **more)[0])


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A shell in a folder with an app, whose database is a file there."""
    name = f"app_{secrets.token_hex(6)}"
    (tmp_path / f"{name}.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PREFSYNC_DATABASE_URL", f"sqlite:///{tmp_path}/prefsync.sqlite3")
    monkeypatch.setenv("PREFSYNC_JWT_KEY", SECRET)
    return Shell(name, capsys)

"""The pytest plugin in somebody else's test run: it costs nothing there, and says what it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.once

_BARE = """
import sys


def test_nothing_is_loaded():
    wanted = ("prefsync", "prefsync_fastapi", "prefsync_flask", "fastapi", "flask", "pydantic", "sqlalchemy", "jwt")
    assert "prefsync_pytest" in sys.modules
    assert [name for name in wanted if name in sys.modules] == []


def test_without_an_app(prefsync_devices):
    pass


def test_something_else(tmp_path):
    assert tmp_path
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder of a host's."""
    names = (
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:schemathesis",
        "-p",
        "no:sybil",
        "-p",
        "no:hypothesispytest",
    )
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *names, *arguments],
        cwd=folder,
        env={
            name: value for name, value in os.environ.items() if not name.startswith(("PREFSYNC_", "PYTEST_"))
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_run_that_has_nothing_to_do_with_it(tmp_path: Path) -> None:
    """Nothing of prefsync is imported, its fixtures say what they need, and other tests pass."""
    (tmp_path / "test_bare.py").write_text(_BARE)
    result = run(tmp_path)
    assert "2 passed, 1 error" in result.stdout, result.stdout + result.stderr
    assert "prefsync's fixtures need your app. Define in conftest.py" in result.stdout


def test_fixtures_are_listed(tmp_path: Path) -> None:
    """``pytest --fixtures`` tells each of them in a line."""
    (tmp_path / "test_nothing.py").write_text("")
    listed = run(tmp_path, "--fixtures").stdout
    for name in (
        "app",
        "clock",
        "device",
        "devices",
        "headers",
        "network",
        "parts",
        "prefix",
        "stage",
        "token",
    ):
        assert f"\nprefsync_{name} -- " in listed

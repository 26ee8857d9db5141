"""The browser client's sources and tools in a folder of their own, and the example app for it to talk to."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from prefsync.testing.mount.callers import KEY
from tests.conftest import refuse
from tests.http.conftest import uvicorn_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import ServerProcess

ROOT = Path(__file__).parent.parent.parent

# Seconds that packages may take to be installed.
INSTALL_LIMIT = 120


@pytest.fixture(scope="session")
def web_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder ``web`` of a copy of the checkout, with what its lock file says installed in it."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        refuse("there is no Node.js with npm here, which the browser client is built and tested with")
    copy = tmp_path_factory.mktemp("checkout")
    without = shutil.ignore_patterns("node_modules")
    for folder in ("web", "src/prefsync/web"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=without)
    shutil.copy(ROOT / "pyproject.toml", copy)
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    try:
        subprocess.run(
            command, cwd=copy / "web", check=True, capture_output=True, text=True, timeout=INSTALL_LIMIT
        )
    except subprocess.SubprocessError as error:
        refuse(f"the client's tools could not be installed: {getattr(error, 'stderr', '') or error}")
    return copy / "web"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The example app under uvicorn, on SQLite."""
    file = tmp_path_factory.mktemp("sqlite") / "prefsync.sqlite3"
    settings = {
        "PREFSYNC_DATABASE_URL": f"sqlite:///{file}",
        "PREFSYNC_JWT_KEY": KEY,
        "PREFSYNC_JWT_LEEWAY": "0",  # seconds; a test waits for a token to run out
    }
    with uvicorn_process(settings) as running:
        yield running

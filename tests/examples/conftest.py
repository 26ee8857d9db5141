"""Examples as a reader has them: loaded from their files, or run by the command that they name."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from prefsync.testing.mount.callers import KEY
from tests.conftest import refuse
from tests.http.conftest import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Seconds that npm may take on a loaded machine.
INSTALL_LIMIT = 240


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Import an example anew, with a key for tokens and a file to store in."""
    folder = tmp_path_factory.mktemp("loaded")
    names = []

    def load(example: str, **settings: str) -> Any:
        file = folder / f"{secrets.token_hex(4)}.sqlite3"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFSYNC_")}
        ours = {"PREFSYNC_JWT_KEY": KEY, "PREFSYNC_DATABASE_URL": f"sqlite:///{file.as_posix()}", **settings}
        spec = importlib.util.spec_from_file_location(
            f"{example}_{secrets.token_hex(4)}", EXAMPLES / f"{example}.py"
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        names.append(spec.name)
        with mock.patch.dict(os.environ, {**kept, **ours}, clear=True):
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
        return module

    yield load
    for name in names:
        del sys.modules[name]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Copy the examples, and install what a page of theirs takes from npm, as its lock file has it."""

    def installed(page: str) -> Path:
        npm = shutil.which("npm")
        if npm is None:
            refuse("there is no npm here, which the pages of the examples have their packages from")
        copy = tmp_path_factory.mktemp(page) / "examples"
        shutil.copytree(EXAMPLES, copy, ignore=shutil.ignore_patterns("node_modules", "dist", "__pycache__"))
        run(npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", cwd=copy / page)
        return copy

    return installed


def run(*command: str, cwd: Path) -> None:
    """Run something of Node's, and show what it printed where it fails."""
    try:
        subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=INSTALL_LIMIT)
    except subprocess.CalledProcessError as error:
        pytest.fail(f"{' '.join(command)}: {error.stdout}{error.stderr}")

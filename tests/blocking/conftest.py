"""Programs around the blocking runtime, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).parent.parent.parent

# What every program begins with.
BEGINNING = """
import os, signal, sys, threading, time
from prefsync import Parts, Preferences, Subject
from prefsync.blocking import BlockingRuntime

class Appearance(Preferences, namespace="appearance"):
    theme: str = "system"
    size: int = 0
    weight: int = 0

preferences = BlockingRuntime([Appearance])
mine = preferences.handle(Subject("anna"))
"""

# What every program ends with, so that its end can be timed: the clock is the same in all processes.
END = """
print(time.monotonic(), flush=True)
"""

# Seconds that a program may take, however busy the machine is.
LIMIT = 60.0


class Ended(NamedTuple):
    """How a program ended.

    Attributes:
        code: Its exit code.
        out: The lines that it printed, less the last.
        err: What it printed on standard error.
        took: Seconds from its last line to its end.
    """

    code: int
    out: list[str]
    err: str
    took: float


def run(body: str, settings: Mapping[str, str]) -> Ended:
    """Run a program; one that does not end is killed with all its children.

    Raises:
        TimeoutError: It does not end; with what it printed.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFSYNC_")}
    program = subprocess.Popen(
        [sys.executable, "-c", BEGINNING + body + END],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**inherited, "PYTHONPATH": str(ROOT / "src"), **settings},
        start_new_session=True,
    )
    try:
        out, err = program.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        out, err = program.communicate()
        message = f"the program does not end:\n{out}\n{err}"
        raise TimeoutError(message) from None
    ended = time.monotonic()
    lines = out.splitlines()
    try:
        took = ended - float(lines[-1])
    except (IndexError, ValueError):
        message = f"the program failed with {program.returncode}:\n{out}\n{err}"
        raise AssertionError(message) from None
    return Ended(program.returncode, lines[:-1], err, took)


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Where programs store: what a host gets that sets nothing, and production."""
    if request.param == "sqlite":
        return {"PREFSYNC_DATABASE_URL": f"sqlite:///{tmp_path}/prefsync.sqlite3"}
    return {
        "PREFSYNC_DATABASE_URL": request.getfixturevalue("postgres_url"),
        "PREFSYNC_REDIS_URL": request.getfixturevalue("redis_url"),
        "PREFSYNC_REDIS_PREFIX": request.getfixturevalue("redis_prefix"),
    }


@pytest.fixture
def program(storage: dict[str, str]) -> Callable[[str], Ended]:
    """Run programs on one storage."""
    return lambda body: run(body, storage)

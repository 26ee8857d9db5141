"""What the tests of faults ask of an example app's runtime by ``FAULTS_...`` variables."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from prefsync import session
from prefsync.adapters.sqlalchemy import asyncpg, gathered_writes, runners
from prefsync.http import bodies

if TYPE_CHECKING:
    from prefsync import Subject
    from prefsync.http.messages import HttpRequest
    from prefsync.wiring import Runtime

__all__ = ["opened", "prepare"]

HELD_LIMIT = 60.0
"""Seconds that a write may be held: as long as a busy machine takes to get to the file, and no outage meanwhile."""


def prepare(runtime: Runtime) -> None:
    """Do to a runtime what the environment asks for."""
    if "FAULTS_PATIENCE" in os.environ:
        session._PATIENCE = float(os.environ["FAULTS_PATIENCE"])
    if "FAULTS_HOLD" in os.environ:
        _hold_writes(runtime, Path(os.environ["FAULTS_HOLD"]))
    if "FAULTS_DAWDLE" in os.environ:
        _dawdle(runtime, float(os.environ["FAULTS_DAWDLE"]))
    if "FAULTS_DIE" in os.environ:
        _die_after_commit(runtime, os.environ["FAULTS_DIE"])
    if "FAULTS_DATABASE_LIMIT" in os.environ:
        _wait_for_the_database(runtime, float(os.environ["FAULTS_DATABASE_LIMIT"]))


def opened(runtime: Runtime) -> dict[str, int]:
    """Tell how many streams and long polls are open in which process, and how many tasks its runtime's loop has."""
    tasks = asyncio.all_tasks(runtime._loop) if runtime._loop is not None else ()
    return {
        "pid": os.getpid(),
        "open": len(runtime.sessions) + len(runtime.api._polls),
        "tasks": len(tasks),
    }


def _wait_for_the_database(runtime: Runtime, seconds: float) -> None:
    """Take a database for lost only after this time: that the machine is busy with other tests is no outage."""
    runtime._database._time_limit = asyncpg.TIME_LIMIT = seconds
    runners._TIME_LIMIT = gathered_writes._TIME_LIMIT = seconds


def _dawdle(runtime: Runtime, longest: float) -> None:
    """Spend a while before each commit, and another one between it and its announcement: when to be killed."""
    write, announce = runtime.repository.write, runtime.service.announcer.announce

    async def write_slowly(subject: Subject, what: Any) -> Any:
        await anyio.sleep(random.random() * longest)
        return await write(subject, what)

    async def announce_late(*told: Any, **how: Any) -> None:
        await anyio.sleep(random.random() * longest)
        await announce(*told, **how)

    runtime.repository.write = write_slowly
    runtime.service.announcer.announce = announce_late


def _die_after_commit(runtime: Runtime, origin: str) -> None:
    """Kill this process between a commit and its announcement, where the client calls itself so."""
    announce = runtime.service.announcer.announce

    async def die(subject: Subject, document: Any, changes: Any, **how: Any) -> None:
        if any(change.origin == origin for change in changes):
            os.kill(os.getpid(), signal.SIGKILL)
        await announce(subject, document, changes, **how)

    runtime.service.announcer.announce = die


def _hold_writes(runtime: Runtime, folder: Path) -> None:
    """Let writes of users named ``held...`` wait until there is a file ``go``.

    Each leaves a file when it waits, and each body one when it is begun to be read.
    """
    write = runtime.repository.write
    read_body = bodies.read_body
    _wait_for_the_database(runtime, HELD_LIMIT)

    async def write_when_told(subject: Subject, what: Any) -> Any:
        if subject.user.startswith("held"):
            (folder / f"waits-{secrets.token_hex(8)}").touch()
            while not (folder / "go").exists():
                await anyio.sleep(0.01)
        return await write(subject, what)

    async def read_and_tell(request: HttpRequest, limit: int) -> bytes:
        (folder / f"reads-{secrets.token_hex(8)}").touch()
        return await read_body(request, limit)

    runtime.repository.write = write_when_told
    bodies.read_body = read_and_tell

"""The example app with what the tests of faults need beside it, asked for by ``FAULTS_...`` variables."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "examples"))

from fastapi_app import app, prefsync

if TYPE_CHECKING:
    from prefsync import Subject

__all__ = ["app"]

runtime = prefsync.runtime


@app.get("/open")
async def count_open() -> dict[str, int]:
    """Tell how many streams and long polls are open in which process."""
    return {"pid": os.getpid(), "open": len(runtime.sessions) + len(runtime.api._polls)}


def hold_writes(folder: Path) -> None:
    """Let writes of users named ``held...`` wait until there is a file ``go``; each leaves a file when it waits."""
    write = runtime.repository.write

    async def write_when_told(subject: Subject, what: Any) -> Any:
        if subject.user.startswith("held"):
            (folder / f"waits-{secrets.token_hex(8)}").touch()
            while not (folder / "go").exists():
                await anyio.sleep(0.01)
        return await write(subject, what)

    runtime.repository.write = write_when_told


if "FAULTS_HOLD" in os.environ:
    hold_writes(Path(os.environ["FAULTS_HOLD"]))

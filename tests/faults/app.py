"""The example app with what the tests of faults need beside it, asked for by ``FAULTS_...`` variables."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "examples"))

from fastapi_app import app, prefsync
from prepared import opened, prepare

__all__ = ["app"]

prepare(prefsync.runtime)


@app.get("/open")
async def count_open() -> dict[str, int]:
    """Tell how many streams and long polls are open in which process."""
    return opened(prefsync.runtime)

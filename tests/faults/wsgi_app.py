"""The same for the Flask example, as ``app.py`` has it for FastAPI's."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "examples"))

from flask_app import app, prefsync
from prepared import opened, prepare

__all__ = ["app"]

prepare(prefsync.gateway(app).runtime)


@app.get("/open")
def count_open() -> dict[str, int]:
    """Tell how many streams and long polls are open in which process."""
    return opened(prefsync.gateway(app).runtime)

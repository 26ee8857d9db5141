"""A host around the Flask mount, run by servers in processes of their own: views that read, and views that tell.

``HOST_...`` variables ask for what a test needs beside that.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path
from typing import Any

from flask import Flask

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "examples"))

from example_models import Appearance, Editor, Notifications, Plugins

from prefsync import ConfigurationError, Subject
from prefsync_flask import PrefSync, current_preferences

MODELS = [Appearance, Editor, Notifications, Plugins]

app = Flask(__name__)
prefsync = PrefSync(app, MODELS, socketio=True)
gateway = prefsync.gateway(app)


@app.get("/plain")
def plain() -> str:
    """Answer without preferences."""
    return "plain"


@app.get("/theme")
def theme() -> dict[str, Any]:
    """Read the user's theme, and count the reads in this process."""
    return {"theme": current_preferences.get(Appearance).theme, "pid": os.getpid()}


@app.get("/state")
def state() -> dict[str, Any]:
    """Tell how this process stands; opens nothing."""
    return {
        "pid": os.getpid(),
        "sessions": gateway.health().sessions,
        "polls": len(gateway.runtime.api._polls),
        "waiting": gateway._waiting._count,
        "threads": threading.active_count(),
        "version": os.environ.get("HOST_VERSION", ""),
    }


@app.get("/async")
def use_in_loop() -> dict[str, Any]:
    """Use the blocking face where it would freeze a loop, as an ``async def`` view does."""

    async def view() -> str:
        try:
            return current_preferences.get(Appearance).theme
        except ConfigurationError as error:
            return str(error)

    return {"said": asyncio.run(view())}


if "HOST_USES_EARLY" in os.environ:
    gateway.handle(Subject("early")).get(Appearance)

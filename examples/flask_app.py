"""A Flask app with synchronised preferences, set up by ``PREFSYNC_...`` variables.

Run it under a WSGI server with threads, with as many workers as you like once ``PREFSYNC_REDIS_URL`` is set:

    PREFSYNC_JWT_KEY=... gunicorn --chdir examples --threads 50 flask_app:app
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from flask import Flask, Response, request

from prefsync_flask import PrefSync, current_preferences

sys.path.append(str(Path(__file__).parent))  # for whoever imports this file from elsewhere
import demo_support
import demo_telemetry
from example_models import Appearance, Editor, Notifications, Plugins

app = Flask("prefsync example", static_folder=None)
prefsync = PrefSync(app, [Appearance, Editor, Notifications, Plugins], socketio=True)


@app.get("/greeting")
def greeting() -> dict[str, str]:
    """Read the user's preferences in the app's own code."""
    appearance = current_preferences.get(Appearance)
    return {"greeting": f"Welcome to the {appearance.theme} side."}


@app.post("/lights-out")
def lights_out() -> dict[str, str]:
    """Change one of them; every other session of the user hears of it."""
    with current_preferences.edit(Appearance) as mine:
        mine.theme = "dark"
    return {"theme": mine.theme}


@app.get("/openapi.json")
def openapi() -> dict[str, Any]:
    """Describe the preferences' API."""
    return prefsync.openapi()


# The demo page, at "/". Nothing of it is needed to use prefsync.


@app.get("/demo/users")
def demo_users() -> Response:
    """Tell the page who can sign in."""
    return Response(*demo_support.users())


@app.get("/")
@app.get("/demo/<name>")
def demo_page(name: str = "index.html") -> Response:
    """Serve the page's files."""
    return Response(*demo_support.page_file(name))


@app.get("/metrics")
def metrics() -> Response:
    """Tell Prometheus what the demo has kept."""
    return Response(*demo_telemetry.page())


if demo_support.signing_key():

    @app.post("/demo/token")
    def demo_token() -> Response:
        """Sign a demo user in: only where demo.py started this app, with a key of its own."""
        return Response(*demo_support.token(request.get_data()))

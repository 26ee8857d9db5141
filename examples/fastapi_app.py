"""A FastAPI app with synchronised preferences, set up by ``PREFSYNC_...`` variables.

Run it under any ASGI server, with as many workers as you like once ``PREFSYNC_REDIS_URL`` is set:

    PREFSYNC_JWT_KEY=... uvicorn --app-dir examples fastapi_app:app
"""

from __future__ import annotations

import sys
from pathlib import Path

from fastapi import FastAPI, Request, Response

from prefsync_fastapi import CurrentPreferences, PrefSync

sys.path.append(str(Path(__file__).parent))  # for whoever imports this file from elsewhere
import demo_support
import demo_telemetry
from example_models import Appearance, Editor, Notifications, Plugins

prefsync = PrefSync([Appearance, Editor, Notifications, Plugins], socketio=True)

# FastAPI's own telemetry, where nobody listens, still looks for listeners on each request, which takes about as long as
# answering most of them (docs/production.md). What prefsync counts is at /metrics, and has nothing to do with it.
app = FastAPI(title="prefsync example", telemetry={"tracing": False, "metrics": False, "logs": False})
app.include_router(prefsync.router, prefix="/preferences")


@app.get("/greeting")
async def greeting(prefs: CurrentPreferences) -> dict[str, str]:
    """Read the user's preferences in the app's own code."""
    appearance = await prefs.get(Appearance)
    return {"greeting": f"Welcome to the {appearance.theme} side."}


@app.post("/lights-out")
async def lights_out(prefs: CurrentPreferences) -> dict[str, str]:
    """Change one of them; every other session of the user hears of it."""
    async with prefs.edit(Appearance) as mine:
        mine.theme = "dark"
    return {"theme": mine.theme}


# The demo page, at "/". Nothing of it is needed to use prefsync.


@app.get("/demo/users", include_in_schema=False)
async def demo_users() -> Response:
    """Tell the page who can sign in."""
    return Response(*demo_support.users())


@app.get("/", include_in_schema=False)
@app.get("/demo/{name}", include_in_schema=False)
async def demo_page(name: str = "index.html") -> Response:
    """Serve the page's files."""
    return Response(*demo_support.page_file(name))


@app.get("/metrics", include_in_schema=False)
async def metrics() -> Response:
    """Tell Prometheus what the demo has kept."""
    return Response(*demo_telemetry.page())


if demo_support.signing_key():

    @app.post("/demo/token", include_in_schema=False)
    async def demo_token(request: Request) -> Response:
        """Sign a demo user in: only where demo.py started this app, with a key of its own."""
        return Response(*demo_support.token(await request.body()))

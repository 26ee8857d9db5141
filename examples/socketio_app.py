"""A front end that speaks Socket.IO, by the official client, on a FastAPI app.

    npm ci --prefix examples/socketio_page && uvicorn --app-dir examples socketio_app:app

Open http://127.0.0.1:8000/?user=alice in two windows, and switch the lights in either. For apps that speak Socket.IO
anyway: prefsync's own ``client.js`` does more (offline edits, one connection for all tabs) and needs no package.

``socketio=True`` serves the protocol at ``/preferences/socket.io/``. Its namespace ``/preferences`` emits ``welcome``,
``reset``, ``change``, ``heartbeat`` and ``bye``, and takes ``patch`` and ``token``.
"""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

import jwt
from example_models import Appearance
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from prefsync import Settings
from prefsync_fastapi import PrefSync

PAGE = Path(__file__).parent / "socketio_page"
KEY = os.environ.setdefault("PREFSYNC_JWT_KEY", secrets.token_urlsafe(48))  # several workers need one key

prefsync = PrefSync([Appearance], settings=Settings.from_environment(), socketio=True)
app = FastAPI(title="prefsync over Socket.IO")
app.include_router(prefsync.router, prefix="/preferences")


@app.post("/token/{user}")
async def token(user: str) -> str:
    """Stand for your own log-in: sign a token for whomever, good for five minutes."""
    claims = {"sub": user, "exp": int(time.time()) + 300, "scope": "preferences:read preferences:write"}
    return jwt.encode(claims, KEY, algorithm="HS256")


app.mount("/", StaticFiles(directory=PAGE, html=True))

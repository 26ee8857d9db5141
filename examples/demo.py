"""Run the example app with nothing set up: SQLite, in-memory parts, a random key, a ready-made token."""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import sys
import tempfile
import time
from pathlib import Path

import jwt
import uvicorn

HOURS = 12


def main() -> int:
    """Start the app and say how to talk to it."""
    parser = argparse.ArgumentParser(
        description="Run the prefsync example app on SQLite and in-memory parts."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()

    key = secrets.token_urlsafe(48)
    database = Path(tempfile.gettempdir()) / "prefsync-demo.sqlite3"
    os.environ.update(
        {
            "PREFSYNC_JWT_KEY": key,
            "PREFSYNC_JWT_ALGORITHMS": "HS256",
            "PREFSYNC_DATABASE_URL": f"sqlite:///{database.as_posix()}",
            "PREFSYNC_REDIS_URL": "",
        }
    )
    try:
        listener = socket.create_server((options.host, options.port))
    except OSError as error:
        print(f"{options.host}:{options.port} cannot be used ({error.strerror}); choose another: --port 8001")
        return 1
    url = f"http://{options.host}:{listener.getsockname()[1]}"
    print(greeting(url, key, database), flush=True)
    try:
        uvicorn.Server(uvicorn.Config("fastapi_app:app", log_level="warning")).run(sockets=[listener])
    except KeyboardInterrupt:
        print("Stopped.")
    return 0


def greeting(url: str, key: str, database: Path) -> str:
    """Say where everything is, in lines that can be copied."""
    token = token_for("alice", key)
    return f"""
prefsync demo: {url}/preferences   (documentation: {url}/docs)

The key is random and gone when this stops. A token for "alice", good for {HOURS} hours:

TOKEN={token}

Copy the line above into another terminal, then:

curl -s {url}/preferences -H "Authorization: Bearer $TOKEN"
curl -s -X PATCH {url}/preferences/appearance -H "Authorization: Bearer $TOKEN" \\
     -H "Content-Type: application/json" -d '{{"theme": "dark"}}'
curl -s "{url}/preferences/changes?since=0&wait=30" -H "Authorization: Bearer $TOKEN"

Preferences are kept in {database}. Stop with Ctrl+C.
"""


def token_for(user: str, key: str) -> str:
    """Make an access token, as an authorization server would."""
    now = int(time.time())
    claims = {
        "sub": user,
        "iat": now,
        "exp": now + HOURS * 3600,
        "scope": "preferences:read preferences:write",
    }
    return jwt.encode(claims, key, algorithm="HS256")


if __name__ == "__main__":
    sys.exit(main())

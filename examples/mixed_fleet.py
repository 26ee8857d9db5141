"""FastAPI and Flask side by side, on one database and one Redis: what a user changes in one app shows in the other.

    PREFSYNC_DATABASE_URL=postgresql://... PREFSYNC_REDIS_URL=redis://... python examples/mixed_fleet.py

For who moves from one framework to the other, or has both. The two apps (``fastapi_app.py`` and ``flask_app.py``) know
nothing of one another: they declare the same models, verify tokens by the same key and read the same two URLs.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

from demo_support import mint

EXAMPLES = str(Path(__file__).parent)
HOURS = 12


def main() -> int:
    """Start both apps, say how to talk to them, and end both when one ends or this is interrupted."""
    parser = argparse.ArgumentParser(
        description="Run the FastAPI and the Flask app on one database and Redis."
    )
    parser.add_argument("--fastapi-port", type=int, default=8000)
    parser.add_argument("--flask-port", type=int, default=8001)
    options = parser.parse_args()
    missing = [name for name in ("PREFSYNC_DATABASE_URL", "PREFSYNC_REDIS_URL") if not os.environ.get(name)]
    if missing:
        parser.error(f"set {' and '.join(missing)}: the apps have nothing else in common")
    key = secrets.token_urlsafe(48)  # never a host's: tokens are signed with it
    os.environ.update(PREFSYNC_JWT_KEY=key, PREFSYNC_JWT_ALGORITHMS="HS256")

    fastapi = ["uvicorn", "--app-dir", EXAMPLES, "--port", str(options.fastapi_port), "fastapi_app:app"]
    flask = ["gunicorn", "--chdir", EXAMPLES, "--bind", f"127.0.0.1:{options.flask_port}"]
    flask += ["--threads", "50", "flask_app:app"]  # streams hold some of them: docs/flask.md
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    apps = [subprocess.Popen([sys.executable, "-m", *command]) for command in (fastapi, flask)]  # noqa: S603  # our own
    try:
        print(
            greeting(mint("alice", key, HOURS * 3600), options.fastapi_port, options.flask_port), flush=True
        )
        return os.waitstatus_to_exitcode(os.wait()[1])
    except KeyboardInterrupt:
        return 0
    finally:
        for app in apps:
            app.terminate()
        for app in apps:
            app.wait()


def greeting(token: str, fastapi_port: int, flask_port: int) -> str:
    """Say where the apps are, in lines that can be copied."""
    return f"""
FastAPI: http://127.0.0.1:{fastapi_port}/    Flask: http://127.0.0.1:{flask_port}/

TOKEN={token}

Write through one, and read through the other:

curl -s -X PATCH http://127.0.0.1:{fastapi_port}/preferences/appearance -H "Authorization: Bearer $TOKEN" \\
     -H "Content-Type: application/json" -d '{{"theme": "dark"}}'
curl -s http://127.0.0.1:{flask_port}/preferences/appearance -H "Authorization: Bearer $TOKEN"
"""


if __name__ == "__main__":
    sys.exit(main())

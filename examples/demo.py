"""Run an example app and its demo page with nothing set up: SQLite, in-memory parts, a random key, three users."""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import demo_support
import demo_telemetry
import demo_tls

if TYPE_CHECKING:
    import ssl

HOURS = 12


def main() -> int:
    """Start the app and say how to talk to it."""
    parser = argparse.ArgumentParser(description="Run a prefsync example app on SQLite and in-memory parts.")
    parser.add_argument("--flask", action="store_true", help="the Flask app instead of the FastAPI one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes one that is free")
    parser.add_argument(
        "--database", type=Path, default=Path(tempfile.gettempdir()) / "prefsync-demo.sqlite3", help="a file"
    )
    parser.add_argument(
        "--tls",
        action="store_true",
        help="HTTPS, with a certificate made for the occasion, which nobody trusts",
    )
    parser.add_argument("--tls-cert", type=Path, help="HTTPS, with this certificate (PEM)")
    parser.add_argument(
        "--tls-key", type=Path, help="its key (PEM); left out where it stands in the same file"
    )
    options = parser.parse_args()
    if options.tls and options.tls_cert:
        parser.error("--tls makes a certificate, --tls-cert names one: choose")
    if options.tls_key and not options.tls_cert:
        parser.error("--tls-key needs --tls-cert")

    key = secrets.token_urlsafe(48)
    database = options.database.absolute()
    os.environ.update(
        {
            demo_support.KEY_VARIABLE: key,
            "PREFSYNC_JWT_KEY": key,
            "PREFSYNC_JWT_ALGORITHMS": "HS256",
            "PREFSYNC_DATABASE_URL": f"sqlite:///{database.as_posix()}",
            "PREFSYNC_REDIS_URL": "",
            "PREFSYNC_TELEMETRY": str(demo_telemetry.start()),
            "PREFSYNC_RATE_LIMIT": "600/minute",  # a user has two devices in each window, and sliders to play with
        }
    )
    with ExitStack() as stack:
        certificate, fingerprint = options.tls_cert, ""
        tls_key = options.tls_key or certificate
        if options.tls:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that the folder goes, too
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="prefsync-demo-"))
            certificate, tls_key, fingerprint = demo_tls.make_certificate(Path(folder))
        try:
            tls = None if certificate is None else demo_tls.server_context(certificate, tls_key)
        except OSError as error:
            print(f"{certificate} and {tls_key} cannot be used: {error}")
            return 1
        try:
            listener = socket.create_server((options.host, options.port))
        except OSError as error:
            print(
                f"{options.host}:{options.port} cannot be used ({error.strerror}); choose another: --port 8001"
            )
            return 1
        url = f"{'https' if tls else 'http'}://{options.host}:{listener.getsockname()[1]}"
        made = certificate if options.tls else None
        print(greeting(url, key, database, made, fingerprint), flush=True)
        try:
            (serve_flask if options.flask else serve_fastapi)(listener, tls)
        except KeyboardInterrupt:
            print("Stopped.")
    return 0


def serve_fastapi(listener: socket.socket, tls: ssl.SSLContext | None) -> None:
    """Serve until interrupted, by uvicorn."""
    import uvicorn

    config = uvicorn.Config("fastapi_app:app", log_level="warning")
    config.load()
    config.ssl = tls  # its options know no least version of TLS
    uvicorn.Server(config).run(sockets=[listener])


def serve_flask(listener: socket.socket, tls: ssl.SSLContext | None) -> None:
    """Serve until interrupted, by Flask's own server; gunicorn is for production."""
    from flask_app import app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    host, port = listener.getsockname()[:2]
    make_server(host, port, app, threaded=True, fd=listener.fileno(), ssl_context=tls).serve_forever()


def greeting(url: str, key: str, database: Path, certificate: Path | None, fingerprint: str) -> str:
    """Say where everything is, the page first, in lines that can be copied.

    Args:
        url: Of the app.
        key: Signs tokens.
        database: Where preferences are kept.
        certificate: What was made for the occasion.
        fingerprint: Of that.
    """
    token = demo_support.mint("alice", key, HOURS * 3600)
    curl = "curl -s" if certificate is None else f"curl -s --cacert {certificate}"
    return f"""
prefsync demo: {url}/
{trust(certificate, fingerprint)}
Open it in a browser: one user, two devices side by side. The HTTP API is at {url}/preferences,
its OpenAPI document at {url}/openapi.json, its metrics for Prometheus at {url}/metrics.

The key is random and gone when this stops. A token for "alice", good for {HOURS} hours:

TOKEN={token}

Copy the line above into another terminal, and watch the page:

{curl} {url}/preferences -H "Authorization: Bearer $TOKEN"
{curl} -X PATCH {url}/preferences/appearance -H "Authorization: Bearer $TOKEN" \\
     -H "Content-Type: application/json" -H "Prefsync-Client: curl" -d '{{"theme": "dark"}}'
{curl} "{url}/preferences/changes?since=0&wait=30" -H "Authorization: Bearer $TOKEN"

Preferences are kept in {database}. Stop with Ctrl+C.
"""


def trust(certificate: Path | None, fingerprint: str) -> str:
    """Say how to accept a certificate that was made for the occasion, and how to be sure that it is this one."""
    if certificate is None:
        return ""
    return f"""
TLS 1.3. The certificate was made just now, for localhost and 127.0.0.1, and is gone when this stops. Nobody trusts it:
the browser will warn. Compare the fingerprint that it shows (SHA-256), and only then go on ("Advanced", "Proceed"):

{fingerprint}

{certificate}
"""


if __name__ == "__main__":
    sys.exit(main())

"""Check an installed ``prefsync-kit``: run inside a bare environment, with the name of the extra installed there.

Every module of the distribution either imports, or fails with an ``ImportError`` that names the pip command; what an
extra promises imports with it. With ``all`` the example app answers a request under uvicorn.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import pkgutil
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ["prefsync", "prefsync_fastapi"]
PROMISED = {
    "none": ["prefsync", "prefsync.adapters.memory", "prefsync.http"],
    "fastapi": ["prefsync_fastapi"],
    "sqlite": ["prefsync.adapters.sqlalchemy"],
    "postgres": ["prefsync.adapters.sqlalchemy", "prefsync.adapters.postgres"],
    "redis": ["prefsync.adapters.redis", "prefsync.adapters.limits"],
    "limits": ["prefsync.adapters.limits"],
    "jwt": ["prefsync.adapters.jwt"],
    "socketio": ["prefsync.socketio"],
    "compression": [],
    "testing": ["prefsync.testing"],
}
"""What imports with each extra; with ``all``, everything that is not for tests alone."""

FOR_TESTS = "prefsync.testing"
"""Needs pytest, which the extra ``testing`` brings and ``all`` does not."""

COMMAND = re.compile(r'pip install "prefsync-kit\[[a-z]+\]"')


def check_imports(extra: str) -> None:
    """Import every module of every package, and judge how it went."""
    importlib.import_module("prefsync")
    optional = {
        *("aiosqlite", "asyncpg", "engineio", "fastapi", "jwt", "limits"),
        *("redis", "socketio", "sqlalchemy", "starlette"),
    }
    loaded = sorted(optional & sys.modules.keys())
    assert not loaded, f"`import prefsync` loads {loaded}"

    promised = {*PROMISED["none"], *PROMISED.get(extra, [])}
    queue = list(PACKAGES)
    seen = set()
    for name in queue:
        seen.add(name)
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            wanted = name in promised or (extra == "all" and not name.startswith(FOR_TESTS))
            if wanted or not COMMAND.search(str(error)):
                raise
            print(f"  {name}: {error}")
            continue
        file = Path(module.__file__ or "")
        assert not file.is_relative_to(ROOT / "src"), f"{file} is the checkout's, not the wheel's"
        queue += [f"{name}.{child.name}" for child in pkgutil.iter_modules(getattr(module, "__path__", []))]
    assert promised <= seen, f"not in the wheel: {promised - seen}"
    print(f"with {extra}: {len(seen)} modules looked at")


def check_contents() -> None:
    """Look for the files that are not code."""
    files = {str(path) for path in importlib.metadata.files("prefsync-kit") or []}
    for package in PACKAGES:
        assert f"{package}/py.typed" in files, f"{package} has no py.typed"


def check_app() -> None:
    """Run the example app under uvicorn, on a free port, away from the checkout, and ask it for its schema."""
    import jwt  # only there with ``all``

    key = secrets.token_urlsafe(32)
    claims = {"sub": "alice", "scope": "preferences:read", "exp": int(time.time()) + 60}
    token = jwt.encode(claims, key, "HS256")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        app = ["--app-dir", str(ROOT / "examples"), "fastapi_app:app", "--port", str(port)]
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", *app],
            cwd=folder,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("PREFSYNC_")},
                "PREFSYNC_JWT_KEY": key,
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/preferences/schema", headers={"Authorization": f"Bearer {token}"}
            )
            print("the example app:", answer(request, process)[:60])
        except Exception as error:
            log.seek(0)
            error.add_note(f"uvicorn wrote:\n{log.read()}")
            raise
        finally:
            process.terminate()
            process.wait(20)


def answer(request: urllib.request.Request, process: subprocess.Popen[bytes]) -> bytes:
    """Return the body of a response with status 200, as soon as the app accepts connections."""
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310 (the URL is our own)
                body: bytes = response.read()
                return body
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError:  # nobody listens yet
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


if __name__ == "__main__":
    (extra,) = sys.argv[1:]
    check_contents()
    check_imports(extra)
    if extra == "all":
        check_app()

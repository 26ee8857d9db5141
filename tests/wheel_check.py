"""Check an installed ``prefsync-kit``: run inside a bare environment, with the name of the extra installed there.

Every module of the distribution either imports, or fails with an ``ImportError`` that names the pip command; what an
extra promises imports with it. Without any extra, nothing is installed beside what the core is made of. With ``all`` the
example apps answer a request.
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
EXAMPLES = str(ROOT / "examples")
PACKAGES = ["prefsync", "prefsync_fastapi", "prefsync_flask", "prefsync_pytest"]
PROMISED = {
    "none": [
        "prefsync",
        "prefsync.adapters.memory",
        "prefsync.adapters.oauth",
        "prefsync.blocking",
        "prefsync.cli",
        "prefsync.http",
        "prefsync.wsgi",
    ],
    "fastapi": ["prefsync_fastapi"],
    "flask": ["prefsync_flask", "prefsync.wsgi.sockets"],
    "sqlite": ["prefsync.adapters.sqlalchemy"],
    "postgres": ["prefsync.adapters.sqlalchemy", "prefsync.adapters.postgres"],
    "migrations": ["prefsync.adapters.sqlalchemy.migrations"],
    "mysql": ["prefsync.adapters.sqlalchemy"],
    "redis": ["prefsync.adapters.redis", "prefsync.adapters.limits"],
    "limits": ["prefsync.adapters.limits"],
    "jwt": ["prefsync.adapters.jwt"],
    "socketio": ["prefsync.socketio"],
    "client": ["prefsync.client"],
    "telemetry": ["prefsync.adapters.opentelemetry"],
    "compression": [],
    "testing": ["prefsync.testing", "prefsync.testing.devices", "prefsync_pytest"],
}
"""What imports with each extra; with ``all``, everything that is not for tests alone."""

FOR_TESTS = ("prefsync.testing", "prefsync_pytest")
"""Need pytest, which the extra ``testing`` brings and ``all`` does not."""

NAME = re.compile(r"[A-Za-z0-9._-]+")
"""What a line of ``Requires-Dist`` begins with."""

COMMAND = re.compile(r'pip install "prefsync-kit\[[a-z]+\]"')


def check_imports(extra: str) -> None:
    """Import every module of every package, and judge how it went."""
    importlib.import_module("prefsync")
    optional = {
        *(
            "aiosqlite",
            "alembic",
            "asyncmy",
            "asyncpg",
            "engineio",
            "fastapi",
            "flask",
            "httpx2",
            "jwt",
            "limits",
            "opentelemetry",
        ),
        *("redis", "socketio", "sqlalchemy", "starlette", "websockets", "werkzeug"),
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


def check_what_is_installed() -> None:
    """See that the core alone brings pydantic, anyio and what these are made of, and nothing else."""

    def needed(name: str) -> set[str]:
        lines = importlib.metadata.requires(name) or []
        return {NAME.match(line)[0] for line in lines if "extra ==" not in line}  # type: ignore[index]

    assert needed("prefsync-kit") == {"anyio", "pydantic"}, needed("prefsync-kit")
    installed = {_plain(found.name) for found in importlib.metadata.distributions()}
    allowed, queue = {"prefsync-kit", "pip", "setuptools"}, ["anyio", "pydantic"]
    for name in queue:
        allowed.add(_plain(name))
        if _plain(name) in installed:
            queue += needed(name)
    assert installed <= allowed, f"a bare install brings {sorted(installed - allowed)}"
    print(f"installed: {', '.join(sorted(installed))}")


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def check_metadata() -> None:
    """See what an index shows, and what auditors read."""
    shown = importlib.metadata.metadata("prefsync-kit")
    assert shown["License-Expression"] == "MIT"
    assert shown.get_all("License-File") == ["LICENSE"]
    assert shown["Requires-Python"] == ">=3.11"
    assert shown["Description-Content-Type"] == "text/markdown"
    assert shown.get_payload().startswith("# prefsync")  # type: ignore[attr-defined]
    assert "Typing :: Typed" in (shown.get_all("Classifier") or [])
    assert shown["Version"] == importlib.import_module("prefsync").__version__
    files = [str(path) for path in importlib.metadata.files("prefsync-kit") or []]
    assert any(file.endswith("dist-info/licenses/LICENSE") for file in files)


def check_contents() -> None:
    """Look for the files that are not code."""
    files = {str(path) for path in importlib.metadata.files("prefsync-kit") or []}
    for package in PACKAGES:
        assert f"{package}/py.typed" in files, f"{package} has no py.typed"
    for name in ("client.js", "client.d.ts"):
        assert f"prefsync/web/{name}" in files, f"the browser client lacks {name}"
    assert not [file for file in files if file.startswith("prefsync/web/client/")], (
        "sources of the browser client"
    )


def check_app(name: str, *command: str) -> None:
    """Run an example app on a free port, away from the checkout, and ask it for its schema."""
    import jwt  # only there with ``all``

    key = secrets.token_urlsafe(32)
    claims = {"sub": "alice", "scope": "preferences:read", "exp": int(time.time()) + 60}
    token = jwt.encode(claims, key, "HS256")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--port", str(port)],
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
            print(f"the example app in {name}:", answer(request, process)[:60])
        except Exception as error:
            log.seek(0)
            error.add_note(f"it wrote:\n{log.read()}")
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
    check_metadata()
    if extra == "none":
        check_what_is_installed()
    check_imports(extra)
    if extra == "all":
        check_app("FastAPI", "uvicorn", "--app-dir", EXAMPLES, "fastapi_app:app")
        check_app("Flask", "flask", "--app", f"{EXAMPLES}/flask_app.py", "run")

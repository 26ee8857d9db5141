"""Real servers around ``host.py``, and a client that keeps its connections in sight."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from prefsync.testing.mount.callers import BOTH, KEY, mint
from tests.http.conftest import NO_TLS, ROOT, gunicorn_process
from tests.servers import HOST, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FOLDER = Path(__file__).parent

# Seconds that anything may take, however busy the machine is.
LIMIT = 30.0


def token(user: str) -> str:
    """Return a token of a user's."""
    return mint({"sub": user, "scope": BOTH, "exp": int(time.time()) + 3_600})


def bearer(user: str) -> dict[str, str]:
    """Return the headers of a user's requests."""
    return {"Authorization": f"Bearer {token(user)}"}


def client_of(server: ServerProcess, user: str = "anna") -> httpx2.Client:
    """Return a client of a server, to be closed."""
    return httpx2.Client(
        base_url=server.url,
        headers=bearer(user),
        verify=NO_TLS,
        trust_env=False,
        timeout=LIMIT,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
    )


def hang_on(server: ServerProcess, path: str, user: str = "anna", **headers: str) -> socket.socket:
    """Send a request and return its connection, to be read or left.

    Args:
        server: To which.
        path: What for.
        user: Whose it is.
        **headers: More of them; underscores stand for hyphens.
    """
    connection = socket.create_connection((HOST, server.port), LIMIT)
    lines = {"Host": f"{HOST}:{server.port}", **bearer(user), **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    connection.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
    return connection


def status_of(connection: socket.socket) -> int:
    """Return the status of the answer that comes."""
    line = b""
    while not line.endswith(b"\r\n"):
        piece = connection.recv(1)
        assert piece, "the connection was cut"
        line += piece
    return int(line.split()[1])


def eventually(true: Callable[[], Any], limit: float = LIMIT) -> Any:
    """Wait until something is so, and return it."""
    deadline = time.monotonic() + limit
    while not (found := true()):
        assert time.monotonic() < deadline, f"not so after {limit:g} s"
        time.sleep(0.05)
    return found


def settings_of(storage: Mapping[str, str], **more: str) -> dict[str, str]:
    """Return the environment of a server."""
    return {**storage, "PREFSYNC_JWT_KEY": KEY, "PREFSYNC_RATE_LIMIT": "100000/minute", **more}


def gunicorn(storage: Mapping[str, str], *options: str, **more: str) -> ServerProcess:
    """Return a gunicorn, not started yet."""
    return gunicorn_process(settings_of(storage, **more), *options, app="host:app", folder=FOLDER)


def python(storage: Mapping[str, str], *command: str, **more: str) -> ServerProcess:
    """Return another server, not started yet: a module and its arguments."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), str(FOLDER)])
    return ServerProcess(
        [sys.executable, *command], {**settings_of(storage, **more), "PYTHONPATH": path}, path="/plain"
    )


@pytest.fixture
def production(postgres_url: str, redis_url: str, redis_prefix: str) -> dict[str, str]:
    """Storage of production's kind."""
    return {
        "PREFSYNC_DATABASE_URL": postgres_url,
        "PREFSYNC_REDIS_URL": redis_url,
        "PREFSYNC_REDIS_PREFIX": redis_prefix,
    }


@pytest.fixture
def small(tmp_path: Path) -> dict[str, str]:
    """Storage of a host that sets nothing."""
    return {"PREFSYNC_DATABASE_URL": f"sqlite:///{tmp_path}/prefsync.sqlite3"}

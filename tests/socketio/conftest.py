"""The official client of Socket.IO, and processes of the example apps on PostgreSQL and Redis."""

from __future__ import annotations

import contextlib
import json
import queue
import secrets
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import redis

from prefsync.testing.mount.callers import BOTH, KEY, mint
from tests.conftest import refuse
from tests.http.conftest import gunicorn_process, uvicorn_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.servers import ServerProcess

CLIENT = Path(__file__).parent / "client"

# Seconds that packages may take to be installed, and that anything that was asked for may take to come.
INSTALL_LIMIT = 120
LIMIT = 10.0

TRANSPORTS = ("websocket", "polling", "polling+websocket")


def token(user: str, *, scope: str = BOTH, life: float = 600) -> str:
    """Return a token of a user's that is good for some seconds."""
    return mint({"sub": user, "scope": scope, "exp": int(time.time() + life)})


class Told(NamedTuple):
    """What a client was told: the event, and its argument."""

    event: str
    data: Any


class Connection:
    """One connection of the JavaScript client's.

    Args:
        node: The process in which it is.
        name: Its name there.
        transport: How it connects: ``websocket`` or ``polling``, without an upgrade, or both.
    """

    def __init__(self, node: Node, name: str, transport: str) -> None:
        self._node = node
        self._name = name
        self._transports = transport.split("+")
        self.told: queue.Queue[Told] = queue.Queue()

    def connect(self, server: ServerProcess, *, namespace: str = "/preferences", **auth: Any) -> None:
        """Connect to a server."""
        where = {"url": server.url, "path": "/preferences/socket.io/", "namespace": namespace}
        self._node.order(
            {"do": "connect", "name": self._name, **where, "transports": self._transports, "auth": auth}
        )

    def emit(self, event: str, data: Any, *, times: int = 1) -> None:
        """Send an event, at once as often as said; its callback's argument comes as ``answer``."""
        self._node.order({"do": "emit", "name": self._name, "event": event, "data": data, "times": times})

    def send(self, text: str) -> None:
        """Send a packet as it is."""
        self._node.order({"do": "send", "name": self._name, "text": text})

    def disconnect(self) -> None:
        """End the connection."""
        self._node.order({"do": "disconnect", "name": self._name})

    def hear(self, limit: float = LIMIT) -> Told:
        """Return what it is told next."""
        try:
            return self.told.get(timeout=limit)
        except queue.Empty:
            raise AssertionError(f"{self._name} was told nothing for {limit} s") from None

    def expect(self, *events: str) -> list[Any]:
        """Return the arguments of events that come next, in this order; heartbeats are passed over."""
        data = []
        for event in events:
            told = self.hear()
            while told.event == "heartbeat" != event:
                told = self.hear()
            assert told.event == event, f"{told} where {event} was expected"
            data.append(told.data)
        return data


class Node:
    """The JavaScript clients, in a process of their own."""

    def __init__(self, folder: Path, node: str) -> None:
        self._process = subprocess.Popen(
            [node, "client.mjs"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._connections: dict[str, Connection] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def connection(self, transport: str) -> Connection:
        """Return a connection that is still to be made."""
        name = f"{transport}-{len(self._connections)}"
        self._connections[name] = Connection(self, name, transport)
        return self._connections[name]

    def order(self, order: dict[str, Any]) -> None:
        """Have something done."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            self._connections[told["name"]].told.put(Told(told["event"], told.get("data")))


@pytest.fixture(scope="session")
def client_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client and what it needs, installed as its lock file says."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        refuse("there is no Node.js with npm here, which the official client of Socket.IO needs")
    folder = tmp_path_factory.mktemp("client") / "client"
    shutil.copytree(CLIENT, folder)
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=INSTALL_LIMIT)
    except subprocess.SubprocessError as error:
        refuse(f"the client's packages could not be installed: {getattr(error, 'stderr', '') or error}")
    return folder


@pytest.fixture(scope="session")
def node(client_folder: Path) -> Iterator[Node]:
    """The JavaScript clients."""
    found = shutil.which("node")
    assert found is not None
    with contextlib.closing(Node(client_folder, found)) as node:
        yield node


@pytest.fixture(scope="session")
def storage(postgres_url: str, redis_url: str) -> Iterator[dict[str, str]]:
    """Where both processes store: a database of this run, and a prefix in Redis."""
    prefix = f"prefsync-test-{secrets.token_hex(8)}"
    yield {
        "PREFSYNC_DATABASE_URL": postgres_url,
        "PREFSYNC_REDIS_URL": redis_url,
        "PREFSYNC_REDIS_PREFIX": prefix,
        "PREFSYNC_JWT_KEY": KEY,
        "PREFSYNC_JWT_LEEWAY": "0",
    }
    with redis.Redis.from_url(redis_url) as client:
        for pattern in (f"{prefix}*", f"*{prefix}*"):
            for key in client.scan_iter(pattern, count=1_000):
                client.unlink(key)


@pytest.fixture(scope="session")
def fastapi_servers(storage: dict[str, str]) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """Two processes that know of each other by PostgreSQL and Redis alone."""
    with uvicorn_process(storage) as one, uvicorn_process(storage) as other:
        yield one, other


@pytest.fixture(scope="session", params=["FastAPI", "Flask"])
def servers(
    request: pytest.FixtureRequest,
    storage: dict[str, str],
    fastapi_servers: tuple[ServerProcess, ServerProcess],
) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """Two such processes; the first, to which most clients go, by each mount in turn."""
    if request.param == "FastAPI":
        yield fastapi_servers
        return
    with gunicorn_process(storage) as flask:
        yield flask, fastapi_servers[1]


@pytest.fixture(params=[uvicorn_process, gunicorn_process], ids=["FastAPI", "Flask"])
def serve(request: pytest.FixtureRequest) -> Callable[[Mapping[str, str]], ServerProcess]:
    """What makes a process of each mount."""
    make: Callable[[Mapping[str, str]], ServerProcess] = request.param
    return make


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """Each way by which a client connects."""
    way: str = request.param
    return way


@pytest.fixture
def user() -> str:
    """A user of whom nothing is stored."""
    return f"user-{secrets.token_hex(8)}"

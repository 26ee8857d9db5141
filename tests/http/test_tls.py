"""Servers that speak TLS themselves: 1.3 and nothing older, and over it all that there is without it."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import socket
import ssl
import sys
import time
from contextlib import contextmanager
from email import message_from_string
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin

import demo_tls
import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from prefsync.testing.mount.callers import KEY, mint
from tests.docs.pages import blocks
from tests.http.conftest import EXAMPLES, gunicorn_process
from tests.servers import HOST, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from email.message import Message
    from pathlib import Path

    from websockets.asyncio.client import ClientConnection

pytestmark = pytest.mark.once

LIMIT: Final = 20.0

(GUNICORN,) = [
    block.code for block in blocks("docs/production.md", "python") if "def ssl_context" in block.code
]
"""The configuration that the documentation gives."""


class Session:
    """A WebSocket for tests that block. Only one thread uses it: Python's TLS sockets are not safe with two.

    Args:
        runner: What runs it, while it is used.
        connection: The WebSocket.

    Attributes:
        response: The answer to the handshake.
    """

    def __init__(self, runner: asyncio.Runner, connection: ClientConnection) -> None:
        self._runner = runner
        self._connection = connection
        self.response = connection.response

    def send(self, text: str) -> None:
        """Send a message."""
        self._runner.run(self._connection.send(text))

    def recv(self, limit: float) -> str | bytes:
        """Return the next message, waiting so many seconds at most."""
        return self._runner.run(asyncio.wait_for(self._connection.recv(), limit))


class Served:
    """An example app under a server that encrypts.

    Attributes:
        server: Its process.
        trust: What a client needs to know it.
    """

    def __init__(self, server: ServerProcess, trust: ssl.SSLContext) -> None:
        self.server = server
        self.trust = trust

    @contextmanager
    def client(self) -> Iterator[httpx2.Client]:
        """Give a client."""
        with httpx2.Client(base_url=self.server.url, verify=self.trust, trust_env=False) as client:
            yield client

    @contextmanager
    def session(self, user: str, **more: Any) -> Iterator[Session]:
        """Give a WebSocket of a user's that has been greeted."""
        with self.handshake("/ws", bearer(user), **more) as session:
            session.send('{"type":"hello"}')
            assert hear(session)["type"] == "reset"
            yield session

    @contextmanager
    def handshake(
        self, path: str, headers: Mapping[str, str] | None = None, **more: Any
    ) -> Iterator[Session]:
        """Give a WebSocket of which nothing but the handshake is done."""
        is_ours = path.startswith("/ws")

        async def shake_hands() -> ClientConnection:
            return await connect(
                self.server.url.replace("https", "wss", 1) + "/preferences" + path,
                ssl=self.trust,
                subprotocols=["prefsync.v1"] if is_ours else None,  # type: ignore[list-item]  # a NewType of str
                additional_headers=headers,
                max_size=2**20,
                proxy=None,
                open_timeout=LIMIT,
                ping_interval=None,
                **more,
            )

        with asyncio.Runner() as runner:
            connection = runner.run(shake_hands())
            yield Session(runner, connection)
            runner.run(connection.close())

    def leave(self, user: str) -> None:
        """Open a WebSocket of a user's, and leave without a word, neither WebSocket's nor TLS's."""
        assert self.ask_to_upgrade("/ws", bearer(user))[0] == 101

    def ask_to_upgrade(self, path: str, headers: Mapping[str, str]) -> tuple[int, Message]:
        """Send the handshake of a WebSocket, and return the status and headers of its answer.

        By hand, so that one that succeeds can be left without a word.
        """
        head = {
            **headers,
            "Host": f"{HOST}:{self.server.port}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": "prefsync.v1",
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        with (
            socket.create_connection((HOST, self.server.port), LIMIT) as plain,
            self.trust.wrap_socket(plain, server_hostname=HOST) as encrypted,
        ):
            encrypted.settimeout(LIMIT)
            encrypted.sendall(f"GET /preferences{path} HTTP/1.1\r\n{lines}\r\n".encode())
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += encrypted.recv(4_096) or pytest.fail("the connection was closed")
        first, _, fields = answer.partition(b"\r\n\r\n")[0].decode().partition("\r\n")
        return int(first.split()[1]), message_from_string(fields)


def bearer(user: str) -> dict[str, str]:
    """Return what authenticates a user."""
    claims = {"sub": user, "exp": time.time() + 600, "scope": "preferences:read preferences:write"}
    return {"Authorization": f"Bearer {mint(claims)}"}


def hear(session: Session) -> dict[str, Any]:
    """Return the next message that is no heartbeat."""
    while True:
        message: dict[str, Any] = json.loads(session.recv(LIMIT))
        if message["type"] != "heartbeat":
            return message


def somebody() -> str:
    """Return a user for whom nothing is stored yet."""
    return f"user-{secrets.token_hex(8)}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of the host's, and its key."""
    at, key, _ = demo_tls.make_certificate(tmp_path_factory.mktemp("certificate"))
    return at, key


def serve(kind: str, folder: Path, certificate: tuple[Path, Path], trust: ssl.SSLContext) -> ServerProcess:
    """Return an example app's process under a server, not started yet."""
    at, key = map(str, certificate)
    settings = {
        "PREFSYNC_JWT_KEY": KEY,
        "PREFSYNC_DATABASE_URL": f"sqlite:///{folder / 'prefsync.sqlite3'}",
        "PREFSYNC_RATE_LIMIT": "100000/minute",
        "PREFSYNC_REQUIRE_HTTPS": "true",
    }
    if kind == "gunicorn":
        (folder / "gunicorn.conf.py").write_text(GUNICORN)
        options = ("--threads", "40", "--certfile", at, "--keyfile", key)
        return gunicorn_process(settings, *options, "--config", str(folder / "gunicorn.conf.py"), tls=trust)
    # As demo.py serves them, but with a key that the test knows.
    call = {"uvicorn": "serve_fastapi", "werkzeug": "serve_flask"}[kind]
    script = (
        "import socket, sys, demo, demo_tls;"
        f"demo.{call}(socket.create_server(('{HOST}', {{port}})), demo_tls.server_context(*sys.argv[1:3]))"
    )
    return ServerProcess(
        [sys.executable, "-c", script, at, key],
        {**settings, "PYTHONPATH": str(EXAMPLES)},
        path="/preferences",
        tls=trust,
    )


@pytest.fixture(scope="module", params=["uvicorn", "werkzeug", "gunicorn"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]
) -> Iterator[Served]:
    """An example app: FastAPI's under uvicorn, Flask's under its own server and under gunicorn."""
    trust = ssl.create_default_context(cafile=str(certificate[0]))
    with serve(request.param, tmp_path_factory.mktemp(request.param), certificate, trust) as server:
        yield Served(server, trust)


# --- Versions --------------------------------------------------------------------------------------------------------


def test_version_3_alone(served: Served, certificate: tuple[Path, Path]) -> None:
    """A handshake with TLS 1.3 succeeds; a client that knows 1.2 at most is refused (RFC 8446, appendix D)."""
    with socket.create_connection((HOST, served.server.port), LIMIT) as raw:
        with served.trust.wrap_socket(raw, server_hostname="localhost") as encrypted:
            assert encrypted.version() == "TLSv1.3"
    old = ssl.create_default_context(cafile=str(certificate[0]))
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection((HOST, served.server.port), LIMIT) as raw:
        with pytest.raises((ssl.SSLError, ConnectionResetError)) as refused:
            old.wrap_socket(raw, server_hostname="localhost")
        assert not isinstance(refused.value, ssl.SSLCertVerificationError)


def test_plain_http_gets_nowhere(served: Served) -> None:
    """What is not encrypted is not understood."""
    with socket.create_connection((HOST, served.server.port), LIMIT) as raw:
        raw.sendall(b"GET /preferences HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises((ConnectionError, AssertionError)):
            assert b"HTTP/1.1 4" in raw.recv(1_024)


# --- What goes over it -----------------------------------------------------------------------------------------------


def test_the_whole_page(served: Served) -> None:
    """The demo page, all its files and the browser client; documents are written and read."""
    user = somebody()
    with served.client() as client:
        queue = ["/"]
        for path in queue:
            answer = client.get(path)
            assert answer.status_code == 200, path
            found = re.findall(r'(?:from|src=|href=) ?"((?:\.|demo)[^"]+\.\w+)"', answer.text)
            queue += [link for name in found if (link := urljoin(path, name)) not in queue]
        assert "/preferences/client.js" in queue
        assert len(queue) >= len(list((EXAMPLES / "demo_page").iterdir()))
        changed = client.put("/preferences/plugins", json={"a": 1}, headers=bearer(user))
        assert changed.status_code == 200
        assert client.get("/preferences/plugins", headers=bearer(user)).json() == {"a": 1}


def test_browsers_are_told_to_come_encrypted(served: Served) -> None:
    """Where HTTPS is required, every answer over it says so (RFC 6797), from whatever host it was asked."""
    headers = {**bearer(somebody()), "Host": "app.example"}
    with served.client() as client:
        for path in ("", "/appearance", "/schema", "/changes?since=0", "/client.js", "/nothing"):
            answer = client.get(f"/preferences{path}", headers=headers)
            assert answer.status_code == (404 if path == "/nothing" else 200)
            assert answer.headers["Strict-Transport-Security"] == "max-age=31536000", path
        refused = client.get("/preferences", headers={"Host": "app.example"})
        polled = client.get(
            "/preferences/socket.io/?EIO=4&transport=polling", headers={"Host": "app.example"}
        )
        assert (refused.status_code, polled.status_code) == (401, 200)
        with client.stream("GET", "/preferences/events", headers=headers) as events:
            assert events.status_code == 200
            for answer in (refused, polled, events):
                assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
                assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_handshakes_are_told_too(served: Served) -> None:
    """A WebSocket's and Socket.IO's handshake are answers like all others: those that succeed and those that do not."""
    with served.session(somebody()) as session:
        assert session.response is not None
        assert session.response.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert session.response.headers["RateLimit"].startswith('"user";r=')
    socket_io = "/socket.io/?EIO=4&transport=websocket"
    with served.handshake(socket_io) as connection:
        assert connection.response is not None
        assert connection.response.headers["Strict-Transport-Security"] == "max-age=31536000"
    for path, status, headers in (
        ("/ws", 401, {"Authorization": "Bearer x"}),
        ("/ws", 403, {"Origin": "https://elsewhere.example"}),
        ("/ws?token=x", 400, {}),
        ("/nothing", 404, {}),
        (socket_io, 403, {"Origin": "https://elsewhere.example"}),
        (f"{socket_io}&sid=x", 400, {}),
    ):
        answered, told = served.ask_to_upgrade(path, headers)
        assert answered == status, path
        assert told["Strict-Transport-Security"] == "max-age=31536000", path
        assert told["X-Content-Type-Options"] == "nosniff"


def test_large_messages_both_ways(served: Served) -> None:
    """A message of many TLS records arrives whole, at the writer and at another session of its user's."""
    user = somebody()
    text = secrets.token_hex(8_000)
    with served.session(user) as here, served.session(user) as there:
        for round_ in range(3):
            patch = {"plugins": {f"p{number}": f"{round_}{text}" for number in range(7)}}
            here.send(json.dumps({"type": "patch", "id": secrets.token_hex(8), "patch": patch}))
            answers = [hear(here), hear(here)]
            assert {answer["type"] for answer in answers} == {"ack", "change"}
            (change,) = [answer for answer in answers if answer["type"] == "change"]
            assert change["changed"] == hear(there)["changed"] == patch


def test_many_frames_at_once(served: Served) -> None:
    """Frames that come in one piece are all answered, in order."""
    with served.session(somebody()) as session:
        for _ in range(80):
            session.send('{"type":"ping"}')
        assert [hear(session)["type"] for _ in range(80)] == ["pong"] * 80


def test_the_server_ends_first(served: Served) -> None:
    """A broken frame is answered by the protocol's close code."""
    with served.session(somebody()) as session:
        session.send("[]")
        with pytest.raises(ConnectionClosed) as closed:
            session.recv(LIMIT)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4400


def test_the_client_ends_first(served: Served) -> None:
    """More sessions one after the other than the server has threads: each of them is free again, however it ended."""
    user = somebody()
    for _ in range(30):
        with served.session(user):
            pass
        served.leave(user)
    with served.client() as client:
        assert client.get("/preferences", headers=bearer(user)).status_code == 200


# --- Endings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "is_stuck"),
    [("uvicorn", False), ("gunicorn", False), ("gunicorn", True)],
    ids=["uvicorn", "gunicorn", "gunicorn-stuck"],
)
def test_the_process_ends(
    kind: str, tmp_path: Path, certificate: tuple[Path, Path], *, is_stuck: bool
) -> None:
    """On SIGTERM an open session is told, and the process ends soon, also where a client takes nothing any more."""
    trust = ssl.create_default_context(cafile=str(certificate[0]))
    user = somebody()
    with serve(kind, tmp_path, certificate, trust) as server:
        served = Served(server, trust)
        # A session that is stuck takes 4 KiB and no more.
        narrow = _narrow(server) if is_stuck else None
        with served.session(user, sock=narrow, server_hostname=HOST, max_queue=1) as session:
            if is_stuck:
                _flood(served, user)
            started = time.monotonic()
            code = server.terminate(LIMIT)
            assert code in {0, -15}
            assert time.monotonic() - started < 15
            if not is_stuck:
                with pytest.raises(ConnectionClosed) as closed:
                    session.recv(LIMIT)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1001


def _narrow(server: ServerProcess) -> socket.socket:
    """Return a connection by which little is taken before somebody reads."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.connect((HOST, server.port))
    connection.setblocking(False)
    return connection


def _flood(served: Served, user: str) -> None:
    """Change so much that no buffer between here and a session that reads nothing takes it all."""
    with served.client() as client:
        for _ in range(36):
            values = {f"p{number}": secrets.token_hex(8_000) for number in range(7)}
            answer = client.put("/preferences/plugins", json=values, headers=bearer(user))
            assert answer.status_code == 200

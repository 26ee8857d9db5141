"""The Flask mount under each kind of WSGI server: what it serves there, and what it refuses in plain words."""

from __future__ import annotations

import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.flask.conftest import LIMIT, bearer, client_of, gunicorn, hang_on, python, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from websockets.sync.client import ClientConnection

    from tests.servers import ServerProcess

pytestmark = pytest.mark.once


@dataclass(frozen=True)
class Kind:
    """A way to run the host.

    Attributes:
        command: The server's options; a module and its arguments, where it is not gunicorn.
        is_gunicorn: Whether it is.
        streams: Whether events and long polls are served.
        sockets: Whether WebSockets are.
        early: Whether the app uses preferences while it is loaded, before the server forks.
    """

    command: str
    is_gunicorn: bool = True
    streams: bool = True
    sockets: bool = True
    early: bool = False

    def serve(self, storage: Mapping[str, str]) -> ServerProcess:
        """Return the server, not started yet."""
        more = {"HOST_USES_EARLY": "1"} if self.early else {}
        return (gunicorn if self.is_gunicorn else python)(storage, *self.command.split(), **more)


KINDS = {
    "gunicorn sync": Kind("--workers 2", streams=False),
    "gunicorn gthread": Kind("--workers 2 --threads 20"),
    "gunicorn gevent": Kind("--workers 2 -k gevent"),
    "gunicorn preload": Kind("--workers 4 --threads 8 --preload"),
    "gunicorn preload, used before": Kind("--workers 4 --threads 8 --preload", early=True),
    "waitress": Kind(
        "-m waitress --listen 127.0.0.1:{port} --threads 20 host:app", is_gunicorn=False, sockets=False
    ),
    "flask run": Kind("-m flask --app host run --port {port}", is_gunicorn=False),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each way to run the host."""
    return KINDS[request.param]


@pytest.fixture(scope="module")
def server(kind: Kind, postgres_url: str, redis_url: str) -> Iterator[ServerProcess]:
    """The host under such a server."""
    with kind.serve({"PREFSYNC_DATABASE_URL": postgres_url, "PREFSYNC_REDIS_URL": redis_url}) as server:
        yield server
        assert "Traceback" not in server.output


def heard(connection: ClientConnection) -> dict[str, Any]:
    """Return what a WebSocket is told next, heartbeats left out."""
    while True:
        frame: dict[str, Any] = json.loads(connection.recv(LIMIT))
        if frame["type"] != "heartbeat":
            return frame


def test_documents_and_views(server: ServerProcess) -> None:
    """Each of 60 users reads in a view of the host's what they have written, whichever process answers."""

    def use(number: int) -> int:
        with client_of(server, f"user-{number}") as client:
            theme = ("dark", "light")[number % 2]
            client.patch("/preferences/appearance", json={"theme": theme}).raise_for_status()
            for _ in range(3):
                found = client.get("/theme").raise_for_status().json()
                assert found["theme"] == theme
                assert client.get("/preferences/appearance").json()["theme"] == theme
        pid: int = found["pid"]
        return pid

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(use, range(60)))


def test_a_loop_in_a_view_is_told_of_the_async_face(server: ServerProcess, kind: Kind) -> None:
    """A view that uses the blocking face inside of an event loop gets an error that names the async one, at once."""
    if "gevent" in kind.command:
        return  # whose greenlets are one thread to asyncio, in which one loop runs already
    with client_of(server) as client:
        assert "prefsync.Runtime" in client.get("/async").raise_for_status().json()["said"]
        assert client.get("/theme").is_success


def test_a_web_socket(server: ServerProcess, kind: Kind) -> None:
    """A WebSocket is told of a change made elsewhere and writes one; where it cannot be, the refusal names events."""
    user = f"socket-{secrets.token_hex(4)}"  # an id of a patch is one for a day
    url = f"{server.url.replace('http', 'ws', 1)}/preferences/ws"
    options = {"additional_headers": bearer(user), "subprotocols": ["prefsync.v1"], "proxy": None}
    if not kind.sockets:
        with pytest.raises(InvalidStatus) as refused:
            connect(url, open_timeout=LIMIT, **options)  # type: ignore[arg-type]
        assert refused.value.response.status_code == 503
        assert b"server-sent events" in refused.value.response.body
        return
    with connect(url, open_timeout=LIMIT, **options) as connection, client_of(server, user) as client:  # type: ignore[arg-type]
        connection.send('{"type":"hello"}')
        assert json.loads(connection.recv(LIMIT))["type"] == "reset"
        wrote = client.patch("/preferences", json={"plugins": {"a": 1}}).raise_for_status()
        change = heard(connection)
        assert (change["type"], change["revision"]) == ("change", wrote.json()["revision"])
        connection.send('{"type":"patch","id":"1","patch":{"plugins":{"a":2}}}')
        assert {heard(connection)["type"] for _ in range(2)} == {"ack", "change"}
        assert client.get("/preferences/plugins").json() == {"a": 2}


def test_events(server: ServerProcess, kind: Kind) -> None:
    """A stream of events tells of a change made elsewhere; where it cannot be, it is refused at once."""
    with (
        client_of(server, f"events-{secrets.token_hex(4)}") as client,
        client.stream("GET", "/preferences/events") as stream,
    ):
        if not kind.streams:
            assert stream.status_code == 503
            assert int(stream.headers["Retry-After"]) > 0
            return
        lines = (line for line in stream.iter_lines() if line.startswith("event:"))
        assert next(lines) == "event: reset"
        client.patch("/preferences", json={"plugins": {"a": 1}}).raise_for_status()
        assert next(lines) == "event: change"


def test_long_polls(server: ServerProcess, kind: Kind) -> None:
    """A long poll is answered by a change made elsewhere; where it cannot wait, it is refused at once."""
    with client_of(server, "polls") as client:
        since = client.patch("/preferences", json={"plugins": {"a": 1}}).json()["revision"]
        poll = hang_on(server, f"/preferences/changes?since={since}&wait=50", "polls")
        with poll:
            if kind.streams:
                client.patch("/preferences", json={"plugins": {"a": 2}}).raise_for_status()
            assert status_of(poll) == (200 if kind.streams else 503)
        assert client.get(f"/preferences/changes?since={since}").is_success

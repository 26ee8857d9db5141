"""What a WSGI server's threads are given to: streams and polls have their half, and get it back when clients leave."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from socket import SHUT_RDWR, socket
from typing import TYPE_CHECKING, Any

import pytest
from websockets.sync.client import connect

from tests.flask.conftest import (
    LIMIT,
    bearer,
    client_of,
    eventually,
    gunicorn,
    hang_on,
    python,
    status_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import ServerProcess

pytestmark = pytest.mark.once

EVENTS = "/preferences/events"
POLL = "/preferences/changes?since=0&wait=55"


def state(server: ServerProcess) -> dict[str, Any]:
    """Return how a server of one process stands."""
    with client_of(server) as client:
        found: dict[str, Any] = client.get("/state").raise_for_status().json()
    return found


def refused(connection: socket) -> bytes:
    """Return the refusal that comes."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65_536)
    return answer


@pytest.fixture(scope="module", params=["gunicorn", "waitress", "gevent"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """One process of four threads, or of four of gevent's."""
    storage = {"PREFSYNC_DATABASE_URL": f"sqlite:///{tmp_path_factory.mktemp('caps')}/prefsync.sqlite3"}
    serve: dict[str, ServerProcess] = {
        "gunicorn": gunicorn(storage, "--threads", "4"),
        "gevent": gunicorn(storage, "-k", "gevent", PREFSYNC_MAX_WAITING="2"),
        "waitress": python(
            storage,
            *("-m", "waitress", "--listen", "127.0.0.1:{port}", "--threads", "4"),
            *("--channel-request-lookahead", "1"),  # else it tells of no client that leaves
            "host:app",
        ),
    }
    with serve[request.param] as server, client_of(server) as client:
        client.put("/preferences", json={}).raise_for_status()
        yield server


def test_half_of_the_threads_can_be_held(server: ServerProcess) -> None:
    """Of four threads a stream and a poll hold two; more get 503 with Retry-After, and plain requests go on at once."""
    with ExitStack() as held:
        stream = held.enter_context(hang_on(server, EVENTS))
        assert status_of(stream) == 200
        held.enter_context(hang_on(server, POLL))
        eventually(lambda: state(server)["polls"] == 1)
        for path in (EVENTS, POLL):
            with hang_on(server, path) as third:
                answer = refused(third)
                assert answer.startswith(b"HTTP/1.1 503")
                assert b"retry-after: " in answer.lower()
        began = time.monotonic()
        with client_of(server) as client:
            for _ in range(10):
                assert client.get("/preferences").is_success
                assert client.get("/theme").is_success
        assert time.monotonic() - began < 5
    eventually(lambda: state(server)["waiting"] == 0)


@pytest.mark.parametrize("path", [EVENTS, POLL], ids=["events", "poll"])
def test_a_client_that_leaves_frees_its_thread(server: ServerProcess, path: str) -> None:
    """When clients are gone without a word, their sessions and their threads are free within seconds."""
    for _ in range(3):
        with ExitStack() as held:
            for _ in range(2):
                connection = held.enter_context(hang_on(server, path))
                if path is EVENTS:
                    assert status_of(connection) == 200
            eventually(lambda: state(server)["sessions" if path is EVENTS else "polls"] == 2)
        began = time.monotonic()
        eventually(
            lambda: (found := state(server))["waiting"] == found["sessions"] == found["polls"] == 0, limit=20
        )
        assert time.monotonic() - began < 17  # where the server cannot tell, the next heartbeat does


def test_a_socket_io_client_that_leaves_frees_its_thread(server: ServerProcess) -> None:
    """A poll of Engine.IO's whose client is gone is no longer held, and the session ends."""
    path = "/preferences/socket.io/?EIO=4&transport=polling"
    with client_of(server) as client:
        sid = client.get(path).raise_for_status().text.split('"sid":"')[1].split('"')[0]
        client.post(
            f"{path}&sid={sid}", content=f'40/preferences,{{"token":"{bearer("anna")["Authorization"][7:]}"}}'
        )
        heard = ""
        while "reset" not in heard:
            heard += client.get(f"{path}&sid={sid}").raise_for_status().text
    with hang_on(server, f"{path}&sid={sid}"):
        eventually(lambda: state(server)["waiting"] == 1)
    eventually(lambda: state(server)["waiting"] == 0)


def test_a_web_socket_costs_no_thread(tmp_path: Path) -> None:
    """Under four threads 40 WebSockets are open while requests go on; all that leave are forgotten within seconds."""
    storage = {"PREFSYNC_DATABASE_URL": f"sqlite:///{tmp_path}/prefsync.sqlite3"}
    with gunicorn(storage, "--threads", "4") as server, ExitStack() as held:
        url = f"{server.url.replace('http', 'ws', 1)}/preferences/ws"
        before = state(server)
        sockets = []
        for _ in range(40):
            sockets.append(
                held.enter_context(
                    connect(
                        url,
                        additional_headers=bearer("anna"),
                        subprotocols=["prefsync.v1"],  # type: ignore[list-item]
                        proxy=None,
                        open_timeout=LIMIT,
                    )
                )
            )
            sockets[-1].send('{"type":"hello"}')
            sockets[-1].recv(LIMIT)
        found = state(server)
        assert (found["sessions"], found["waiting"]) == (40, 0)
        assert found["threads"] <= before["threads"] + 8
        for each in sockets[:30]:
            each.socket.shutdown(SHUT_RDWR)
        eventually(lambda: state(server)["sessions"] == 10)


def test_200_requests_at_once(production: dict[str, str]) -> None:
    """200 clients that write and read at once each get their own answers; no session and no thread is left over."""

    def use(number: int) -> tuple[int, int]:
        with client_of(server, f"user-{number}") as client:
            wrote = client.patch("/preferences/editor", json={"tab_size": number % 16 + 1})
            wrote.raise_for_status()
            return number, client.get("/preferences/editor").raise_for_status().json()["tab_size"]

    with gunicorn(production, "--threads", "50") as server:
        with ThreadPoolExecutor(200) as threads:
            for number, found in threads.map(use, range(200)):
                assert found == number % 16 + 1
        assert state(server)["sessions"] == state(server)["waiting"] == 0
        assert "Traceback" not in server.output

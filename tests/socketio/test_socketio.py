"""Clients that already speak Socket.IO, on two processes, of both mounts: the official one, by each of its transports."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from prefsync.testing.mount.callers import WRITE
from tests.socketio.conftest import TRANSPORTS, token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.servers import ServerProcess
    from tests.socketio.conftest import Connection, Node

pytestmark = pytest.mark.once

DARK = {"appearance": {"theme": "dark"}}
LIGHT = {"appearance": {"theme": "light"}}


def request(
    server: ServerProcess, user: str, method: str = "GET", path: str = "", body: Any = None
) -> dict[str, Any]:
    """Send a request over HTTP, and return its answer's JSON."""
    headers = {"Authorization": f"Bearer {token(user)}"}
    answer = httpx2.request(
        method, f"{server.url}/preferences{path}", headers=headers, json=body, trust_env=False
    )
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def joined(node: Node, transport: str, server: ServerProcess, user: str) -> tuple[Connection, int]:
    """Return a connection that has been reset, and its revision."""
    connection = node.connection(transport)
    connection.connect(server, token=token(user))
    return connection, heard(connection, "connect", "reset")["reset"]["revision"]


def heard(connection: Connection, *events: str) -> dict[str, Any]:
    """Return the arguments of events that come next in any order; those of transports and heartbeats are passed over."""
    found: dict[str, Any] = {}
    while set(events) - found.keys():
        told = connection.hear()
        assert told.event in {*events, "heartbeat", "upgrade", "close"}, told
        if told.event in events:
            found[told.event] = told.data
    return found


def test_a_client_is_reset_and_told_what_another_process_writes(
    node: Node, servers: tuple[ServerProcess, ServerProcess], transport: str, user: str
) -> None:
    """Who connects with a token gets the whole state, then each change, whichever process wrote it."""
    connection = node.connection(transport)
    connection.connect(servers[0], token=token(user))
    reset = heard(connection, "connect", "reset")["reset"]
    assert reset["values"]["appearance"]["theme"] == "system"
    assert "type" not in reset
    request(servers[1], user, "PATCH", body=DARK)
    change = heard(connection, "change")["change"]
    assert change["changed"] == DARK
    assert change["previous"] == reset["revision"]
    connection.disconnect()


def test_a_ticket_is_good_once_on_any_process(
    node: Node, servers: tuple[ServerProcess, ServerProcess], transport: str, user: str
) -> None:
    """A ticket from one process opens a connection to the other, and is refused afterwards."""
    ticket = request(servers[0], user, "POST", "/ticket")["ticket"]
    first, second = node.connection(transport), node.connection(transport)
    first.connect(servers[1], ticket=ticket)
    assert "values" in heard(first, "connect", "reset")["reset"]
    second.connect(servers[1], ticket=ticket)
    problem = heard(second, "connect_error")["connect_error"]
    assert (problem["status"], problem["type"]) == (401, "urn:prefsync:problem:unauthenticated")
    first.disconnect()


def test_a_client_resumes_where_it_was(
    node: Node, servers: tuple[ServerProcess, ServerProcess], transport: str, user: str
) -> None:
    """With ``since`` a client is greeted with what it missed, and is not reset."""
    first, revision = joined(node, "websocket", servers[0], user)
    first.disconnect()
    request(servers[1], user, "PATCH", body=DARK)
    schema = request(servers[0], user, path=f"/changes?since={revision}")["schema"]
    second = node.connection(transport)
    second.connect(servers[0], token=token(user), since=revision, schema=schema)
    welcome = heard(second, "connect", "welcome")["welcome"]
    assert [change["changed"] for change in welcome["changes"]] == [DARK]
    assert welcome["changes"][0]["previous"] == revision
    assert welcome["schema"] == schema
    second.disconnect()


def test_writes_are_acknowledged_once(
    node: Node, servers: tuple[ServerProcess, ServerProcess], transport: str, user: str
) -> None:
    """A patch's callback gets the ack; the same id again gets the same one and writes nothing."""
    connection = node.connection(transport)
    connection.connect(servers[0], token=token(user), client="tab-1")
    heard(connection, "connect", "reset")
    connection.emit("patch", {"id": "one", "patch": DARK})
    told = heard(connection, "answer", "change")
    ack = {"type": "ack", "id": "one", "revision": told["change"]["revision"]}
    assert told["answer"] == ack
    assert told["change"]["origin"] == "tab-1"
    connection.emit("patch", {"id": "one", "patch": DARK})
    assert heard(connection, "answer")["answer"] == ack
    connection.emit("patch", {"id": "two", "patch": LIGHT})
    assert heard(connection, "answer", "change")["change"]["changed"] == LIGHT
    connection.disconnect()


def test_a_write_that_breaks_the_rules_is_refused_and_the_session_stays(
    node: Node, servers: tuple[ServerProcess, ServerProcess], transport: str, user: str
) -> None:
    """A patch that cannot be gets a nack with the problem, and the next one is written."""
    connection, _ = joined(node, transport, servers[0], user)
    connection.emit("patch", {"id": "bad", "patch": {"appearance": {"theme": "loud"}}})
    nack = heard(connection, "answer")["answer"]
    assert (nack["type"], nack["id"], nack["problem"]["status"]) == ("nack", "bad", 422)
    assert nack["problem"]["errors"][0]["pointer"] == "/appearance/theme"
    connection.emit("patch", {"id": "good", "patch": DARK})
    assert heard(connection, "answer", "change")["answer"]["type"] == "ack"
    connection.disconnect()


def test_a_fresh_token_prolongs_a_session_and_its_end_is_told(
    node: Node, servers: tuple[ServerProcess, ServerProcess], user: str
) -> None:
    """A session whose token was renewed outlives the old one; one whose token runs out gets a bye and is cut."""
    lasting = [node.connection(way) for way in TRANSPORTS]
    ending = [node.connection(way) for way in TRANSPORTS]
    for connection in (*lasting, *ending):
        connection.connect(servers[0], token=token(user, life=3))
    for connection in (*lasting, *ending):
        heard(connection, "connect", "reset")
    for connection in lasting:
        connection.emit("token", {"token": token(user)})
        assert heard(connection, "answer")["answer"] == {"type": "ok"}
    for connection in ending:
        assert heard(connection, "bye", "disconnect")["bye"] == {"reason": "token-expired"}
    request(servers[0], user, "PATCH", body=DARK)
    for connection in lasting:
        assert heard(connection, "change")["change"]["changed"] == DARK
        connection.disconnect()


def test_another_users_token_ends_the_session(
    node: Node, servers: tuple[ServerProcess, ServerProcess], transport: str, user: str
) -> None:
    """A token of somebody else's gets a bye for the reason unauthenticated."""
    connection, _ = joined(node, transport, servers[0], user)
    connection.emit("token", {"token": token(f"not-{user}")})
    assert heard(connection, "bye", "disconnect")["bye"] == {"reason": "unauthenticated"}


@pytest.mark.parametrize(
    ("auth", "status", "name"),
    [
        ({}, 401, "unauthenticated"),
        ({"token": "nonsense"}, 401, "unauthenticated"),
        ({"token": "a", "ticket": "b"}, 400, "malformed-request"),
        ({"since": -1}, 400, "malformed-request"),
        ({"token": WRITE}, 403, "insufficient-scope"),  # stands for a token that allows just that
    ],
    ids=["none", "bad", "both", "since", "scope"],
)
def test_a_refused_connect_is_told_why(
    node: Node,
    servers: tuple[ServerProcess, ServerProcess],
    transport: str,
    auth: dict[str, Any],
    status: int,
    name: str,
) -> None:
    """Who may not come in gets ``connect_error`` with the problem."""
    connection = node.connection(transport)
    if auth.get("token") == WRITE:  # made here and now: it would not outlive a long run
        auth = {"token": token("writer", scope=WRITE)}
    connection.connect(servers[0], **auth)
    problem = heard(connection, "connect_error")["connect_error"]
    assert (problem["status"], problem["type"]) == (status, f"urn:prefsync:problem:{name}")


def test_other_namespaces_are_refused(
    node: Node, servers: tuple[ServerProcess, ServerProcess], transport: str, user: str
) -> None:
    """A connect to another namespace gets ``connect_error`` with a 404 problem."""
    connection = node.connection(transport)
    connection.connect(servers[0], namespace="/", token=token(user))
    assert heard(connection, "connect_error")["connect_error"]["status"] == 404


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("patch", {"id": "x"}),
        ("patch", "text"),
        ("token", {"token": 1}),
        ("disconnect_all", {}),
        ("connect", {}),
    ],
    ids=["member", "type", "token", "unknown", "reserved"],
)
def test_a_bad_frame_ends_the_session(
    node: Node, servers: tuple[ServerProcess, ServerProcess], transport: str, user: str, event: str, data: Any
) -> None:
    """An event that the protocol does not know gets a bye for the reason bad-frame, and a disconnect."""
    connection, _ = joined(node, transport, servers[0], user)
    connection.send(f"2/preferences,{json.dumps([event, data])}")
    assert heard(connection, "bye", "disconnect")["bye"] == {"reason": "bad-frame"}


def test_a_flood_ends_the_session(
    node: Node, servers: tuple[ServerProcess, ServerProcess], transport: str, user: str
) -> None:
    """More than 100 packets in a second get a bye for the reason too-many."""
    connection, _ = joined(node, transport, servers[0], user)
    connection.emit("patch", {"id": "one", "patch": {"nowhere": {}}}, times=150)
    told = connection.hear()
    while told.event != "bye":
        told = connection.hear()
    assert told.data == {"reason": "too-many"}


def test_a_page_of_another_origin_may_not_connect(servers: tuple[ServerProcess, ServerProcess]) -> None:
    """The handshake of a page from elsewhere gets a 403 problem."""
    url = f"{servers[0].url}/preferences/socket.io/?EIO=4&transport=polling"
    answer = httpx2.get(url, headers={"Origin": "https://elsewhere.example"}, trust_env=False)
    assert answer.status_code == 403
    assert answer.json()["type"] == "urn:prefsync:problem:origin-refused"


def test_a_process_that_ends_says_so(
    node: Node,
    storage: dict[str, str],
    serve: Callable[[Mapping[str, str]], ServerProcess],
    user: str,
) -> None:
    """A process that is asked to end tells sessions by each transport, and ends at once."""
    with serve(storage) as server:
        connections = [node.connection(way) for way in TRANSPORTS]
        for connection in connections:
            connection.connect(server, token=token(user))
            heard(connection, "connect", "reset")
        server.terminate(8)
        for connection in connections:
            assert heard(connection, "bye", "disconnect")["bye"] == {"reason": "going-away"}
        assert "Traceback" not in server.output


def test_idle_sessions_hear_a_heartbeat_and_who_never_joins_is_cut(
    node: Node, fastapi_servers: tuple[ServerProcess, ServerProcess], user: str
) -> None:
    """Within 15 s a session gets a heartbeat with its revision, and a connection without a session is closed."""
    silent = f"{fastapi_servers[0].url}/preferences/socket.io/?EIO=4&transport=polling"
    silent += "&sid=" + json.loads(httpx2.get(silent, trust_env=False).content[1:])["sid"]
    sessions = [joined(node, way, fastapi_servers[0], user) for way in ("websocket", "polling")]
    try:
        closed = httpx2.get(silent, timeout=12, trust_env=False)
        assert closed.content == b"1", "Engine.IO's packet that closes was expected"
    finally:
        for connection, revision in sessions:
            told = connection.hear(15)
            assert (told.event, told.data) == ("heartbeat", {"revision": revision})
            connection.disconnect()

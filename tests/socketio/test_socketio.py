"""Clients that already speak Socket.IO, on two processes: the official one, by each of its transports."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from prefsync.testing.mount.callers import WRITE
from tests.http.conftest import uvicorn_process
from tests.socketio.conftest import token

if TYPE_CHECKING:
    from tests.servers import ServerProcess
    from tests.socketio.conftest import Connection, Node

pytestmark = pytest.mark.once

Servers = "tuple[ServerProcess, ServerProcess]"

DARK = {"appearance": {"theme": "dark"}}
LIGHT = {"appearance": {"theme": "light"}}


def request(
    server: ServerProcess, user: str, method: str = "GET", path: str = "", body: Any = None
) -> dict[str, Any]:
    """Send a request over HTTP, and return its answer's JSON."""
    headers = {"Authorization": f"Bearer {token(user)}", "Content-Type": "application/json"}
    content = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(f"{server.url}/preferences{path}", content, headers, method=method)
    with urllib.request.urlopen(asked, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def joined(node: Node, transport: str, server: ServerProcess, user: str) -> tuple[Connection, int]:
    """Return a connection that has been reset, and its revision."""
    connection = node.connection(transport)
    connection.connect(server, token=token(user))
    _, reset = connection.expect("connect", "reset")
    return connection, reset["revision"]


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
    node: Node, servers: Servers, transport: str, user: str
) -> None:
    """Who connects with a token gets the whole state, then each change, whichever process wrote it."""
    connection = node.connection(transport)
    connection.connect(servers[0], token=token(user))
    reset = heard(connection, "connect", "reset")["reset"]
    assert reset["values"]["appearance"]["theme"] == "system"
    assert "type" not in reset
    written = request(servers[1], user, "PATCH", body=DARK)
    change = heard(connection, "change")["change"]
    assert change["changed"] == DARK
    assert change["previous"] == reset["revision"]
    assert written["appearance"]["theme"] == "dark"
    connection.disconnect()


def test_a_ticket_is_good_once_on_any_process(node: Node, servers: Servers, transport: str, user: str) -> None:
    """A ticket from one process opens a connection to the other, and is refused afterwards."""
    ticket = request(servers[0], user, "POST", "/ticket")["ticket"]
    first, second = node.connection(transport), node.connection(transport)
    first.connect(servers[1], ticket=ticket)
    assert "values" in heard(first, "connect", "reset")["reset"]
    second.connect(servers[1], ticket=ticket)
    problem = heard(second, "connect_error")["connect_error"]
    assert (problem["status"], problem["type"]) == (401, "urn:prefsync:problem:unauthenticated")
    first.disconnect()


def test_a_client_resumes_where_it_was(node: Node, servers: Servers, transport: str, user: str) -> None:
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


def test_writes_are_acknowledged_once(node: Node, servers: Servers, transport: str, user: str) -> None:
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
    node: Node, servers: Servers, transport: str, user: str
) -> None:
    """A patch that cannot be gets a nack with the problem, and the next one is written."""
    connection = node.connection(transport)
    connection.connect(servers[0], token=token(user))
    heard(connection, "connect", "reset")
    connection.emit("patch", {"id": "bad", "patch": {"appearance": {"theme": "loud"}}})
    nack = heard(connection, "answer")["answer"]
    assert (nack["type"], nack["id"], nack["problem"]["status"]) == ("nack", "bad", 422)
    assert nack["problem"]["errors"][0]["pointer"] == "/appearance/theme"
    connection.emit("patch", {"id": "good", "patch": DARK})
    assert heard(connection, "answer", "change")["answer"]["type"] == "ack"
    connection.disconnect()


def test_a_fresh_token_prolongs_a_session_and_its_end_is_told(
    node: Node, servers: Servers, transport: str, user: str
) -> None:
    """A session whose token was renewed outlives the old one; one whose token runs out gets a bye and is cut."""
    lasting, ending = node.connection(transport), node.connection(transport)
    for connection in (lasting, ending):
        connection.connect(servers[0], token=token(user, life=3))
        heard(connection, "connect", "reset")
    lasting.emit("token", {"token": token(user)})
    assert heard(lasting, "answer")["answer"] == {"type": "ok"}
    assert heard(ending, "bye")["bye"] == {"reason": "token-expired"}
    heard(ending, "disconnect")
    request(servers[0], user, "PATCH", body=DARK)
    assert heard(lasting, "change")["change"]["changed"] == DARK
    lasting.disconnect()


def test_another_users_token_ends_the_session(node: Node, servers: Servers, transport: str, user: str) -> None:
    """A token of somebody else's gets a bye for the reason unauthenticated."""
    connection = node.connection(transport)
    connection.connect(servers[0], token=token(user))
    heard(connection, "connect", "reset")
    connection.emit("token", {"token": token(f"not-{user}")})
    assert heard(connection, "bye", "disconnect")["bye"] == {"reason": "unauthenticated"}


@pytest.mark.parametrize(
    ("auth", "status", "name"),
    [
        ({}, 401, "unauthenticated"),
        ({"token": "nonsense"}, 401, "unauthenticated"),
        ({"token": "a", "ticket": "b"}, 400, "malformed-request"),
        ({"since": -1}, 400, "malformed-request"),
        ({"token": token("writer", scope=WRITE)}, 403, "insufficient-scope"),
    ],
    ids=["none", "bad", "both", "since", "scope"],
)
def test_a_refused_connect_is_told_why(
    node: Node, servers: Servers, transport: str, auth: dict[str, Any], status: int, name: str
) -> None:
    """Who may not come in gets ``connect_error`` with the problem."""
    connection = node.connection(transport)
    connection.connect(servers[0], **auth)
    problem = heard(connection, "connect_error")["connect_error"]
    assert (problem["status"], problem["type"]) == (status, f"urn:prefsync:problem:{name}")


def test_other_namespaces_are_refused(node: Node, servers: Servers, transport: str, user: str) -> None:
    """A connect to another namespace gets ``connect_error`` with a 404 problem."""
    connection = node.connection(transport)
    connection.connect(servers[0], namespace="/", token=token(user))
    assert heard(connection, "connect_error")["connect_error"]["status"] == 404


@pytest.mark.parametrize(
    ("event", "data"),
    [("patch", {"id": "x"}), ("patch", "text"), ("token", {"token": 1}), ("disconnect_all", {}), ("connect", {})],
    ids=["member", "type", "token", "unknown", "reserved"],
)
def test_a_bad_frame_ends_the_session(
    node: Node, servers: Servers, transport: str, user: str, event: str, data: Any
) -> None:
    """An event that the protocol does not know gets a bye for the reason bad-frame, and a disconnect."""
    connection = node.connection(transport)
    connection.connect(servers[0], token=token(user))
    heard(connection, "connect", "reset")
    connection.send(f"2/preferences,{json.dumps([event, data])}")
    assert heard(connection, "bye", "disconnect")["bye"] == {"reason": "bad-frame"}


def test_a_flood_ends_the_session(node: Node, servers: Servers, transport: str, user: str) -> None:
    """More than 100 packets in a second get a bye for the reason too-many."""
    connection = node.connection(transport)
    connection.connect(servers[0], token=token(user))
    heard(connection, "connect", "reset")
    for number in range(150):
        connection.emit("patch", {"id": f"{number}", "patch": {"nowhere": {}}})
    told = connection.hear()
    while told.event != "bye":
        told = connection.hear()
    assert told.data == {"reason": "too-many"}


def test_a_page_of_another_origin_may_not_connect(servers: Servers) -> None:
    """The handshake of a page from elsewhere gets a 403 problem."""
    url = f"{servers[0].url}/preferences/socket.io/?EIO=4&transport=polling"
    asked = urllib.request.Request(url, headers={"Origin": "https://elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(asked, timeout=10)
    with caught.value as refused:
        assert refused.code == 403
        assert json.load(refused)["type"] == "urn:prefsync:problem:origin-refused"


def test_a_process_that_ends_says_so(node: Node, storage: dict[str, str], user: str) -> None:
    """A process that is asked to end tells sessions by each transport, and ends at once."""
    with uvicorn_process(storage) as server:
        ways = ("websocket", "polling", "polling+websocket")
        connections = [node.connection(way) for way in ways]
        for connection in connections:
            connection.connect(server, token=token(user))
            heard(connection, "connect", "reset")
        server.terminate(8)
        for connection in connections:
            assert heard(connection, "bye", "disconnect")["bye"] == {"reason": "going-away"}
        assert "Traceback" not in server.output


def test_an_idle_session_hears_a_heartbeat_with_its_revision(node: Node, servers: Servers, user: str) -> None:
    """Within 15 s each session gets a heartbeat with the newest revision it was sent; who never joins is cut by then."""
    idle, _ = joined(node, "websocket", servers[0], user), None
    polling, revision = joined(node, "polling", servers[0], user)
    for connection in (idle[0], polling):
        told = connection.hear(15)
        while told.event != "heartbeat":
            told = connection.hear(15)
        assert told.data == {"revision": revision}
        connection.disconnect()

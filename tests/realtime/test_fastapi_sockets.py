"""What a FastAPI host puts around its mount holds for WebSocket and server-sent events too."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from prefsync.testing.realtime.members import Feed, Member, greeted
from tests.http.conftest import ROOT, uvicorn_process
from tests.realtime.conftest import client_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from prefsync.testing.realtime import RealtimeClient
    from prefsync.testing.realtime.wire import EventStream, WebSocket
    from tests.servers import ServerProcess

pytestmark = [pytest.mark.anyio, pytest.mark.once]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """Run the hosts."""
    with uvicorn_process({}, "tests.realtime.hosts:app", ROOT) as server:
        yield server


@pytest.fixture
async def at(server: ServerProcess) -> AsyncIterator[Callable[[str], RealtimeClient]]:
    """Give clients of the mounts below any prefix."""
    prefixes = ("/own", "/overridden", "/guarded", "/first", "/second/preferences", "/proxy/first")
    async with AsyncExitStack() as stack:
        clients = {each: await stack.enter_async_context(client_of(server, each)) for each in prefixes}
        yield clients.__getitem__


def user() -> dict[str, str]:
    """Return the header that names a new user."""
    return {"X-User": secrets.token_hex(8)}


async def hello(socket: WebSocket, **more: Any) -> dict[str, Any]:
    """Say hello and return the answer."""
    await socket.say(type="hello", **more)
    return await greeted(socket)


async def patch(client: RealtimeClient, headers: dict[str, str], value: int) -> int | None:
    """Write, and return the revision."""
    body = b'{"a":%d}' % value
    answer = await client.request(
        "PATCH", "/plugins", headers={**headers, "Content-Type": "application/json"}, body=body
    )
    answer.ok()
    return answer.revision


async def first(stream: EventStream) -> Any:
    """Return a stream's first event, which must come."""
    event = await stream.hear()
    assert event is not None
    return event


@pytest.mark.parametrize("prefix", ["/own", "/overridden"])
async def test_the_hosts_own_authentication(at: Callable[[str], RealtimeClient], prefix: str) -> None:
    """It says whose a WebSocket and a stream are, also where an override of the app's takes its place."""
    client, alice, bob = at(prefix), user(), user()
    async with (
        client.websocket(headers=alice) as socket,
        client.websocket(headers=bob) as other,
        client.events(headers=alice) as stream,
    ):
        await hello(socket)
        await hello(other)
        assert (await first(stream))[0] == "reset"
        revision = await patch(client, alice, 1)
        change = await socket.hear()
        assert (change["type"], change["revision"]) == ("change", revision)
        assert (await first(stream))[1] == str(revision)
        await other.say(type="ping")
        assert await other.hear() == {"type": "pong", "revision": 0}
        await socket.say(type="patch", id="k", patch={"plugins": {"a": 2}})
        assert {(await socket.hear())["type"] for _ in range(2)} == {"ack", "change"}


@pytest.mark.parametrize(("prefix", "status"), [("/own", 418), ("/overridden", 418), ("/guarded", 451)])
async def test_a_refusal_of_the_hosts(at: Callable[[str], RealtimeClient], prefix: str, status: int) -> None:
    """It is the handshake's status, with the host's headers, and a stream's."""
    client = at(prefix)
    for answer in (await client.handshake(), await client.request("GET", "/events")):
        assert answer.status == status
        assert answer.headers["Content-Type"] == "application/problem+json"
        if status == 418:
            assert answer.headers["X-Why"] == "no user"


async def test_a_guard_that_lets_pass(at: Callable[[str], RealtimeClient]) -> None:
    """Then it is as without it: the token counts, in the header or in the hello."""
    client, gate = at("/guarded"), {"X-Gate": "open"}
    me = Member(client)
    assert (await client.request("GET", "/events", headers=gate)).status == 401
    async with client.websocket(headers=gate) as socket:
        assert (await hello(socket, token=me.token))["type"] == "reset"
    async with client.websocket(headers={**gate, **me.bearer}) as socket:
        assert (await hello(socket))["type"] == "reset"
    async with client.events(headers={**gate, **me.bearer}) as stream:
        assert (await first(stream))[0] == "reset"


@pytest.mark.parametrize("prefix", ["/own", "/overridden"])
async def test_tickets(at: Callable[[str], RealtimeClient], prefix: str) -> None:
    """A ticket opens a session where the host's own authentication would find nobody; a bad one is 4401."""
    client, alice = at(prefix), user()
    revision = await patch(client, alice, 1)
    tickets = [(await client.request("POST", "/ticket", headers=alice)).ok()["ticket"] for _ in range(2)]
    async with client.websocket(query=f"ticket={tickets[0]}") as socket:
        assert (await hello(socket))["revision"] == revision
    async with client.events(query=f"ticket={tickets[1]}") as stream:
        assert (await first(stream))[1] == str(revision)
    for spent in tickets:
        async with client.websocket(query=f"ticket={spent}") as socket:
            assert await socket.closed() == 4401
        assert (await client.request("GET", "/events", query=f"ticket={spent}")).status == 401
    assert (await client.request("POST", "/ticket")).status == 418
    assert (await client.request("GET", "", query=f"ticket={'x' * 43}")).status == 418


@pytest.mark.parametrize("prefix", ["/first", "/second/preferences", "/proxy/first"])
async def test_prefixes(at: Callable[[str], RealtimeClient], prefix: str) -> None:
    """Both transports are below the mount's prefix, whether or not the proxy took its own away."""
    me = Member(at(prefix))
    for transport in ("websocket", "events"):
        async with me.follow(transport) as feed:
            await feed.reset()
            revision = (await me.patch("/plugins", {transport: 1})).revision
            assert (await feed.change())["revision"] == revision
    (await me.get("/ws")).problem(400, "malformed-request")


async def test_two_mounts(at: Callable[[str], RealtimeClient]) -> None:
    """Neither hears of the other's changes, nor takes its tickets."""
    one = Member(at("/first"))
    two = one.through(at("/second/preferences"))
    ticket = await one.ticket()
    async with one.follow("websocket") as mine, two.follow("websocket") as other:
        await mine.reset()
        await other.reset()
        await one.patch("/plugins", {"one": 1})
        await two.patch("/plugins", {"two": 2})
        assert (await mine.change())["changed"] == {"plugins": {"one": 1}}
        assert (await other.change())["changed"] == {"plugins": {"two": 2}}
    async with two.client.websocket(query=f"ticket={ticket}") as socket:
        assert await socket.closed() == 4401


async def test_a_middleware_holds_no_event_back(at: Callable[[str], RealtimeClient]) -> None:
    """Each event comes when it happens, through a middleware that stands between."""
    me = Member(at("/first"))
    async with me.client.events(headers=me.bearer) as stream:
        assert stream.headers["X-Passed"] == "yes"
        feed = Feed(stream, None)
        await feed.reset()
        for n in range(3):
            revision = (await me.patch("/plugins", {"n": n})).revision
            assert (await feed.change())["revision"] == revision

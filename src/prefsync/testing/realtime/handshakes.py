"""protocol.md, section 3, "WebSocket": who may open one (RFC 6455, sections 4 and 10.2)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from prefsync.testing.mount.callers import WRITE, mint
from prefsync.testing.mount.suite import label
from prefsync.testing.realtime.members import greeted
from prefsync.testing.realtime.suite import RealtimeSuite
from prefsync.testing.realtime.wire import WebSocket, request, upgrade

if TYPE_CHECKING:
    from prefsync.testing.realtime.client import RealtimeClient
    from prefsync.testing.realtime.members import Member

__all__ = ["HandshakesContract"]


class HandshakesContract(RealtimeSuite):
    """Subprotocol, origin, and what authenticates."""

    @pytest.mark.parametrize(
        "offered", [(), ("prefsync.v2",), ("PREFSYNC.V1",), ("prefsync",), ("bearer", "x")], ids=label
    )
    async def test_the_subprotocol_is_missing(self, me: Member, offered: tuple[str, ...]) -> None:
        """``400`` before the upgrade, with or without a token."""
        for headers in ({}, me.bearer):
            answer = await me.client.handshake(headers=headers, subprotocols=offered)
            answer.problem(400, "malformed-request")

    async def test_one_subprotocol_among_others(self, me: Member) -> None:
        """It is chosen wherever it stands in the list."""
        async with me.client.websocket(
            headers=me.bearer, subprotocols=("graphql-ws", "prefsync.v1", "prefsync.v9")
        ) as socket:
            await socket.say(type="hello")
            assert (await greeted(socket))["type"] == "reset"

    @pytest.mark.parametrize(
        ("origin", "authority", "good"),
        [
            (None, None, True),
            ("http://{host}", None, True),
            ("https://{host}", None, True),  # a proxy in front speaks TLS
            ("HTTP://{host}", None, True),
            ("http://app.example", "app.example", True),
            ("https://app.example", "app.example", True),
            ("http://app.example:80", "app.example", True),
            ("http://app.example", "app.example:80", True),
            ("https://app.example", "app.example:443", True),
            ("https://app.example:443", "app.example", True),
            ("https://App.Example", "aPP.exaMPLE", True),
            ("http://[::1]:8000", "[::1]:8000", True),
            ("null", None, False),
            ("", None, False),
            ("http://{address}", None, False),
            ("http://{address}:1", None, False),
            ("http://localhost:{port}", None, False),
            ("http://evil.example", None, False),
            ("http://{host}.evil.example", None, False),
            ("http://evil.example/{host}", None, False),
            ("http://{host}@evil.example", None, False),
            ("http://evil.example@{host}", None, False),
            ("http://{host}/", None, False),
            ("http://{host}?", None, False),
            ("http://{host}#", None, False),
            ("http://{host} http://evil.example", None, False),
            ("http://{host}, http://evil.example", None, False),
            ("{host}", None, False),
            ("//{host}", None, False),
            ("file://", None, False),
            ("chrome-extension://abc", None, False),
            ("http://app.example:443", "app.example", False),
            ("https://app.example:80", "app.example", False),
            ("https://app.example", "app.example:80", False),
            ("http://app.example", "app.example:443", False),
            ("http://app.example:8080", "app.example", False),
            ("http://app.example:x", "app.example:x", False),
            ("http://app.example:99999", "app.example:99999", False),
            ("http://sub.app.example", "app.example", False),
            ("http://app.example.", "app.example", False),
        ],
        ids=label,
    )
    async def test_origins(
        self, me: Member, origin: str | None, authority: str | None, *, good: bool
    ) -> None:
        """A page of this host and port may connect, and whoever is no page; any other is ``403``, token or not."""
        address, port = me.client.address
        headers = dict(me.bearer)
        if authority is not None:
            headers["Host"] = authority
        if origin is not None:
            headers["Origin"] = origin.format(host=me.client.authority, address=address, port=port)
        if good:
            async with me.client.websocket(headers=headers) as socket:
                await socket.say(type="hello")
                await greeted(socket)
            return
        (await me.client.handshake(headers=headers)).problem(403, "origin-refused")
        del headers["Authorization"]
        (await me.client.handshake(headers=headers, query="ticket=x")).problem(403, "origin-refused")

    @pytest.mark.parametrize("kind", ["another key", "expired", "no user", "no token", "no bearer"])
    async def test_a_bad_token_in_the_header(self, me: Member, kind: str) -> None:
        """``401`` before the upgrade, with the challenge of RFC 6750."""
        claims = {"sub": me.user, "scope": "preferences:read", "exp": time.time() + 60}
        line = {
            "another key": "Bearer " + mint(claims, key="another secret"),
            "expired": "Bearer " + mint({**claims, "exp": time.time() - 1}),
            "no user": "Bearer " + mint({**claims, "sub": ""}),
            "no token": "Bearer",
            "no bearer": "Basic YTpi",
        }[kind]
        answer = await me.client.elsewhere().handshake(headers={"Authorization": line})
        answer.problem(401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")

    async def test_no_read_scope_in_the_header(self, me: Member) -> None:
        """``403`` before the upgrade: what may only write has nothing to follow."""
        answer = await me.client.handshake(headers=me.holding(scope=WRITE).bearer)
        answer.problem(403, "insufficient-scope")
        assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]

    @pytest.mark.parametrize("name", ["token", "access_token"])
    async def test_a_token_in_the_query(self, me: Member, name: str) -> None:
        """``400``, for a WebSocket and an event stream alike, whatever else authenticates."""
        for headers in ({}, me.bearer):
            for query in (f"{name}={me.token}", f"ticket=x&{name}={me.token}"):
                answer = await me.client.handshake(headers=headers, query=query)
                answer.problem(400, "malformed-request")
                assert me.token not in answer.body.decode()
        (await me.get("/events", query=f"{name}={me.token}")).problem(400, "malformed-request")
        plain = await me.client.request("GET", "/events", query=f"{name}={me.token}")
        plain.problem(400, "malformed-request")

    async def test_a_hello_authenticates(self, me: Member, mount: RealtimeClient) -> None:
        """Without a header and without a ticket the first frame brings the token."""
        await me.patch("/plugins", {"a": 1})
        state = await me.state()
        async with mount.websocket() as socket:
            await socket.say(type="hello", token=me.token, client="tab-1")
            assert await greeted(socket) == {"type": "reset", **state}
        async with mount.websocket() as socket:
            await socket.say(type="hello", token=me.token, since=state["revision"], schema=state["schema"])
            assert await greeted(socket) == {
                "type": "welcome",
                "revision": state["revision"],
                "schema": state["schema"],
                "changes": [],
            }

    @pytest.mark.parametrize("kind", ["missing", "another key", "expired", "empty words", "no read scope"])
    async def test_a_hello_with_a_bad_token(self, me: Member, mount: RealtimeClient, kind: str) -> None:
        """4401 where it is missing, bad or expired, 4403 where it may not read; the bad token is not repeated."""
        claims = {"sub": me.user, "scope": "preferences:read", "exp": time.time() + 60}
        token = {
            "missing": None,
            "another key": mint(claims, key="another secret"),
            "expired": mint({**claims, "exp": time.time() - 1}),
            "empty words": "a b c",
            "no read scope": me.holding(scope=WRITE).token,
        }[kind]
        async with mount.elsewhere().websocket() as socket:
            await socket.say(type="hello", **({} if token is None else {"token": token}))
            assert await socket.closed() == (4403 if kind == "no read scope" else 4401)

    async def test_a_hello_with_another_token_than_the_header(self, me: Member, somebody: Member) -> None:
        """One of the same subject holds from then on, one of another subject is 4401."""
        async with me.client.websocket(headers=me.bearer) as socket:
            await socket.say(type="hello", token=somebody.token)
            assert await socket.closed() == 4401
        async with me.client.websocket(headers=me.holding(scope="preferences:read").bearer) as socket:
            await socket.say(type="hello", token=me.token)
            await greeted(socket)
            await socket.say(type="patch", id="k", patch={"plugins": {"a": 1}})
            assert {(await socket.hear())["type"], (await socket.hear())["type"]} == {"ack", "change"}

    async def test_a_byte_at_a_time(self, me: Member) -> None:
        """A handshake and a hello that drip in are as good as any, and keep nobody waiting meanwhile."""
        connection = await me.client.connect()
        try:
            head = upgrade(me.client.target("/ws"), me.client.authority, me.bearer.items(), ["prefsync.v1"])
            for n, byte in enumerate(head):
                await connection.send(bytes([byte]))
                if n % 100 == 0:
                    (await me.get()).ok()
            assert (await connection.answer()).status == 101
            socket = WebSocket(connection)
            await socket.drip('{"type":"hello","client":"slow"}')
            assert (await greeted(socket))["type"] == "reset"
        finally:
            connection.close()

    async def test_no_upgrade(self, me: Member) -> None:
        """A plain ``GET /ws`` is ``400``, any other method ``405``."""
        (await me.get("/ws")).problem(400, "malformed-request")
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            (await me.send(method, "/ws")).problem(405, "method-not-allowed")

    @pytest.mark.parametrize(
        "path", ["", "/", "/appearance", "/events", "/changes", "/ws/", "/nothing", "//ws"]
    )
    async def test_upgrades_elsewhere(self, me: Member, path: str) -> None:
        """Only ``/ws`` speaks WebSocket; elsewhere an upgrade is refused and nothing breaks."""
        answer = await me.client.handshake(headers=me.bearer, path=path)
        assert answer.status in {400, 404, 426}
        answer.problem(answer.status, "not-found" if answer.status == 404 else "malformed-request")

    async def test_a_version_that_nobody_speaks(self, me: Member) -> None:
        """A handshake that is none (RFC 6455, section 4.4) is refused, and the server serves on."""
        lines = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "99")]
        connection = await me.client.connect()
        head = request("GET", me.client.target("/ws"), me.client.authority, [*lines, *me.bearer.items()])
        await connection.send(head)
        assert (await connection.answer()).status in {400, 426}
        connection.close()
        (await me.get()).ok()

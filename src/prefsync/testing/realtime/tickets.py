"""protocol.md, section 3: tickets, for clients that cannot set headers."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from prefsync.testing.mount.callers import READ, WRITE
from prefsync.testing.realtime.members import Feed, greeted
from prefsync.testing.realtime.suite import RealtimeSuite
from prefsync.testing.realtime.wire import PATIENCE, Closed

if TYPE_CHECKING:
    from prefsync.testing.realtime.members import Member

__all__ = ["TicketsContract"]


class TicketsContract(RealtimeSuite):
    """``POST /ticket`` and ``?ticket=``."""

    async def test_the_answer(self, me: Member) -> None:
        """A ticket and the seconds that it is good for, to be kept by nobody."""
        answers = [await me.send("POST", "/ticket") for _ in range(2)]
        for answer in answers:
            found = answer.ok()
            assert found.keys() == {"ticket", "expires_in"}
            assert found["expires_in"] == 60
            assert len(found["ticket"]) >= 32
            assert found["ticket"].replace("-", "").replace("_", "").isalnum()
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.coding is None
        assert answers[0].ok()["ticket"] != answers[1].ok()["ticket"]

    @pytest.mark.parametrize("body", [None, b"", b"{}", b"{broken", b"x" * 300_000], ids=repr)
    async def test_the_body_does_not_matter(self, me: Member, body: bytes | None) -> None:
        """Nothing is asked of it."""
        (await me.send("POST", "/ticket", raw=body, media=None)).ok()

    async def test_who_may_have_one(self, me: Member) -> None:
        """Whoever may read: ``403`` without that scope, ``401`` without a token, ``405`` by another method."""
        (await me.holding(scope=READ).send("POST", "/ticket")).ok()
        (await me.holding(scope=WRITE).send("POST", "/ticket")).problem(403, "insufficient-scope")
        (await me.client.request("POST", "/ticket")).problem(401, "unauthenticated")
        for method in ("GET", "PUT", "DELETE"):
            (await me.send(method, "/ticket")).problem(405, "method-not-allowed")

    async def test_it_opens_a_session(self, me: Member, there: Member) -> None:
        """Of its subject, on any process, over both transports; ``since`` goes beside it."""
        state = (await me.patch("", {"plugins": {"a": 1}})).ok()
        for each in (me, there):
            async with each.client.websocket(query=f"ticket={await me.ticket()}") as socket:
                await socket.say(type="hello")
                assert await greeted(socket) == {"type": "reset", **state}
            query = f"ticket={await me.ticket()}&since=0"
            async with each.client.events(query=query) as stream:
                feed = Feed(stream, {"revision": 0, "values": {}})
                assert (await feed.change())["revision"] == state["revision"]

    async def test_it_is_good_once(self, me: Member, there: Member) -> None:
        """A spent one is 4401 after the handshake and ``401`` for a stream, on every process."""
        ticket = await me.ticket()
        async with me.client.websocket(query=f"ticket={ticket}") as socket:
            await socket.say(type="hello")
            await greeted(socket)
        for each in (there, me):
            async with each.client.elsewhere().websocket(query=f"ticket={ticket}") as socket:
                assert await socket.closed() == 4401
            refused = await each.client.elsewhere().request("GET", "/events", query=f"ticket={ticket}")
            refused.problem(401, "unauthenticated")
        ticket = await there.ticket()
        async with me.client.events(query=f"ticket={ticket}") as stream:
            assert await stream.hear() is not None
        async with there.client.elsewhere().websocket(query=f"ticket={ticket}") as socket:
            assert await socket.closed() == 4401

    async def test_of_many_at_once_one_is_let_in(self, me: Member, there: Member) -> None:
        """However uses race, over both processes."""
        ticket = await me.ticket()

        async def use(each: Member) -> bool:
            async with each.client.elsewhere().websocket(query=f"ticket={ticket}") as socket:
                await socket.say(type="hello")
                try:
                    await greeted(socket)
                except Closed as end:
                    if end.code == 4401:
                        return False
                    raise
                return True

        assert sum(await asyncio.gather(*(use(each) for each in (me, there) * 6))) == 1

    @pytest.mark.parametrize("ticket", ["", "x", "%00", "%F0%9F%98%80", "a" * 43, "a" * 5_000, "../..", "*"])
    async def test_one_that_never_was(self, me: Member, ticket: str) -> None:
        """The handshake succeeds, so that a page can be told: 4401. A stream is ``401``."""
        stranger = me.client.elsewhere()
        async with stranger.websocket(query=f"ticket={ticket}") as socket:
            assert await socket.closed() == 4401
        (await stranger.request("GET", "/events", query=f"ticket={ticket}")).problem(401, "unauthenticated")

    async def test_it_is_no_bearer_token(self, me: Member) -> None:
        """Neither in the header, nor in a hello, nor for anything but a stream."""
        ticket = await me.ticket()
        stranger = me.client.elsewhere()
        refused = await stranger.request("GET", headers={"Authorization": f"Bearer {ticket}"})
        refused.problem(401, "unauthenticated")
        for path in ("", "/appearance", "/changes", "/ticket"):
            method = "POST" if path == "/ticket" else "GET"
            (await stranger.request(method, path, query=f"ticket={ticket}&since=0")).problem(
                401, "unauthenticated"
            )
        async with stranger.websocket() as socket:
            await socket.say(type="hello", token=ticket)
            assert await socket.closed() == 4401
        async with stranger.websocket(query=f"ticket={ticket}") as socket:  # still unspent
            await socket.say(type="hello")
            await greeted(socket)

    async def test_it_carries_scopes(self, me: Member) -> None:
        """What the token could not do, the ticket cannot."""
        for scope, kind in ((READ, "nack"), (f"{READ} {WRITE}", "ack")):
            ticket = await me.holding(scope=scope).ticket()
            async with me.client.websocket(query=f"ticket={ticket}") as socket:
                await socket.say(type="hello", since=0)
                await greeted(socket)
                await socket.say(type="patch", id=scope.replace(" ", "+"), patch={"plugins": {}})
                assert (await socket.hear())["type"] == kind

    async def test_it_carries_the_expiry(self, me: Member) -> None:
        """A session ends when the ticket's token would have, and a ticket does not outlive its token."""
        short = me.holding(exp=time.time() + 1.5)
        unused, for_socket, for_stream = [await short.ticket() for _ in range(3)]
        async with (
            me.client.websocket(query=f"ticket={for_socket}") as socket,
            me.client.events(query=f"ticket={for_stream}") as stream,
        ):
            await socket.say(type="hello")
            await greeted(socket)
            assert await socket.closed() == 4401
            last = None
            while (event := await stream.hear()) is not None:
                last = event
            assert last is not None
            assert (last[0], last[2]) == ("bye", {"reason": "token-expired"})
        async with me.client.elsewhere().websocket(query=f"ticket={unused}") as socket:
            assert await socket.closed() == 4401

    async def test_another_subjects_token(self, me: Member, somebody: Member) -> None:
        """A hello may bring a token of the ticket's subject, and of no other."""
        async with me.client.websocket(query=f"ticket={await me.ticket()}") as socket:
            await socket.say(type="hello", token=me.token)
            assert (await greeted(socket))["type"] == "reset"
        async with me.client.websocket(query=f"ticket={await me.ticket()}") as socket:
            await socket.say(type="hello", token=somebody.token)
            assert await socket.closed(within=PATIENCE) == 4401

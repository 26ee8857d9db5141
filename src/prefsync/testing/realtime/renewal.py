"""protocol.md, sections 2 and 3: sessions end with their tokens, and a fresh one keeps a WebSocket open."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from prefsync.testing.mount.callers import BOTH, READ, WRITE, mint
from prefsync.testing.realtime.members import greeted
from prefsync.testing.realtime.suite import RealtimeSuite

if TYPE_CHECKING:
    from prefsync.testing.realtime.members import Member
    from prefsync.testing.realtime.wire import EventStream

__all__ = ["RenewalContract"]

# Seconds after expiry plus leeway within which a session ends (protocol.md, "Tokens"), and what the machine may add.
_LATE = 1.0 + 1.0


async def _last(stream: EventStream) -> Any:
    """Return a stream's last event."""
    last = None
    while (event := await stream.hear()) is not None:
        last = event
    return last


class RenewalContract(RealtimeSuite):
    """``token``, and expiry. The apps have no leeway."""

    async def test_the_end_of_a_token(self, me: Member) -> None:
        """A WebSocket is closed with 4401, a stream says ``bye`` and ends: not before expiry, and within a second."""
        end = time.time() + 1.2
        short = me.holding(exp=end)
        async with (
            short.socket() as socket,
            short.client.events(headers=short.bearer) as stream,
            short.client.websocket() as by_hello,
            short.client.websocket(headers=me.bearer) as shortened,
        ):
            await by_hello.say(type="hello", token=short.token)
            await shortened.say(type="hello", token=short.token)
            for each in (socket, by_hello, shortened):
                await greeted(each)
            assert await socket.closed() == 4401
            assert 0 <= time.time() - end < _LATE
            assert await by_hello.closed() == 4401
            assert await shortened.closed() == 4401
            kind, _, why = await _last(stream)
            assert (kind, why) == ("bye", {"reason": "token-expired"})
            assert time.time() - end < _LATE
        (await short.get("/events")).problem(401, "unauthenticated")

    async def test_a_fresh_token(self, me: Member) -> None:
        """It is ``ok``, and the session lives on beyond the old one's expiry, until the new one's."""
        first, second = time.time() + 0.8, time.time() + 2.2
        async with me.holding(exp=first).socket() as socket:
            await greeted(socket)
            for end in (first + 0.3, second):
                await socket.say(type="token", token=me.holding(exp=end).token)
                assert await socket.hear() == {"type": "ok"}
            assert await socket.closed() == 4401
            assert 0 <= time.time() - second < _LATE

    async def test_a_fresh_token_that_ends_sooner(self, me: Member) -> None:
        """The last one counts."""
        async with me.socket() as socket:
            await greeted(socket)
            end = time.time() + 0.5
            await socket.say(type="token", token=me.holding(exp=end).token)
            assert await socket.hear() == {"type": "ok"}
            assert await socket.closed() == 4401
            assert 0 <= time.time() - end < _LATE

    @pytest.mark.parametrize(
        ("kind", "code"),
        [
            ("another subject", 4401),
            ("another key", 4401),
            ("expired", 4401),
            ("no token at all", 4401),
            ("no read scope", 4403),
        ],
    )
    async def test_a_token_that_is_refused(self, me: Member, somebody: Member, kind: str, code: int) -> None:
        """It ends the session, and nothing of the old one holds."""
        claims = {"sub": me.user, "scope": BOTH, "exp": time.time() + 60}
        token = {
            "another subject": somebody.token,
            "another key": mint(claims, key="another secret"),
            "expired": me.holding(exp=time.time() - 0.1).token,
            "no token at all": "x",
            "no read scope": me.holding(scope=WRITE).token,
        }[kind]
        there = me.through(me.client.elsewhere())
        async with there.socket() as socket:
            await greeted(socket)
            await socket.say(type="token", token=token)
            assert await socket.closed() == code

    async def test_new_scopes_hold(self, me: Member) -> None:
        """From then on: what the new token may is allowed, what it may not is a nack."""
        async with me.holding(scope=READ).socket() as socket:
            await greeted(socket)
            for n, (scope, kind) in enumerate([(None, "nack"), (BOTH, "ack"), (READ, "nack"), (BOTH, "ack")]):
                if scope is not None:
                    await socket.say(type="token", token=me.holding(scope=scope).token)
                    assert await socket.hear() == {"type": "ok"}
                await socket.say(type="patch", id=f"k{n}", patch={"plugins": {}})
                assert (await socket.hear())["type"] == kind

    async def test_a_token_after_a_ticket(self, me: Member, somebody: Member) -> None:
        """A session that came with a ticket is renewed by a token of the same subject, and no other."""
        end = time.time() + 0.8
        ticket = await me.holding(exp=end).ticket()
        async with me.client.websocket(query=f"ticket={ticket}") as socket:
            await socket.say(type="hello")
            await greeted(socket)
            await socket.say(type="token", token=me.holding(exp=end + 0.6).token)
            assert await socket.hear() == {"type": "ok"}
            assert await socket.closed() == 4401
            assert 0 <= time.time() - end - 0.6 < _LATE
        async with me.client.websocket(query=f"ticket={await me.ticket()}") as socket:
            await socket.say(type="hello")
            await greeted(socket)
            await socket.say(type="token", token=somebody.token)
            assert await socket.closed() == 4401

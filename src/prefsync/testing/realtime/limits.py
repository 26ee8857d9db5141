"""protocol.md, sections 2 and 3: how many sessions there may be, and what counts for the rate limit."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from prefsync.testing.realtime.members import Member, greeted
from prefsync.testing.realtime.suite import BURST, PLACES, RealtimeSuite
from prefsync.testing.realtime.wire import request

if TYPE_CHECKING:
    from prefsync.testing.realtime.client import RealtimeClient
    from prefsync.testing.realtime.wire import WebSocket

__all__ = ["LimitsContract"]

_PER_SUBJECT: Final = 64


async def _is_full(me: Member) -> None:
    """See that each way to one more session is refused: before the handshake by 503, after it by 1013."""
    for answer in (await me.get("/events"), await me.client.handshake(headers=me.bearer)):
        answer.problem(503, "unavailable")
        assert int(answer.headers["Retry-After"]) > 0
    async with me.client.websocket() as socket:
        await socket.say(type="hello", token=me.token)
        assert await socket.closed() == 1013


async def _write(socket: WebSocket, key: str) -> tuple[str, int | None]:
    """Write what changes nothing; return ``ack``, or ``nack`` and the seconds to wait."""
    await socket.say(type="patch", id=key, patch={})
    reply = await socket.hear()
    if reply["type"] == "ack":
        return "ack", None
    problem = reply["problem"]
    assert (problem["status"], problem["type"]) == (429, "urn:prefsync:problem:rate-limited")
    return reply["type"], problem["retry_after"]


class LimitsContract(RealtimeSuite):
    """Caps and rates."""

    async def test_sessions_of_a_subject(self, me: Member, somebody: Member) -> None:
        """Of 64, over whichever transport, each is told; one more is refused until one has gone, others are not."""
        async with AsyncExitStack() as stack:
            ticket = await me.ticket()
            feeds = [
                await stack.enter_async_context(me.follow("websocket" if n % 2 else "events"))
                for n in range(_PER_SUBJECT - 1)
            ]
            async with me.follow("websocket") as last:
                await last.reset()
                for feed in feeds:
                    await feed.reset()
                await _is_full(me)
                async with me.client.websocket(query=f"ticket={ticket}") as socket:
                    assert await socket.closed() == 1013
                async with somebody.follow("events") as feed:
                    await feed.reset()
                revision = (await me.patch("/plugins", {"a": 1})).revision
                for feed in (*feeds, last):
                    assert (await feed.change())["revision"] == revision
                await last.source.connection.send(b"\x88\x80\0\0\0\0")  # a close (RFC 6455, section 5.5.1)
                assert await last.source.connection.reader.read(2) == b"\x88\x00"
            async with me.follow("events") as feed:
                assert (await feed.reset())["revision"] == revision

    async def test_sessions_of_a_process(self, strict: RealtimeClient) -> None:
        """When there are as many as the process may have, whoever they belong to, nobody else is let in."""
        async with AsyncExitStack() as stack:
            for n in range(PLACES):
                feed = await stack.enter_async_context(
                    Member(strict).follow("events" if n % 2 else "websocket")
                )
                await feed.reset()
            late = Member(strict)
            for answer in (await late.get("/events"), await strict.handshake(headers=late.bearer)):
                answer.problem(503, "unavailable")
            (await strict.handshake()).problem(503, "unavailable")
            (await late.get()).ok()

    async def test_draining(self, doomed: RealtimeClient) -> None:
        """Sessions are told that the server goes away, and a long poll is answered, before the connections end."""
        me = Member(doomed)
        async with (
            me.socket() as socket,
            doomed.websocket() as silent,
            doomed.events(headers=me.bearer) as stream,
        ):
            await greeted(socket)
            await stream.hear()
            connection = await doomed.connect()
            target = doomed.target("/changes", "since=0&wait=60")
            await connection.send(request("GET", target, doomed.authority, me.bearer.items()))
            await socket.say(type="ping")  # what was asked for before is under way when this is answered
            assert (await socket.hear())["type"] == "pong"
            doomed.stop()
            assert await socket.closed() == 1001
            assert await silent.closed() == 1001
            assert await stream.hear() == ("bye", None, {"reason": "going-away"})
            assert await stream.hear() is None
            assert (await connection.answer()).ok()["changes"] == []
            connection.close()

    async def test_each_write_counts_once(self, limited: Member) -> None:
        """So does the opening of a WebSocket; beyond the limit a write is a nack that says when, and nothing else ends."""
        async with limited.socket(since=0) as socket:
            await greeted(socket)
            for n in range(1, BURST):
                assert await _write(socket, f"k{n}") == ("ack", None)
            kind, wait = await _write(socket, "late")
            assert kind == "nack"
            assert wait is not None
            assert 0 < wait <= 60
            for _ in range(BURST):  # which are no writes
                await socket.say(type="ping")
                assert (await socket.hear())["type"] == "pong"
            await socket.say(type="token", token=limited.token)
            assert await socket.hear() == {"type": "ok"}
            for answer in (
                await limited.get("/events"),
                await limited.client.handshake(headers=limited.bearer),
            ):
                answer.problem(429, "rate-limited")
            async with limited.client.websocket() as other:
                await other.say(type="hello", token=limited.token)
                assert await other.closed() == 1013

    async def test_writes_and_streams_with_rates_of_their_own(self, apart: RealtimeClient) -> None:
        """Writes over a socket count with those over HTTP, streams with streams, and neither with the rest."""
        me = Member(apart)
        async with me.socket(since=0) as socket:
            await greeted(socket)
            assert await _write(socket, "k1") == ("ack", None)
            (await me.patch("/plugins", {"n": 1})).ok()
            assert (await socket.hear())["type"] == "change"
            kind, wait = await _write(socket, "k2")
            assert kind == "nack"
            assert wait is not None
            assert 0 < wait <= 60
            (await me.patch("/plugins", {"n": 2})).problem(429, "rate-limited")
            async with apart.events(headers=me.bearer) as stream:
                assert (await stream.hear() or ("",))[0] == "reset"
            for answer in (await me.get("/events"), await apart.handshake(headers=me.bearer)):
                answer.problem(429, "rate-limited")
                assert answer.headers["RateLimit-Policy"] == '"user-streams";q=2;w=60'
                assert 0 < int(answer.headers["Retry-After"]) <= 60
            async with apart.websocket() as other:
                await other.say(type="hello", token=me.token)
                assert await other.closed() == 1013
            for n in range(1, 4):
                answer = await me.get("/plugins")
                answer.ok()
                assert answer.headers["RateLimit"].startswith(f'"user";r={100 - n};')

    async def test_a_stream_counts_once(self, limited: Member) -> None:
        """However many changes it brings."""
        async with limited.client.events(headers=limited.bearer) as stream:
            assert (await stream.hear() or ("",))[0] == "reset"
            for n in range(1, BURST):
                (await limited.patch("/plugins", {"n": n})).ok()
                assert (await stream.hear() or ("",))[0] == "change"
            (await limited.get()).problem(429, "rate-limited")

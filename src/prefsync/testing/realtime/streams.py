"""protocol.md, section 3, "Server-sent events" (HTML standard, section 9.2)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from prefsync.testing.mount.callers import WRITE
from prefsync.testing.realtime.members import Feed
from prefsync.testing.realtime.suite import RealtimeSuite
from prefsync.testing.realtime.wire import request

if TYPE_CHECKING:
    from prefsync.testing.realtime.members import Member

__all__ = ["StreamsContract"]


class StreamsContract(RealtimeSuite):
    """``GET /events``."""

    async def test_the_head(self, me: Member) -> None:
        """It is an event stream that no cache keeps and no proxy collects, and it counts as any request."""
        async with me.client.events(headers=me.bearer) as stream:
            headers = stream.headers
            assert headers["Content-Type"].replace(" ", "").lower() in {
                "text/event-stream",
                "text/event-stream;charset=utf-8",
            }
            assert headers["Cache-Control"] == "no-store"
            assert headers["X-Accel-Buffering"] == "no"
            assert "Content-Length" not in headers
            assert headers.all("RateLimit-Policy")
            assert headers.all("RateLimit")

    @pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "gzip, br, zstd, deflate", "*"])
    async def test_it_is_never_compressed(self, me: Member, coding: str) -> None:
        """Whatever the client accepts, and however long an event is."""
        await me.put("/plugins", {"a": "x" * 10_000})
        async with me.client.events(headers={**me.bearer, "Accept-Encoding": coding}) as stream:
            assert stream.headers.get("Content-Encoding") in {None, "identity"}
            assert (await Feed(stream, None).reset())["values"]["plugins"] == {"a": "x" * 10_000}

    async def test_retry(self, me: Member) -> None:
        """A stream tells when to come back, each another time, so that those cut together do not come together."""
        told = []
        for _ in range(6):
            async with me.client.events(headers=me.bearer) as stream:
                await stream.hear()
                assert len(stream.retries) == 1
                told += stream.retries
        assert all(0 < ms <= 60_000 for ms in told)
        assert len(set(told)) > 1

    async def test_values_that_look_like_the_stream(self, me: Member) -> None:
        """Line breaks, colons and field names inside of values arrive as they are."""
        odd = {
            "a": "1\n\ndata: x\r\revent: y\r\nid: 7\u2028\u2029\x85",
            "id: 1\n": ["\n", "\r"],
            "\ufeff": ":",
        }
        state = await me.state()
        async with me.client.events(headers=me.bearer, query="since=0") as stream:
            feed = Feed(stream, state)
            (await me.put("/plugins", odd)).ok()
            assert (await feed.change())["changed"] == {"plugins": odd}
        async with me.client.events(headers=me.bearer) as stream:
            assert (await Feed(stream, None).reset())["values"]["plugins"] == odd

    async def test_head(self, me: Member) -> None:
        """``HEAD`` is answered with the head alone, at once, and opens nothing."""
        async with me.client.events(headers=me.bearer) as stream:
            expected = {name for name, _ in stream.headers}
        connection = await me.client.connect()
        target = me.client.target("/events")
        lines = [*me.bearer.items(), ("Connection", "close")]
        await connection.send(request("HEAD", target, me.client.authority, lines))
        status, headers = await connection.head()
        assert status == 200
        assert headers["Content-Type"].startswith("text/event-stream")
        assert expected - {"transfer-encoding"} <= {name for name, _ in headers}
        assert await connection.reader.read() == b""
        connection.close()

    async def test_who_may(self, me: Member) -> None:
        """Whoever may read: ``401`` without a token, ``403`` without the scope, ``405`` by another method."""
        (await me.client.request("GET", "/events")).problem(401, "unauthenticated")
        (await me.holding(scope=WRITE).get("/events")).problem(403, "insufficient-scope")
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            answer = await me.send(method, "/events")
            answer.problem(405, "method-not-allowed")
            assert answer.headers.members("Allow") == {"get", "head"}

    async def test_an_expired_token(self, me: Member) -> None:
        """One that is over is ``401`` and no stream."""
        (await me.holding(exp=time.time() - 0.1).get("/events")).problem(401, "unauthenticated")

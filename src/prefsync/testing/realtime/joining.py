"""protocol.md, section 3: where a session begins."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from prefsync.testing.mount.callers import DEFAULTS
from prefsync.testing.realtime.members import Feed
from prefsync.testing.realtime.suite import RealtimeSuite

if TYPE_CHECKING:
    from prefsync.testing.realtime.client import RealtimeHost
    from prefsync.testing.realtime.members import Member, Transport

__all__ = ["JoiningContract"]


async def _next_is(me: Member, feed: Feed, origin: str) -> None:
    """Write, and see that nothing is told before that write."""
    revision = (await me.patch("/plugins", {"last": origin}, headers={"Prefsync-Client": origin})).revision
    change = await feed.change()
    assert (change["revision"], change["origin"]) == (revision, origin)


class JoiningContract(RealtimeSuite):
    """``since``, ``schema`` and ``Last-Event-ID``."""

    async def test_without_since(self, me: Member, transport: Transport) -> None:
        """The first thing is a reset, which is what ``GET /`` answers; then come changes."""
        await me.patch("", {"appearance": {"theme": "dark"}, "plugins": {"a": 1}})
        async with me.follow(transport) as feed:
            assert await feed.reset() == await me.state()
            await _next_is(me, feed, "tab-1")

    async def test_nothing_was_ever_stored(self, me: Member, transport: Transport) -> None:
        """The state is that of the defaults at revision 0, and the first write's change follows upon it."""
        state = await me.state()
        assert (state["revision"], state["values"]) == (0, DEFAULTS)
        async with me.follow(transport) as fresh, me.follow(transport, state) as feed:
            assert await fresh.reset() == state
            await _next_is(me, feed, "tab-1")
            assert (await fresh.change())["previous"] == 0

    async def test_resuming_at_every_revision(self, me: Member, transport: Transport) -> None:
        """Whatever a client has seen, it gets what it missed and no more: from the newest revision on, nothing."""
        states = [await me.state()]
        for patch in (
            {"appearance": {"theme": "dark"}},
            {"plugins": {"a": 1, "b": 2}},
            {"plugins": {"a": None}},
            {"appearance": None, "editor": {"rulers": [80]}},
            {"plugins": {"a": 3}},
        ):
            (await me.patch("", patch)).ok()
            states.append(await me.state())
        newest = states[-1]
        for state in states:
            async with me.follow(transport, state) as feed:
                assert await feed.until(newest["revision"]) == newest["values"]
        async with me.follow(transport, newest, schema=newest["schema"]) as feed:
            await _next_is(me, feed, "tab-1")

    async def test_resuming_again_and_again(self, me: Member, there: Member, transport: Transport) -> None:
        """A client whose connection breaks after each change, while others write, misses nothing."""
        state = await me.state()
        writes = 15

        async def write() -> None:
            for n in range(writes):
                (await (me, there)[n % 2].patch("/plugins", {f"k{n % 4}": n})).ok()

        writing = asyncio.create_task(write())
        at = 0
        while len(state["values"]["plugins"]) < 4 or max(state["values"]["plugins"].values()) < writes - 1:
            at += 1
            async with (there, me)[at % 2].follow(transport, state) as feed:
                assert (await feed.next())[0] == "change"
                state = {"revision": feed.revision, "values": feed.values}
        await writing
        newest = await me.state()
        assert (state["revision"], state["values"]) == (newest["revision"], newest["values"])

    async def test_much_was_missed(self, me: Member, transport: Transport) -> None:
        """More than may wait for a client is folded before it is told, and leads to the newest state all the same."""
        state = await me.state()
        for n in range(12):  # 1.4 MB in all
            (await me.patch("/plugins", {f"k{part}": f"{n}-" + "x" * 15_000 for part in range(8)})).ok()
        newest = await me.state()
        async with me.follow(transport, state) as feed:
            assert await feed.until(newest["revision"]) == newest["values"]
            assert len(json.dumps(feed.changes)) < 2**20
            await _next_is(me, feed, "tab-1")

    async def test_another_schema(self, me: Member, transport: Transport) -> None:
        """A client that knows another schema gets a reset, however new its revision is."""
        await me.patch("/plugins", {"a": 1})
        state = await me.state()
        async with me.follow(transport, state, schema="another") as feed:
            assert await feed.reset() == state
            await _next_is(me, feed, "tab-1")

    @pytest.mark.parametrize("off", [-1, 1, 1_000_000, None], ids=["between", "next", "beyond", "largest"])
    async def test_a_revision_that_never_was(
        self, me: Member, there: Member, transport: Transport, off: int | None
    ) -> None:
        """One that lies between two, or beyond the newest, is a reset, whatever others of the subject follow."""
        before = newest = (await me.patch("/plugins", {"n": 0})).revision
        n = 0
        while newest <= before + 1:  # revisions of one millisecond lie side by side
            before, n = newest, n + 1
            newest = (await me.patch("/plugins", {"n": n})).revision
        state = await me.state()
        since = 2**53 - 1 if off is None else state["revision"] + off
        for each in (me, there):
            async with (
                each.follow(transport, since=since) as alone,
                each.follow(transport, since=since) as feed,
            ):
                assert await alone.reset() == state
                assert await feed.reset() == state

    async def test_a_trimmed_log(self, host: RealtimeHost, me: Member, transport: Transport) -> None:
        """A revision that is not in the log any more is a reset; those that are go on."""
        states = [await me.state()]
        for n in range(5):
            await me.patch("/plugins", {"n": n})
            states.append(await me.state())
        async with host.repository() as repository:
            await repository.trim_subject(me.subject, 2)
        for state in states[:3]:
            async with me.follow(transport, state) as feed:
                assert await feed.reset() == states[-1]
        for state in states[3:-1]:
            async with me.follow(transport, state) as feed:
                assert await feed.until(states[-1]["revision"]) == states[-1]["values"]
                assert feed.changes

    async def test_an_erased_user(
        self, host: RealtimeHost, me: Member, there: Member, transport: Transport
    ) -> None:
        """Whoever has something of what was erased gets a reset."""
        await me.patch("/plugins", {"a": 1})
        state = await me.state()
        async with host.repository() as repository:
            await repository.erase(me.subject)
        revision = (await there.patch("/plugins", {"b": 1})).revision
        assert revision > state["revision"]
        async with there.follow(transport, state) as feed:
            assert (await feed.reset())["values"]["plugins"] == {"b": 1}
            assert feed.revision == revision

    @pytest.mark.parametrize(
        ("last", "wins"),
        [
            ("{newest}", True),
            ("{first}", False),
            ("", False),
            ("abc", False),
            ("-1", False),
            ("1.5", False),
            ("1e3", False),
            ("0x10", False),
            ("{newest}x", False),
            ("\xb2", False),
        ],
    )
    async def test_last_event_id(self, me: Member, last: str, *, wins: bool) -> None:
        """``Last-Event-ID`` wins over ``since``; one that is no number counts as missing."""
        first = (await me.patch("/plugins", {"a": 1})).revision
        newest = (await me.patch("/plugins", {"a": 2})).revision
        lines = {**me.bearer, "Last-Event-ID": last.format(first=first, newest=newest)}
        async with me.client.events(headers=lines, query=f"since={first}") as stream:
            state = {"revision": newest if wins else first, "values": {**DEFAULTS, "plugins": {"a": 1}}}
            feed = Feed(stream, state)
            if not wins:
                assert (await feed.change())["revision"] == newest
            await _next_is(me, feed, "tab-1")
        older = {**me.bearer, "Last-Event-ID": str(first)}
        async with me.client.events(headers=older, query=f"since={newest}") as stream:
            assert (await Feed(stream, {"revision": first, "values": {}}).change())["revision"] == newest

    async def test_last_event_id_without_since(self, me: Member) -> None:
        """One that is no number is a reset then, and one that is suffices by itself."""
        revision = (await me.patch("/plugins", {"a": 1})).revision
        async with me.client.events(headers={**me.bearer, "Last-Event-ID": "none"}) as stream:
            assert (await Feed(stream, None).reset())["revision"] == revision
        async with me.client.events(headers={**me.bearer, "Last-Event-ID": "0"}) as stream:
            assert (await Feed(stream, {"revision": 0, "values": DEFAULTS}).change())["revision"] == revision

    @pytest.mark.parametrize(
        "query",
        ["since=x", "since=", "since=-1", "since=1.0", f"since={2**53}", "since=1&since=2", "since=%FF"],
    )
    async def test_a_since_that_is_no_revision(self, me: Member, query: str) -> None:
        """Nonsense in the query is ``400``, before there is a stream."""
        (await me.get("/events", query=query)).problem(400, "malformed-request")

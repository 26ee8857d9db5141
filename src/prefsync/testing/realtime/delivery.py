"""protocol.md, sections 3 and 4: every change of the subject, in order, none twice, none lost."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

from prefsync.testing.realtime.suite import RealtimeSuite

if TYPE_CHECKING:
    from prefsync.testing.realtime.members import Member, Transport

__all__ = ["DeliveryContract"]

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class DeliveryContract(RealtimeSuite):
    """Changes as they happen."""

    async def test_a_change(self, me: Member, there: Member, transport: Transport) -> None:
        """It tells whole fields with their effective values, and names that are gone; both are always there."""
        base = (await me.put("", {"plugins": {"a": 1, "b": {"c": 1}}, "appearance": {"theme": "dark"}})).ok()
        async with me.follow(transport, base) as here, there.follow(transport, base) as far:
            for writer, patch, origin, changed, removed in (
                (me, {"plugins": {"b": {"d": 2}}}, "tab-1", {"plugins": {"b": {"c": 1, "d": 2}}}, {}),
                (there, {"plugins": {"a": None, "z": 1}}, None, {"plugins": {"z": 1}}, {"plugins": ["a"]}),
                (me, {"appearance": None}, "x" * 64, {"appearance": {"theme": "system"}}, {}),
                (there, {"plugins": None}, "A.b_c-9", {}, {"plugins": ["b", "z"]}),
            ):
                lines = None if origin is None else {"Prefsync-Client": origin}
                wrote = (await writer.patch("", patch, headers=lines)).ok()
                for feed in (here, far):
                    change = await feed.change()
                    assert _TIME.fullmatch(change.pop("at"))
                    assert change == {
                        "revision": wrote["revision"],
                        "previous": base["revision"],
                        "origin": origin,
                        "changed": changed,
                        "removed": removed,
                    }
                    assert feed.values == wrote["values"]
                base = wrote

    async def test_the_feed_tells_the_same(self, me: Member, transport: Transport) -> None:
        """What is pushed is what ``GET /changes`` answers, member for member."""
        state = await me.state()
        async with me.follow(transport, state) as feed:
            for value in ({"a": 1}, {"a": 2, "b": 1}, {"b": None}):
                await me.patch("/plugins", value)
                await feed.change()
        assert feed.changes == (await me.changes(0))["changes"]

    async def test_what_changes_nothing_is_not_told(self, me: Member, transport: Transport) -> None:
        """A write that leaves the stored values as they are sends no change, and a refused one neither."""
        state = (await me.put("", {"plugins": {"a": 1}})).ok()
        async with me.follow(transport, state) as feed:
            (await me.patch("/plugins", {"a": 1})).ok()
            (await me.put("", {"plugins": {"a": 1}})).ok()
            assert (await me.patch("/appearance", {"theme": "no"})).status == 422
            revision = (await me.patch("/plugins", {"a": 2})).revision
            assert (await feed.change())["revision"] == revision

    async def test_others_are_told_nothing(self, me: Member, somebody: Member, transport: Transport) -> None:
        """A session hears of its own subject and of nobody else."""
        async with me.follow(transport, await me.state()) as feed:
            for n in range(5):
                await somebody.patch("/plugins", {"theirs": n})
            await me.patch("/plugins", {"mine": 1})
            assert (await feed.change())["changed"] == {"plugins": {"mine": 1}}

    async def test_concurrent_writes_through_both_processes(self, me: Member, there: Member) -> None:
        """However writes race, every session sees one unbroken chain and ends on the same state."""
        state = await me.state()
        async with AsyncExitStack() as stack:
            feeds = [
                await stack.enter_async_context(each.follow(transport, state))
                for each in (me, there)
                for transport in ("websocket", "events")
            ]

            async def write(each: Member, name: str) -> int:
                newest = 0
                for n in range(12):
                    newest = (await each.patch("/plugins", {name: n, "shared": {name: n}})).revision
                return newest

            newest = max(
                await asyncio.gather(
                    *(write(each, name) for each, name in ((me, "a"), (me, "b"), (there, "c")))
                )
            )
            values = (await there.state())["values"]
            for feed in feeds:
                assert await feed.until(newest) == values

    async def test_a_thousand_changes(self, me: Member) -> None:
        """Whoever was deaf to them, or comes back after them, ends on the newest state by an unbroken chain or a reset."""
        state = await me.state()
        async with (
            me.follow("websocket", state, receive_buffer=4_096) as deaf,
            me.follow("events", state, receive_buffer=4_096) as deaf_too,
        ):
            for n in range(1_001):
                (await me.patch("/plugins", {f"k{n % 7}": n, "pad": "x" * (n % 2)})).ok()
            newest = await me.state()
            for feed in (deaf, deaf_too):
                assert await feed.until(newest["revision"]) == newest["values"]
        for transport in ("websocket", "events"):
            async with me.follow(transport, state) as feed:
                assert await feed.until(newest["revision"]) == newest["values"]

    async def test_a_slow_reader(self, me: Member, transport: Transport) -> None:
        """What waits for a client that does not read is folded; it ends on the right state, and nobody waits for it."""
        state = await me.state()
        async with (
            me.follow(transport, state, receive_buffer=4_096) as slow,
            me.follow(transport, state) as quick,
        ):
            revisions = []
            for n in range(80):
                revisions.append((await me.patch("/plugins", _large(n))).revision)
                await quick.until(revisions[-1])  # it is told while the other takes nothing
            values = await slow.until(revisions[-1])
            assert values == (await me.state())["values"]
            assert len(slow.changes) < len(revisions), "nothing was folded"
            folded = [one for one in slow.changes if revisions.index(one["revision"]) > 0]
            assert any(one["previous"] != revisions[revisions.index(one["revision"]) - 1] for one in folded)
            # Then it is as quick as any.
            last = (await me.patch("/plugins", {"a": "last"})).revision
            assert (await slow.change())["revision"] == last


def _large(n: int) -> dict[str, Any]:
    """Return a patch of about 120 KB that is like no other."""
    return {f"k{part}": f"{n}-" + "x" * 15_000 for part in range(8)}

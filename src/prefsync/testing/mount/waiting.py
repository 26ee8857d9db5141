"""protocol.md, section 2, "Changes": with ``wait`` the feed answers as soon as there is something."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from prefsync.testing.mount.suite import MountSuite

if TYPE_CHECKING:
    from prefsync.testing.mount.callers import Caller

__all__ = ["LinkedContract", "WaitingContract"]

# Seconds. What is answered at once takes milliseconds; a machine that is busy deserves patience.
_AT_ONCE: Final = 5.0
_LONG: Final = 30


class WaitingContract(MountSuite):
    """``GET /changes?since=R&wait=S``."""

    async def test_waiting_ends_with_a_change(self, me: Caller) -> None:
        """As soon as one is written the answer comes."""
        start = (await me.patch("/plugins", {"a": 0})).revision
        waiting = [asyncio.ensure_future(me.changes(start, wait=_LONG)) for _ in range(3)]
        await asyncio.sleep(0.1)  # so that they do wait; the answer is right either way
        assert not any(one.done() for one in waiting)
        started = time.monotonic()
        revision = (await me.patch("/plugins", {"a": 1})).revision
        for one in waiting:
            page = await one
            assert [change["revision"] for change in page["changes"]] == [revision]
        assert time.monotonic() - started < _AT_ONCE

    async def test_waiting_for_a_first_change(self, me: Caller) -> None:
        """Where nothing was ever stored, too."""
        waiting = asyncio.ensure_future(me.changes(0, wait=_LONG))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        revision = (await me.patch("/plugins", {"a": 1})).revision
        assert (await waiting)["revision"] == revision
        assert time.monotonic() - started < _AT_ONCE

    async def test_waiting_is_over_where_there_are_changes(self, me: Caller) -> None:
        """What is there already is answered at once."""
        await me.patch("/plugins", {"a": 1})
        started = time.monotonic()
        assert len((await me.changes(0, wait=_LONG))["changes"]) == 1
        assert time.monotonic() - started < _AT_ONCE

    async def test_waiting_in_vain(self, me: Caller, somebody: Caller) -> None:
        """When the time is up: ``200``, no changes; what others write, and what changes nothing, does not count."""
        revision = (await me.patch("/plugins", {"a": 1})).revision
        started = time.monotonic()
        waiting = asyncio.ensure_future(me.get("/changes", query=f"since={revision}&wait=0.3"))
        await asyncio.sleep(0.05)
        await somebody.patch("/plugins", {"a": 2})
        await me.patch("/plugins", {"a": 1})
        answer = await waiting
        assert 0.29 <= time.monotonic() - started < _AT_ONCE
        page = answer.ok()
        assert (page["revision"], page["reset"], page["has_more"], page["changes"]) == (
            revision,
            False,
            False,
            [],
        )
        assert answer.revision == revision

    async def test_waiting_ends_with_the_token(self, me: Caller) -> None:
        """At most a second after expiry plus leeway, with ``200`` and no changes."""
        revision = (await me.patch("/plugins", {"a": 1})).revision
        left = 0.5
        short = me.holding(exp=time.time() - 30 + left)
        started = time.monotonic()
        page = await short.changes(revision, wait=_LONG)
        assert time.monotonic() - started < left + 1 + 2  # a second is the protocol's, two are the machine's
        assert (page["revision"], page["changes"], page["reset"]) == (revision, [], False)
        (await short.get()).problem(401, "unauthenticated")

    async def test_waiting_for_a_page(self, me: Caller) -> None:
        """``limit`` and ``wait`` do not exclude one another."""
        for n in range(3):
            await me.patch("/plugins", {"n": n})
        page = await me.changes(0, wait=_LONG, limit=2)
        assert (len(page["changes"]), page["has_more"]) == (2, True)
        page = await me.changes(page["revision"], wait=_LONG, limit=2)
        assert (len(page["changes"]), page["has_more"]) == (1, False)


class LinkedContract(MountSuite):
    """What a mount promises beyond, where its processes share a notifier."""

    async def test_waiting_for_a_change_through_another_process(self, me: Caller, unlimited: Caller) -> None:
        """A change written in one process wakes who waits in another."""
        waiting = asyncio.ensure_future(me.changes(0, wait=_LONG))
        await asyncio.sleep(0.1)
        started = time.monotonic()
        revision = (await me.through(unlimited.client).patch("/plugins", {"a": 1})).revision
        assert (await waiting)["revision"] == revision
        assert time.monotonic() - started < _AT_ONCE

"""protocol.md, section 3: clients that mean harm, or vanish, harm nobody else."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

from prefsync.testing.realtime.members import Member, greeted
from prefsync.testing.realtime.suite import RealtimeSuite
from prefsync.testing.realtime.wire import request, upgrade

if TYPE_CHECKING:
    from prefsync.testing.realtime.members import Feed, Transport

__all__ = ["HostileContract"]

_DEAF: Final = 12
"""Sessions that never read."""

_WRITES: Final = 40
"""Changes of 120 KB each, so that all of them for all of those would be 58 MB."""

_GROWTH: Final = 32 * 2**20
"""Bytes by which the server may grow meanwhile."""


def _large(n: int) -> dict[str, Any]:
    return {f"k{part}": f"{n}-" + "x" * 15_000 for part in range(8)}


class HostileContract(RealtimeSuite):
    """Whatever one client does, others are served."""

    async def test_a_thousand_hellos(self, me: Member, somebody: Member) -> None:
        """The second ends the session, and nothing comes of the others."""
        async with somebody.follow("websocket") as bystander, me.socket() as socket:
            await bystander.reset()
            await greeted(socket)
            for _ in range(1_000):
                await socket.say(type="hello", token=me.token)
            assert await socket.closed() in {4400, 1006}  # a reset may overtake the close frame
            revision = (await somebody.patch("/plugins", {"a": 1})).revision
            assert (await bystander.change())["revision"] == revision
        (await me.get()).ok()

    async def test_a_thousand_visitors(self, me: Member, somebody: Member) -> None:
        """As many sessions one after the other, each left without a word, keep no place."""
        async with somebody.follow("websocket") as bystander:
            await bystander.reset()
            for n in range(1_000):
                connection = await me.client.connect()
                await connection.send(
                    upgrade(me.client.target("/ws"), me.client.authority, me.bearer.items(), ["prefsync.v1"])
                )
                if n % 4 == 0:
                    assert (await connection.answer()).status == 101
                connection.close()
            revision = (await somebody.patch("/plugins", {"a": 1})).revision
            assert (await bystander.change())["revision"] == revision
        async with me.socket() as socket:
            await greeted(socket)

    async def test_those_that_never_read(self, me: Member, somebody: Member, transport: Transport) -> None:
        """They cost a bounded memory, and those that read wait for nobody."""
        async with AsyncExitStack() as stack:
            quick: Feed = await stack.enter_async_context(me.follow(transport, await me.state()))
            other: Feed = await stack.enter_async_context(somebody.follow(transport, await somebody.state()))
            for _ in range(_DEAF):
                await stack.enter_async_context(me.follow(transport, since=0, receive_buffer=4_096))
            before = me.client.memory()
            for n in range(_WRITES):
                revision = (await me.patch("/plugins", _large(n))).revision
                started = time.monotonic()
                await quick.until(revision)
                revision = (await somebody.patch("/plugins", {"n": n})).revision
                await other.until(revision)
                assert time.monotonic() - started < 5
            assert me.client.memory() - before < _GROWTH
            assert quick.values == (await me.state())["values"]

    async def test_resets(self, me: Member, somebody: Member, transport: Transport) -> None:
        """Connections that are reset at any moment leave nothing: no place is taken, and others hear on."""
        async with somebody.follow(transport) as bystander:
            await bystander.reset()
            target, authority = me.client.target, me.client.authority
            for n in range(120):  # more than a subject may have open at once
                connection = await me.client.connect()
                lines = me.bearer.items()
                if transport == "websocket":
                    head = upgrade(target("/ws"), authority, lines, ["prefsync.v1"])
                else:
                    head = request("GET", target("/events"), authority, lines)
                await connection.send(head[: len(head) // 2] if n % 4 == 1 else head)
                if n % 4 > 1:
                    await connection.head()
                if n % 4 == 3:
                    (await me.patch("/plugins", {"n": n})).ok()
                connection.reset()
            revision = (await somebody.patch("/plugins", {"a": 1})).revision
            assert (await bystander.change())["revision"] == revision
        async with me.follow(transport) as feed:
            assert await feed.reset() == await me.state()
        assert "Traceback" not in me.client.log()

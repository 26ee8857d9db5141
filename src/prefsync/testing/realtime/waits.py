"""protocol.md, section 3: what happens when nothing does.

The waiting begins with the first test of the class, in a thread of its own, so that it costs no time.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pytest

from prefsync.testing.realtime.members import Member, greeted
from prefsync.testing.realtime.suite import RealtimeSuite

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from concurrent.futures import Future

    from prefsync.testing.realtime.client import RealtimeClient

__all__ = ["WaitsContract"]

# Seconds that a busy machine may add.
_LATE: Final = 3.0


async def _heartbeat(client: RealtimeClient) -> tuple[float, Any, Any]:
    """Return the seconds until a WebSocket hears anything again, what, and the revision that it has."""
    async with Member(client).socket(since=0) as socket:
        await greeted(socket)
        await socket.say(type="patch", id="k", patch={"plugins": {"a": 1}})
        told = [await socket.hear() for _ in range(2)]
        revision = told[0]["revision"]
        began = time.monotonic()
        heard = await socket.hear_any()
        return time.monotonic() - began, heard, revision


async def _comment(client: RealtimeClient) -> tuple[float, list[str] | None]:
    """Return the seconds until an event stream hears anything again, and what."""
    async with client.events(headers=Member(client).bearer) as stream:
        await stream.hear()
        began = time.monotonic()
        block = await stream.block()
        return time.monotonic() - began, block


async def _no_hello(client: RealtimeClient, *, has_header: bool, drips: bool) -> tuple[float, int]:
    """Return the seconds until a WebSocket without a hello is closed, and with what."""
    me = Member(client)
    async with client.websocket(headers=me.bearer if has_header else {}) as socket:
        began = time.monotonic()
        dripping = asyncio.create_task(socket.drip('{"type":"hello"}' + " " * 100, pause=0.5))
        if not drips:
            dripping.cancel()
        try:
            code = await socket.closed(within=60)
            return time.monotonic() - began, code
        finally:
            dripping.cancel()


async def _all(client: RealtimeClient) -> dict[str, Any]:
    """Return what was found under each name, or the error in its place."""
    waits: dict[str, Coroutine[Any, Any, Any]] = {
        "heartbeat": _heartbeat(client),
        "comment": _comment(client),
        "nobody": _no_hello(client, has_header=False, drips=False),
        "somebody": _no_hello(client, has_header=True, drips=False),
        "dripping": _no_hello(client, has_header=True, drips=True),
    }
    return dict(zip(waits, await asyncio.gather(*waits.values(), return_exceptions=True), strict=True))


async def _found(waits: Future[dict[str, Any]], name: str) -> Any:
    found = (await asyncio.wrap_future(waits))[name]
    if isinstance(found, BaseException):
        raise found
    return found


class WaitsContract(RealtimeSuite):
    """Heartbeats, and the time for a hello."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def waits(cls, mount: RealtimeClient) -> Iterator[Future[dict[str, Any]]]:
        """Begin to wait for everything at once."""
        executor = ThreadPoolExecutor(1)
        yield executor.submit(lambda: asyncio.run(_all(mount)))
        executor.shutdown(wait=False)  # what still waits ends with the server

    async def test_heartbeats(self, waits: Future[dict[str, Any]]) -> None:
        """A WebSocket hears at least every 30 s which revision it has."""
        seconds, heard, revision = await _found(waits, "heartbeat")
        assert heard == {"type": "heartbeat", "revision": revision}
        assert seconds < 30 + _LATE

    async def test_comments(self, waits: Future[dict[str, Any]]) -> None:
        """An event stream hears a comment at least every 15 s, which no client takes for an event."""
        seconds, heard = await _found(waits, "comment")
        assert heard is not None
        assert all(line.startswith(":") for line in heard)
        assert seconds < 15 + _LATE

    @pytest.mark.parametrize("who", ["nobody", "somebody", "dripping"])
    async def test_no_hello_in_time(self, waits: Future[dict[str, Any]], who: str) -> None:
        """After 10 s it is 4408, with a token in the header or without, and however slowly a hello comes."""
        seconds, code = await _found(waits, who)
        assert code == 4408
        assert 9.5 < seconds < 10 + _LATE

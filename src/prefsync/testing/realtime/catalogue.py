"""protocol.md, section 3: the catalogue of hostile JSON in ``patch`` frames; the rules are those for bodies."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

import pytest

from prefsync.testing.hostile_json import HOSTILE_JSON
from prefsync.testing.realtime.members import greeted
from prefsync.testing.realtime.suite import RealtimeSuite
from prefsync.testing.realtime.wire import Closed

if TYPE_CHECKING:
    from prefsync.testing.hostile_json import HostileJson
    from prefsync.testing.realtime.members import Member
    from prefsync.testing.realtime.wire import WebSocket

__all__ = ["CatalogueContract"]

# A connection may bring 100 frames in a second.
_FRAMES: Final = 90

# Bytes of a patch that leaves little room for others.
_LARGE: Final = 1_000


class CatalogueContract(RealtimeSuite):
    """What is wrong inside a patch is a nack, and the session stays; what is no JSON ends it."""

    @pytest.mark.parametrize("kind", HOSTILE_JSON)
    async def test_the_catalogue_of_hostile_json_in_patches(self, me: Member, kind: str) -> None:
        """Every case gets the ack, the nack or the close code that its answer over HTTP stands for."""
        faults: dict[str, str] = {}
        async with AsyncExitStack() as stack:
            socket = await _session(me, stack)
            said = 0
            for case in filter(_is_patch, HOSTILE_JSON[kind]):
                if said == _FRAMES:
                    socket, said = await _session(me, stack), 0
                told = await _told(socket, case, f"{kind}-{said}-{id(socket)}")
                said += 1
                if isinstance(told, int):
                    socket, said = await _session(me, stack), 0
                if len(case.body) > _LARGE:
                    await me.delete()  # so that the next is not merged into it
                if told not in _expected(case):
                    faults[f"{case.name} ({case.purpose})"] = f"{told} instead of {_expected(case)}"
        assert not faults
        (await me.get()).ok()


def _is_patch(case: HostileJson) -> bool:
    """Tell whether a case can stand in a patch: in place of a namespace or of all of them, as PATCH takes it."""
    return "PATCH" in case.methods and not case.name.startswith("root of")


async def _session(me: Member, stack: AsyncExitStack) -> WebSocket:
    """Open a session instead of the one before."""
    await stack.aclose()
    socket = await stack.enter_async_context(me.socket(since=0))
    await greeted(socket)
    return socket


async def _told(socket: WebSocket, case: HostileJson, key: str) -> Any:
    """Return the codes of the nack to a case, none for an ack; or the code by which the session was closed."""
    patch = case.body if not case.path else b'{"%b":%b}' % (case.path[1:].encode(), case.body)
    await socket.send_raw(b'{"type":"patch","id":%b,"patch":%b}' % (json.dumps(key).encode(), patch))
    try:
        while (told := await socket.hear())["type"] not in {"ack", "nack"}:
            pass
    except Closed as end:
        return end.code
    assert told["id"] == key
    return frozenset(error["code"] for error in told.get("problem", {}).get("errors", ()))


def _expected(case: HostileJson) -> list[Any]:
    match case.status:
        case 400:
            return [4400] if _is_text(case.body) else [1007, 4400]  # RFC 6455, section 8.1
        case 413:
            return [1009]
        case 200 if len(case.body) > 256 * 1024 - 100:
            return [1009]  # the frame is larger than its patch
        case _:
            return [case.codes]


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True

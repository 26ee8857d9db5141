"""protocol.md, section 3: frames that are none of the protocol's, and how a connection is closed then."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from prefsync.testing.mount.suite import label
from prefsync.testing.realtime.members import greeted
from prefsync.testing.realtime.suite import RealtimeSuite

if TYPE_CHECKING:
    from prefsync.testing.realtime.members import Member

__all__ = ["FramesContract"]

_BODY: Final = 256 * 1024

# No JSON object, or one that is none of the protocol's frames; each of them in a connection of its own.
_BAD: Final[list[Any]] = [
    "",
    " ",
    "{",
    "hello",
    "null",
    "true",
    "1",
    '"hello"',
    "[]",
    '[{"type":"ping"}]',
    "{}",
    '{"type":"ping"}{"type":"ping"}',
    '{"type":"ping"} x',
    '{"type":"ping",}',
    "{'type':'ping'}",
    '\ufeff{"type":"ping"}',
    '{"type":"ping","type":"ping"}',
    '{"type":"ping","a":{"b":1,"b":1}}',
    '{"type":"ping","a":NaN}',
    '{"type":"ping","a":Infinity}',
    '{"type":"ping","a":-Infinity}',
    '{"type":"ping","a":01}',
    '{"type":"ping","a":"\t"}',
    '{"type":"ping","a":' + "[" * 300 + "}",
    b'{"type":"ping"}',
    b"",
    b"\x00\xff",
    {"type": None},
    {"type": 1},
    {"type": ["ping"]},
    {"type": "Ping"},
    {"type": "pong"},
    {"type": "change"},
    {"type": "close"},
    {"type": ""},
    {"type": "hello"},  # a second one
    {"type": "token"},
    {"type": "token", "token": None},
    {"type": "token", "token": 1},
    {"type": "token", "token": ["x"]},
    {"type": "patch"},
    {"type": "patch", "id": "k"},
    {"type": "patch", "patch": {}},
    {"type": "patch", "id": "", "patch": {}},
    {"type": "patch", "id": "a b", "patch": {}},
    {"type": "patch", "id": "x" * 129, "patch": {}},
    {"type": "patch", "id": "é", "patch": {}},
    {"type": "patch", "id": 1, "patch": {}},
    {"type": "patch", "id": None, "patch": {}},
    {"type": "patch", "id": "k", "patch": None},
    {"type": "patch", "id": "k", "patch": []},
    {"type": "patch", "id": "k", "patch": "x"},
    {"type": "patch", "id": "k", "patch": {}, "if_revision": "1"},
    {"type": "patch", "id": "k", "patch": {}, "if_revision": -1},
    {"type": "patch", "id": "k", "patch": {}, "if_revision": 1.0},
    {"type": "patch", "id": "k", "patch": {}, "if_revision": True},
    {"type": "patch", "id": "k", "patch": {}, "if_revision": 2**53},
]

_BAD_HELLOS: Final[list[dict[str, Any]]] = [
    {"since": "1"},
    {"since": -1},
    {"since": 1.0},
    {"since": True},
    {"since": 2**53},
    {"since": []},
    {"schema": 1},
    {"schema": {}},
    {"client": ""},
    {"client": "a b"},
    {"client": "x" * 65},
    {"client": "é"},
    {"client": 1},
    {"token": 1},
    {"token": {}},
]


def _named(frame: Any) -> str:
    """Name a frame in a test's id by its end, which is where they differ."""
    return label(_written(frame)[-60:])


def _written(frame: Any) -> str | bytes:
    return frame if isinstance(frame, str | bytes) else json.dumps(frame)


class FramesContract(RealtimeSuite):
    """4400 and 1009."""

    @pytest.mark.parametrize("frame", _BAD, ids=_named)
    async def test_bad_frames(self, me: Member, frame: Any) -> None:
        """Each closes the connection with 4400, and nothing was written."""
        async with me.socket() as socket:
            await greeted(socket)
            await socket.send(_written(frame))
            assert await socket.closed() == 4400
        assert (await me.get()).revision == 0

    @pytest.mark.parametrize(
        "frame",
        [
            *("", "{", "[]", "{}", b'{"type":"hello"}', '\ufeff{"type":"hello"}'),
            *({"type": "ping"}, {"type": "nothing"}, {"type": "token", "token": "x"}),
            {"type": "patch", "id": "k", "patch": {"plugins": {"a": 1}}},
            *({"type": "hello", **members} for members in _BAD_HELLOS),
        ],
        ids=_named,
    )
    async def test_bad_first_frames(self, me: Member, frame: Any) -> None:
        """Whatever is no hello, or one of another form, is 4400, authenticated or not."""
        for headers in (me.bearer, {}):
            async with me.client.websocket(headers=headers) as socket:
                await socket.send(_written(frame))
                assert await socket.closed() == 4400
        assert (await me.get()).revision == 0

    @pytest.mark.parametrize("deep", [15, 150, 10_000, 100_000])
    async def test_absurd_depth(self, me: Member, deep: int) -> None:
        """A patch that is too deep is a nack, however deep, and what is in unknown members does not matter."""
        nested = "[" * deep + "]" * deep
        async with me.socket() as socket:
            await greeted(socket)
            await socket.send('{"type":"patch","id":"k","patch":{"plugins":{"a":' + nested + "}}}")
            nack = await socket.hear()
            assert (nack["type"], nack["id"], nack["problem"]["status"]) == ("nack", "k", 422)
            assert [error["code"] for error in nack["problem"]["errors"]] == ["too_deep"]
            await socket.send('{"type":"ping","a":' + nested + "}")
            assert (await socket.hear())["type"] == "pong"
            await socket.send(nested)
            assert await socket.closed() == 4400
        async with me.client.websocket(headers=me.bearer) as socket:
            await socket.send('{"type":"hello","since":' + nested + "}")
            assert await socket.closed() == 4400
        (await me.get()).ok()

    @pytest.mark.parametrize("letter", ["x", "é", "\U0001f600"])
    async def test_size(self, me: Member, letter: str) -> None:
        """A frame of as many bytes as a body may have is read, one of a byte more is 1009."""
        frame = '{"type":"ping","a":"' + letter * ((_BODY - 30) // len(letter.encode())) + '"}'
        exact = frame + " " * (_BODY - len(frame.encode()))
        async with me.socket() as socket:
            await greeted(socket)
            await socket.send(exact)
            assert (await socket.hear())["type"] == "pong"
            await socket.send(exact + " ")
            assert await socket.closed() == 1009

    async def test_size_without_a_session(self, me: Member) -> None:
        """Before anybody is named, too; however much more it is, and in however many fragments."""
        for pieces in ([b" " * (_BODY + 1)], [b" " * 1_000] * 300, [b" " * 3_000_000]):
            async with me.client.websocket() as socket:
                await socket.send_raw(*pieces)
                assert await socket.closed() == 1009

    async def test_fragments(self, me: Member) -> None:
        """A message in fragments is one message (RFC 6455, section 5.4), with a ping between them too."""
        raw = [
            bytes([byte]) for byte in b'{"type":"hello","client":"tab-\xc3\xa9"}'.replace(b"\xc3\xa9", b"1")
        ]
        async with me.client.websocket(headers=me.bearer) as socket:
            await socket.send_raw(raw[0], *raw[1:], ping_between=True)
            await greeted(socket)
            euro = '{"type":"patch","id":"k","patch":{"plugins":{"€":"€"}}}'.encode()
            await socket.send_raw(*(euro[n : n + 1] for n in range(len(euro))))
            assert {(await socket.hear())["type"] for _ in range(2)} == {"ack", "change"}
        assert (await me.state())["values"]["plugins"] == {"€": "€"}

    @pytest.mark.parametrize(
        "raw", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80"], ids=repr
    )
    async def test_broken_utf8(self, me: Member, raw: bytes) -> None:
        """Text that is not UTF-8 ends the connection: 4400, or 1007 where the server reads it first (RFC 6455, 8.1)."""
        async with me.socket() as socket:
            await greeted(socket)
            await socket.send_raw(b'{"type":"patch","id":"k","patch":{"plugins":{"a":"' + raw + b'"}}}')
            assert await socket.closed() in {1007, 4400}
        assert (await me.get()).revision == 0

    async def test_unknown_members(self, me: Member) -> None:
        """They are ignored, in every frame: a later version may mean something by them."""
        more = {"later": {"a": [1, None]}, "x": 1}
        async with me.client.websocket(headers=me.bearer) as socket:
            await socket.say(type="hello", **more)
            assert (await greeted(socket)).keys() == {"type", "revision", "schema", "values"}
            await socket.say(type="ping", **more)
            assert await socket.hear() == {"type": "pong", "revision": 0}
            await socket.say(type="token", token=me.token, **more)
            assert await socket.hear() == {"type": "ok"}
            await socket.say(type="patch", id="k", patch={}, **more)
            assert await socket.hear() == {"type": "ack", "id": "k", "revision": 0}

    async def test_too_many(self, me: Member) -> None:
        """100 frames in a second are answered; more are 4429."""
        async with me.socket() as socket:
            await greeted(socket)
            for _ in range(99):
                await socket.say(type="ping")
            for _ in range(99):
                assert (await socket.hear())["type"] == "pong"
        async with me.socket() as socket:
            await greeted(socket)
            for _ in range(300):
                await socket.say(type="ping")
            assert await socket.closed() == 4429
        (await me.get()).ok()

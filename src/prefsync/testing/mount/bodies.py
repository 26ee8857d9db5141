"""protocol.md, section 2, "Bodies": media types, JSON as it must be, and what is refused wherever it stands."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any, Final

import pytest

from prefsync.testing.mount.suite import MountSuite, label

if TYPE_CHECKING:
    from prefsync.testing.mount.callers import Caller
    from prefsync.testing.mount.client import Answer

__all__ = ["BodiesContract"]

_MERGE_PATCH: Final = "application/merge-patch+json"

_BROKEN: Final = [
    b"",
    b" \r\n\t",
    b"{",
    b'{"a":1',
    b'{"a":1}}',
    b'{"a":1} {"b":2}',
    b'{"a":1} x',
    b'{"a":}',
    b'{"a" 1}',
    b"{'a':1}",
    b"{a:1}",
    b'{"a":1,}',
    b'{,"a":1}',
    b'{"a":[1,]}',
    b'{"a":[1 2]}',
    b'{"a":[1}',
    b'{"a":{]}',
    b'{"a":01}',
    b'{"a":-01}',
    b'{"a":.5}',
    b'{"a":5.}',
    b'{"a":+1}',
    b'{"a":1e}',
    b'{"a":--1}',
    b'{"a":0x1F}',
    b'{"a":1_000}',
    b'{"a":NaN}',
    b'{"a":nan}',
    b'{"a":Infinity}',
    b'{"a":-Infinity}',
    b'{"a":[{"b":NaN}]}',
    b'{"a":undefined}',
    b'{"a":True}',
    b'{"a":nul}',
    b'{"a":"x}',
    b'{"a":"\\x41"}',
    b'{"a":"\\u12"}',
    b'{"a":"\\u12G4"}',
    b'{"a":"line\nbreak"}',
    b'{"a":"tab\tbreak"}',
    b'{"a":"\x00"}',
    b'{"a":"\x1f"}',
    b'{"a":1}\x00',
    b'{"a":1}// comment',
    b'/**/{"a":1}',
    b"\xc2\xa0{}",
    b"\xe2\x80\xa8{}",
    b"\x0b{}",
    b"\x0c{}",
    b"a=1&b=2",
    b"<a>1</a>",
    b'"a',
    b"-",
]
_DUPLICATES: Final = [
    b'{"a":1,"a":2}',
    b'{"a":1,"a":1}',
    b'{"a":1,"\\u0061":1}',
    b'{"a":{"b":[{"c":1,"d":2,"c":3}]}}',
    b'{"":1,"":2}',
    b'{"a":null,"a":null}',
    b'{"\xc3\xa9":1,"\\u00e9":2}',
]
_NOT_UTF_8: Final = [
    b'\xef\xbb\xbf{"a":1}',
    b"\xef\xbb\xbf",
    '{"a":1}'.encode("utf-16"),
    '{"a":1}'.encode("utf-16-le"),
    '{"a":1}'.encode("utf-16-be"),
    '{"a":1}'.encode("utf-32"),
    '{"a":"é"}'.encode("latin-1"),
    b'{"a":"\xff"}',
    b'{"a":"\xc3"}',
    b'{"a":"\xc0\xaf"}',
    b'{"a":"\xed\xa0\x80"}',
    b'{"a":"\xf4\x90\x80\x80"}',
    b'{"\xe9":1}',
    b'{"a":1}\xff',
]

_FORBIDDEN: Final = ["__proto__", "constructor", "prototype"]


def _nothing_written(answer: Answer) -> bool:
    return answer.revision == 0


class BodiesContract(MountSuite):
    """Bodies."""

    # --- Media types -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("method", "media"),
        [
            *(
                (method, media)
                for method in ("PUT", "PATCH")
                for media in (
                    "application/json",
                    "Application/JSON",
                    "application/json; charset=utf-8",
                    'application/json;charset="UTF-8"',
                    "application/json ; charset=UTF-8",
                )
            ),
            ("PATCH", _MERGE_PATCH),
            ("PATCH", f"{_MERGE_PATCH}; charset=utf-8"),
            ("PATCH", _MERGE_PATCH.title()),
        ],
    )
    async def test_media_types_that_are_taken(self, me: Caller, method: str, media: str) -> None:
        """JSON, and for ``PATCH`` merge patches; names are of any case (RFC 9110, section 8.3.1)."""
        for path, value in (("", {"appearance": {"theme": "dark"}}), ("/appearance", {"theme": "light"})):
            (await me.send(method, path, value, media=media)).ok()

    @pytest.mark.parametrize(
        ("method", "media"),
        [
            *(
                (method, media)
                for method in ("PUT", "PATCH")
                for media in (
                    None,
                    "",
                    "text/plain",
                    "text/json",
                    "application/jsonx",
                    "application/json-patch+json",
                    "application/problem+json",
                    "application/x-www-form-urlencoded",
                    "multipart/form-data; boundary=x",
                    "application/*",
                    "application/json, application/json",
                    "json",
                )
            ),
            ("PUT", _MERGE_PATCH),
        ],
    )
    async def test_media_types_that_are_not(self, me: Caller, method: str, media: str | None) -> None:
        """``415``, a missing one too, and nothing is written."""
        for path, value in (("", {"appearance": {"theme": "dark"}}), ("/appearance", {"theme": "dark"})):
            answer = await me.send(method, path, value, media=media)
            answer.problem(415, "unsupported-media-type")
        assert _nothing_written(await me.get())

    @pytest.mark.parametrize("charset", ["iso-8859-1", "utf-16", "us-ascii-x", "windows-1252"])
    async def test_another_encoding_by_name(self, me: Caller, charset: str) -> None:
        """A body that says of itself that it is not UTF-8 is refused, whatever its bytes are."""
        answer = await me.put("/plugins", {"a": 1}, media=f"application/json; charset={charset}")
        assert answer.status in {
            400,
            415,
        }  # a bad type or another encoding: the protocol allows both readings
        assert _nothing_written(await me.get())

    @pytest.mark.parametrize(
        "coding", ["gzip", "x-gzip", "deflate", "br", "zstd", "compress", "gzip, identity"]
    )
    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    async def test_a_compressed_body(self, me: Caller, method: str, coding: str) -> None:
        """``415``, and nothing is written."""
        packed = gzip.compress(b'{"a":1}')
        answer = await me.send(method, "/plugins", raw=packed, headers={"Content-Encoding": coding})
        answer.problem(415, "unsupported-media-type")
        assert _nothing_written(await me.get())

    async def test_a_refused_coding_is_told_from_a_refused_type(self, me: Caller) -> None:
        """``415`` says which codings would be taken where that was the fault (RFC 9110, section 15.5.16)."""
        answer = await me.put("/plugins", {"a": 1}, headers={"Content-Encoding": "gzip"})
        assert answer.headers.members("Accept-Encoding") == {"identity"}

    async def test_a_body_that_is_said_not_to_be_compressed(self, me: Caller) -> None:
        """``identity`` is no coding."""
        (await me.put("/plugins", {"a": 1}, headers={"Content-Encoding": "identity"})).ok()

    async def test_a_body_in_pieces(self, me: Caller) -> None:
        """A body without ``Content-Length`` is read to its end."""
        answer = await me.put("/plugins", raw=[b'{"a":', b"", b'"caf\xc3', b'\xa9"', b"}"])
        assert answer.ok() == {"a": "café"}

    async def test_a_delete_needs_no_body_and_no_type(self, me: Caller) -> None:
        """``DELETE`` says all by itself."""
        await me.put("/plugins", {"a": 1})
        assert (await me.delete("/plugins")).ok() == {}

    # --- JSON ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("raw", [*_BROKEN, *_DUPLICATES, *_NOT_UTF_8], ids=label)
    async def test_what_is_no_json(self, me: Caller, raw: bytes) -> None:
        """``400``: broken JSON, a repeated name, ``NaN``, ``Infinity``, another encoding. Nothing is written."""
        for method, path in (("PUT", "/plugins"), ("PATCH", "/plugins"), ("PUT", ""), ("PATCH", "")):
            answer = await me.send(method, path, raw=raw)
            answer.problem(400, "malformed-request")
        assert _nothing_written(await me.get())

    @pytest.mark.parametrize(
        ("raw", "value"),
        [
            (b" \t\r\n{ \t\r\n} \t\r\n", {}),
            (b'{"a":[],"b":{},"c":[[]]}', {"a": [], "b": {}, "c": [[]]}),
            (b'{"a":"\\"\\\\\\/\\b\\f\\n\\r\\t"}', {"a": '"\\/\b\f\n\r\t'}),
            (b'{"a":"\\ud83d\\ude00","\\u0062":"\xf0\x9f\x98\x80"}', {"a": "\U0001f600", "b": "\U0001f600"}),
            (b'{"a":[true,false,null]}', {"a": [True, False, None]}),
            (b'{"a":-0.5e-3}', {"a": -0.0005}),
            (b'{"a":{"a":{"a":1}},"b":{"a":1}}', {"a": {"a": {"a": 1}}, "b": {"a": 1}}),
            (b'{"NaN":"Infinity"}', {"NaN": "Infinity"}),
            (b'{"a":"[[[[{{{{"}', {"a": "[[[[{{{{"}),
        ],
    )
    async def test_what_is_json(self, me: Caller, raw: bytes, value: Any) -> None:
        """RFC 8259 decides what is."""
        assert (await me.put("/plugins", raw=raw)).ok() == value

    @pytest.mark.parametrize("value", [[], [{}], "x", "", 1, 1.5, True, False, None], ids=label)
    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    async def test_a_body_that_is_no_object(self, me: Caller, method: str, value: Any) -> None:
        """``422``; the pointer is that of the path's place in the document."""
        for path, place in (("", ""), ("/appearance", "/appearance"), ("/plugins", "/plugins")):
            assert (await me.send(method, path, value)).pointers() == [place]
        assert _nothing_written(await me.get())

    @pytest.mark.parametrize("value", [[], "x", 1, True, None], ids=label)
    @pytest.mark.parametrize("namespace", ["appearance", "plugins"])
    async def test_a_namespace_that_is_no_object(self, me: Caller, namespace: str, value: Any) -> None:
        """``422``; only ``PATCH`` gives ``null`` a meaning."""
        assert (await me.put("", {namespace: value, "editor": {}})).pointers() == [f"/{namespace}"]
        if value is not None:
            assert (await me.patch("", {namespace: value, "editor": {}})).pointers() == [f"/{namespace}"]
        assert _nothing_written(await me.get())

    # --- What JSON allows and the protocol does not ----------------------------------------------------------------

    @pytest.mark.parametrize(
        "token",
        [
            "9007199254740992",
            "-9007199254740992",
            "18446744073709551616",
            "1" + "0" * 19,
            "1" + "0" * 30,
            "-1" + "0" * 5_000,
            "1e309",
            "1e400",
            "-1e400",
            "1E+999999999",
            "1" + "0" * 400 + ".0",
        ],
        ids=label,
    )
    async def test_numbers_that_no_double_holds(self, me: Caller, token: str) -> None:
        """``422``: integers beyond ±(2^53-1), and what overflows."""
        for method, path, raw, place in (
            ("PUT", "/plugins", '{"n":%s}', "/plugins/n"),
            ("PATCH", "/plugins", '{"a":[1,{"n":%s}]}', "/plugins/a/1/n"),
            ("PATCH", "", '{"plugins":{"n":%s}}', "/plugins/n"),
            ("PUT", "", '{"editor":{"tab_size":%s}}', "/editor/tab_size"),
        ):
            answer = await me.send(method, path, raw=(raw % token).encode())
            assert answer.pointers() == [place]
        assert _nothing_written(await me.get())

    @pytest.mark.parametrize(
        "text",
        [
            "\\u0000",
            "a\\u0000b",
            "\\ud800",
            "\\udfff",
            "\\ude00\\ud83d",
            "x\\ud83d",
            "\\ud83d\\ud83d\\ude00",
            "\\uD834x",
        ],
    )
    async def test_characters_that_cannot_be_stored(self, me: Caller, text: str) -> None:
        """``422``: NUL and halves of surrogate pairs, in values and in names."""
        for raw, place in (('{"a":"%s"}', "/plugins/a"), ('{"a":[0,["%s"]]}', "/plugins/a/1/0")):
            for method in ("PUT", "PATCH"):
                assert (await me.send(method, "/plugins", raw=(raw % text).encode())).pointers() == [place]
        for raw in ('{"%s":1}', '{"%s":null}', '{"a":{"%s":null}}'):
            for method in ("PUT", "PATCH"):
                (place,) = (await me.send(method, "/plugins", raw=(raw % text).encode())).pointers()
                assert place.startswith("/plugins/")
        typed = '{"notifications":{"muted_channels":["ok","%s"]}}'
        assert (await me.patch("", raw=(typed % text).encode())).pointers() == [
            "/notifications/muted_channels/1"
        ]
        assert _nothing_written(await me.get())

    @pytest.mark.parametrize("name", _FORBIDDEN)
    @pytest.mark.parametrize("value", [None, 1, {}, {"x": None}], ids=label)
    async def test_names_that_are_forbidden_at_any_depth(self, me: Caller, name: str, value: Any) -> None:
        """``422`` with the name's place, in ``PUT`` and in ``PATCH``, with ``null`` too. Nothing is written."""
        cases: list[tuple[str, Any, str]] = [
            ("/plugins", {name: value}, f"/plugins/{name}"),
            ("/plugins", {"a": {name: value}}, f"/plugins/a/{name}"),
            ("/plugins", {"a": [0, [{"b": {name: value}}]]}, f"/plugins/a/1/0/b/{name}"),
            ("", {"plugins": {"a": {name: value}}}, f"/plugins/a/{name}"),
            ("", {name: value}, f"/{name}"),
            ("", {"appearance": {name: value}}, f"/appearance/{name}"),
            ("/appearance", {name: value}, f"/appearance/{name}"),
            ("/appearance", {"theme": {name: value}}, f"/appearance/theme/{name}"),
        ]
        for path, body, place in cases:
            for method in ("PUT", "PATCH"):
                assert place in (await me.send(method, path, body)).pointers()
        assert _nothing_written(await me.get())

    @pytest.mark.parametrize("raw", [b'{"__pro\\u0074o__":1}', b'{"a":{"\\u0063onstructor":null}}'])
    async def test_forbidden_names_in_another_spelling(self, me: Caller, raw: bytes) -> None:
        """Names are compared as strings, not as they were written."""
        for method in ("PUT", "PATCH"):
            assert len((await me.send(method, "/plugins", raw=raw)).pointers()) == 1

    async def test_names_that_only_look_forbidden(self, me: Caller) -> None:
        """Nothing else is refused for its name, and none of them as a value."""
        value = {
            "__proto": 1,
            "_proto__": 2,
            "Constructor": 3,
            "prototype ": 4,
            "__PROTO__": 5,
            "toString": {"hasOwnProperty": 6},
            "": {"": ""},
            "value": ["__proto__", "constructor", "prototype"],
        }
        assert (await me.put("/plugins", value)).ok() == value

    # --- Pointers --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("name", "token"),
        [
            ("a/b", "a~1b"),
            ("a~b", "a~0b"),
            ("~1", "~01"),
            ("/~/", "~1~0~1"),
            ("", ""),
            (" ", " "),
            ("0", "0"),
            ("caf\u00e9 \U0001f600", "caf\u00e9 \U0001f600"),
            ('"\\\n', '"\\\n'),
            ("%2F", "%2F"),
        ],
    )
    async def test_pointers_are_escaped(self, me: Caller, name: str, token: str) -> None:
        """As RFC 6901 says: ``~0`` for ``~``, ``~1`` for ``/``, and nothing else."""
        inside = await me.put("/plugins", {name: {"x": [{"__proto__": 1}]}})
        assert inside.pointers() == [f"/plugins/{token}/x/0/__proto__"]
        from_root = await me.patch("", {"plugins": {name: {"constructor": 1}}})
        assert from_root.pointers() == [f"/plugins/{token}/constructor"]
        if name:
            assert (await me.put("/editor", {name: 1})).pointers() == [f"/editor/{token}"]
        assert (await me.patch("", {name: {}})).pointers() == [f"/{token}"]

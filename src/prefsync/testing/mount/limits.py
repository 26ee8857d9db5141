"""protocol.md, section 2, "Bodies": every limit at its bound, one below and one above."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from prefsync.testing.mount.suite import MountSuite, label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefsync.testing.mount.callers import Caller

__all__ = ["LimitsContract"]

_BODY: Final = 256 * 1024
_DOCUMENT: Final = 128 * 1024
_DEPTH: Final = 16
_STRING: Final = 16 * 1024
_NAME: Final = 128
_FIELDS: Final = 1_024


def _padded(size: int) -> bytes:
    """Return a small JSON object in a body of a size."""
    body = b'{"a":1}'
    return body[:-1] + b" " * (size - len(body)) + body[-1:]


def _pieces(body: bytes, size: int = 60_000) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


def _stored_size(plugins: dict[str, Any]) -> int:
    """Return the bytes of a document with one namespace as compact UTF-8 JSON."""
    return len(json.dumps({"plugins": plugins}, ensure_ascii=False, separators=(",", ":")).encode())


def _filling(size: int, letter: str = "x") -> dict[str, Any]:
    """Return an open namespace whose document has a size."""
    plugins: dict[str, Any] = {f"k{n}": letter * (15_000 // len(letter.encode())) for n in range(8)}
    plugins["rest"] = ""
    missing = size - _stored_size(plugins)
    assert 0 <= missing <= _STRING
    plugins["rest"] = "y" * missing
    assert _stored_size(plugins) == size
    return plugins


def _nested(containers: int, *, inside: Any = 1, of: str = "objects") -> Any:
    """Return a value in which so many containers are open at once."""
    value = inside
    for level in range(containers):
        is_array = of == "arrays" or (of == "both" and level % 2 == 1)
        value = [value] if is_array else {"d": value}
    return value


class LimitsContract(MountSuite):
    """Sizes. All but that of the body are counted upon the state that the write would leave."""

    # --- The body --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    @pytest.mark.parametrize("in_pieces", [False, True], ids=["with-length", "chunked"])
    async def test_the_body(self, me: Caller, method: str, *, in_pieces: bool) -> None:
        """256 KiB are taken, one byte more is ``413``, whether the length is said before or not."""
        for size, status in ((_BODY - 1, 200), (_BODY, 200), (_BODY + 1, 413), (3 * _BODY, 413)):
            body = _padded(size)
            answer = await me.send(method, "/plugins", raw=_pieces(body) if in_pieces else body)
            assert answer.status == status
            if status == 413:
                answer.problem(413, "too-large")
        assert (await me.get("/plugins")).ok() == {"a": 1}

    async def test_a_large_body_in_one_piece_without_a_length(self, me: Caller) -> None:
        """The bound is one of bytes, however they arrive."""
        assert (await me.put("/plugins", raw=iter([_padded(_BODY)]))).status == 200
        (await me.put("/plugins", raw=iter([_padded(_BODY + 1)]))).problem(413, "too-large")
        (await me.put("/plugins", raw=iter([_padded(_BODY), b" "]))).problem(413, "too-large")

    # --- The stored document ---------------------------------------------------------------------------------------

    @pytest.mark.parametrize("letter", ["x", "é", "\U0001f600"], ids=label)
    async def test_the_stored_document(self, me: Caller, letter: str) -> None:
        """128 KiB of compact UTF-8 JSON are taken, one byte more is ``422``."""
        for size in (_DOCUMENT - 1, _DOCUMENT):
            value = _filling(size, letter)
            assert (await me.put("/plugins", value)).ok() == value
        full = await me.get("/plugins")
        for answer in (
            await me.put("/plugins", _filling(_DOCUMENT + 1, letter)),
            await me.put("", {"plugins": _filling(_DOCUMENT + 1, letter)}),
            await me.patch("", {"plugins": {"rest": _filling(_DOCUMENT + 1, letter)["rest"]}}),
        ):
            assert answer.pointers()
        assert (await me.get("/plugins")).etag == full.etag

    async def test_the_document_is_counted_after_the_merge(self, me: Caller) -> None:
        """A small patch can be too much, a large one can fit, and other namespaces count too."""
        full = _filling(_DOCUMENT)
        (await me.put("/plugins", full)).ok()
        assert (await me.patch("/plugins", {"z": 1})).pointers()
        assert (await me.patch("/appearance", {"theme": "dark"})).pointers()
        assert (await me.patch("/plugins", {"rest": full["rest"] + "y"})).pointers()
        (await me.patch("/plugins", {"k0": None, "z0": full["k0"]})).ok()
        (await me.patch("", {"plugins": {"k1": None}, "appearance": {"theme": "dark"}})).ok()

    # --- Depth -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("of", ["objects", "arrays", "both"])
    async def test_depth(self, me: Caller, of: str) -> None:
        """16 containers may be open at once: `values` is one, the namespace another, and fields have 14."""
        for method in ("PUT", "PATCH"):
            for deep, good in ((_DEPTH - 3, True), (_DEPTH - 2, True), (_DEPTH - 1, False), (_DEPTH, False)):
                value = {"f": _nested(deep, of=of)}
                for path, body in (("/plugins", value), ("", {"plugins": value})):
                    answer = await me.send(method, path, body)
                    if good:
                        answer.ok()
                    else:
                        (place,) = answer.pointers()
                        assert place.startswith("/plugins/f/")
                await me.delete()

    async def test_empty_containers_count(self, me: Caller) -> None:
        """A container is open as soon as it begins."""
        (await me.put("/plugins", {"f": _nested(_DEPTH - 3, inside={})})).ok()
        assert (await me.put("/plugins", {"f": _nested(_DEPTH - 2, inside={})})).pointers()
        assert (await me.put("/plugins", {"f": _nested(_DEPTH - 2, inside=[])})).pointers()

    async def test_wide_is_not_deep(self, me: Caller) -> None:
        """Many containers beside one another are no depth."""
        (await me.put("/plugins", {"f": [[[]] for _ in range(2_000)], "g": '[{"' * 500})).ok()

    async def test_depth_is_counted_after_the_merge(self, me: Caller) -> None:
        """A patch can reach a place that is too deep, and one can replace it."""
        (await me.put("/plugins", {"f": _nested(_DEPTH - 2)})).ok()
        deeper = {"f": _nested(_DEPTH - 2, inside={"x": 1})}
        assert (await me.patch("/plugins", deeper)).pointers()
        (await me.patch("/plugins", {"f": None, "g": _nested(_DEPTH - 2)})).ok()
        # What the patch removes is not there after the merge, however deep it stands.
        (await me.patch("/plugins", {"h": None})).ok()

    @pytest.mark.parametrize("deep", [150, 199, 201, 500, 1_000, 5_000, 100_000])
    async def test_absurd_depth(self, me: Caller, deep: int) -> None:
        """However deep a well-formed body is, the answer is ``422``; one whose brackets do not pair is ``400``."""
        for method in ("PUT", "PATCH"):
            answer = await me.send(method, "/plugins", raw=b'{"f":' + b"[" * deep + b"]" * deep + b"}")
            assert answer.pointers()
        if deep <= 20_000:
            raw = b'{"f":' + b'{"d":' * deep + b"1" + b"}" * deep + b"}"
            assert (await me.put("/plugins", raw=raw)).pointers()
        broken = await me.put("/plugins", raw=b'{"f":' + b"[" * deep + b"}")
        broken.problem(400, "malformed-request")

    @pytest.mark.parametrize("deep", [201, 100_000])
    @pytest.mark.parametrize("inside", [b"NaN", b"x", b"1 2", b",", b'"a', b'{"a":1,"a":2}'])
    async def test_absurd_depth_around_broken_json(self, me: Caller, deep: int, inside: bytes) -> None:
        """What is no JSON is ``400``, even where it would be too deep besides."""
        answer = await me.put("/plugins", raw=b'{"f":' + b"[" * deep + inside + b"]" * deep + b"}")
        assert answer.status in {400, 422}  # either is true; neither is a failure of the server

    # --- Strings ---------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("letter", ["x", "é", "€", "\U0001f600"], ids=label)
    async def test_strings(self, me: Caller, letter: str) -> None:
        """16 KiB of UTF-8 are taken, one byte more is ``422`` with the string's place."""
        width = len(letter.encode())
        exact = letter * (_STRING // width)
        exact += "x" * (_STRING - len(exact.encode()))
        for method in ("PUT", "PATCH"):
            for value in (exact[:-1], exact):
                assert (await me.send(method, "/plugins", {"a": [value]})).ok() == {"a": [value]}
            assert (await me.send(method, "/plugins", {"a": ["", exact + "x"]})).pointers() == [
                "/plugins/a/1"
            ]
        (await me.patch("/notifications", {"muted_channels": [exact]})).ok()
        answer = await me.patch("/notifications", {"muted_channels": ["", exact + "x"]})
        assert answer.pointers() == ["/notifications/muted_channels/1"]

    async def test_a_string_is_counted_as_it_is_and_not_as_it_was_written(self, me: Caller) -> None:
        """Escapes count as the characters that they stand for."""
        (await me.put("/plugins", raw=b'{"a":"' + b"\\u0041" * _STRING + b'"}')).ok()
        answer = await me.put("/plugins", raw=b'{"a":"' + b"\\u0041" * (_STRING + 1) + b'"}')
        assert answer.pointers() == ["/plugins/a"]

    # --- Names -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("letter", ["n", "é", "\U0001f600"], ids=label)
    async def test_names(self, me: Caller, letter: str) -> None:
        """128 code points are taken, one more is ``422`` with the name's place, at any depth."""
        exact, longer = letter * _NAME, letter * (_NAME + 1)
        for method in ("PUT", "PATCH"):
            for value in ({exact[:-1]: 1}, {exact: 1}, {"a": [{exact: {exact: 1}}]}):
                (await me.send(method, "/plugins", value)).ok()
            assert (await me.send(method, "/plugins", {longer: 1})).pointers() == [f"/plugins/{longer}"]
            answer = await me.send(method, "/plugins", {"a": [{longer: 1}]})
            assert answer.pointers() == [f"/plugins/a/0/{longer}"]

    async def test_names_are_counted_after_the_merge(self, me: Caller) -> None:
        """A name that a patch takes away, and that was never there, breaks nothing."""
        (await me.patch("/plugins", {"n" * 500: None, "a": {"n" * 500: None}})).ok()

    # --- Fields ----------------------------------------------------------------------------------------------------

    async def test_fields(self, me: Caller) -> None:
        """A namespace has at most 1,024; members inside a field are not counted."""
        for count in (_FIELDS - 1, _FIELDS):
            (await me.put("/plugins", {f"f{n}": n for n in range(count)})).ok()
        answer = await me.put("/plugins", {f"f{n}": n for n in range(_FIELDS + 1)})
        assert all(place.startswith("/plugins") for place in answer.pointers())
        (await me.put("/plugins", {"a": {f"m{n}": n for n in range(2 * _FIELDS)}})).ok()

    async def test_fields_are_counted_after_the_merge(self, me: Caller) -> None:
        """A patch may exchange one for another, and not add one to a full namespace."""
        await me.put("/plugins", {f"f{n}": n for n in range(_FIELDS)})
        assert (await me.patch("/plugins", {"one more": 1})).pointers()
        (await me.patch("/plugins", {"f0": None, "another": 1})).ok()
        (await me.patch("/plugins", {"f1": "changed"})).ok()
        (await me.patch("/plugins", {f"g{n}": None for n in range(2 * _FIELDS)})).ok()

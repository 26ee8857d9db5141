"""protocol.md, section 2: compressed answers; RFC 9110, section 12.5.3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from prefsync.testing.mount.suite import MountSuite, label

if TYPE_CHECKING:
    from prefsync.testing.mount.callers import Caller

__all__ = ["CodingContract"]

_THRESHOLD: Final = 1_024
_ANY: Final = frozenset({"gzip", "br", "zstd"})
_BIG: Final = {f"key-{n}": "prefsync" * 8 for n in range(40)}


class CodingContract(MountSuite):
    """Content codings."""

    @pytest.mark.parametrize(
        ("accepted", "codings"),
        [
            (None, {None}),
            ("", {None}),
            ("identity", {None}),
            ("deflate", {None}),
            ("compress, x-unknown", {None}),
            ("gzip", {"gzip"}),
            ("GZIP", {"gzip"}),
            ("gzip;q=1.0", {"gzip"}),
            ("gzip ; q=0.001", {"gzip"}),
            ("gzip;q=0.5, identity;q=0.2", {"gzip"}),
            ("deflate, gzip;q=1.0, *;q=0.1", {"gzip"}),
            ("gzip, br, zstd", _ANY),
            ("gzip, deflate, br, zstd", _ANY),
            ("*", _ANY),
            ("*;q=0.5", _ANY),
            ("identity;q=0, *", _ANY),
            ("br;q=0, zstd;q=0, *", {"gzip"}),
            ("br;q=0, zstd;q=0.0, gzip;q=0.3", {"gzip"}),
            ("br;q=0.1, zstd;q=0.1, gzip;q=0.9", {"gzip"}),
            ("gzip;q=0", {None}),
            ("gzip;q=0.000, br;q=0, zstd;q=0", {None}),
            ("gzip;q=0, *;q=0", {None}),
            ("*;q=0", {None}),
            ("identity;q=0", {None, *_ANY}),
            ("identity;q=0, *;q=0", {None, *_ANY}),
            ("identity, gzip;q=0.5", {None, "gzip"}),
            ("x-gzip", {None, "gzip", "x-gzip"}),
            (",, ,gzip,", {"gzip"}),
            (";;;", {None}),
            ("gzip;q=abc", {None, "gzip"}),
            ("gzip;q=-1", {None, "gzip"}),
            ("gzip;q=nan, br;q=inf", {None, "gzip", "br"}),
            ("gzip;level=9", {None, "gzip"}),
            ("\xe9\xff", {None}),
        ],
        ids=label,
    )
    @pytest.mark.parametrize("path", ["", "/plugins"])
    async def test_the_coding_is_one_that_the_client_accepts(
        self, me: Caller, path: str, accepted: str | None, codings: set[str | None]
    ) -> None:
        """Large answers are compressed whenever the client accepts it; no such header is ever an error."""
        await me.put("/plugins", _BIG)
        plain = await me.get(path)
        assert plain.coding is None
        assert len(plain.body) > _THRESHOLD
        answer = await me.get(path, headers={} if accepted is None else {"Accept-Encoding": accepted})
        answer.ok()
        assert answer.coding in codings
        assert answer.content == plain.body
        assert answer.etag == plain.etag
        assert answer.headers["Content-Length"] == str(len(answer.body))
        assert answer.headers.members("Vary") == {"authorization", "accept-encoding"}
        if answer.coding is not None:
            assert len(answer.body) < len(plain.body)

    @pytest.mark.parametrize("coding", ["br", "zstd"])
    async def test_better_codings(self, me: Caller, coding: str) -> None:
        """Brotli and Zstandard are offered where they are installed, as they are here."""
        await me.put("/plugins", _BIG)
        answer = await me.get("/plugins", headers={"Accept-Encoding": coding})
        assert answer.coding == coding
        assert answer.ok() == _BIG

    @pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
    @pytest.mark.parametrize("size", [_THRESHOLD - 1, _THRESHOLD, _THRESHOLD + 1])
    async def test_small_answers_are_left_alone(self, me: Caller, size: int, coding: str) -> None:
        """Answers of more than 1 KiB are compressed, and no others."""
        await me.put("/plugins", {"a": "x" * (size - len('{"a":""}'))})
        assert len((await me.get("/plugins")).body) == size
        answer = await me.get("/plugins", headers={"Accept-Encoding": coding})
        assert answer.coding == (coding if size > _THRESHOLD else None)

    @pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
    async def test_every_kind_of_answer_is_compressed(self, me: Caller, coding: str) -> None:
        """Reads, writes, the schema and the change feed."""
        headers = {"Accept-Encoding": coding}
        answers = [
            await me.put("/plugins", _BIG, headers=headers),
            await me.patch("", {"plugins": {"one": "more"}}, headers=headers),
            await me.get("", headers=headers),
            await me.get("/schema", headers=headers),
            await me.get("/changes", query="since=0", headers=headers),
            await me.get("/changes", query="since=1", headers=headers),
        ]
        for answer in answers:
            answer.ok()
            assert answer.coding == coding
            assert answer.headers.members("Vary") == {"authorization", "accept-encoding"}

    @pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
    async def test_head_tells_of_the_same_coding(self, me: Caller, coding: str) -> None:
        """``HEAD`` names the coding and the length that ``GET`` would have."""
        await me.put("/plugins", _BIG)
        headers = {"Accept-Encoding": coding}
        got, head = (
            await me.get("/plugins", headers=headers),
            await me.send("HEAD", "/plugins", headers=headers),
        )
        assert (head.coding, head.body) == (coding, b"")
        assert head.headers["Content-Length"] == got.headers["Content-Length"]

    @pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "*"])
    async def test_errors_are_not_compressed(self, me: Caller, coding: str) -> None:
        """However long."""
        body = {f"undeclared-{n}": n for n in range(100)}
        answer = await me.put("/appearance", body, headers={"Accept-Encoding": coding})
        assert len(answer.pointers()) == 100
        assert len(answer.body) > _THRESHOLD
        assert answer.coding is None

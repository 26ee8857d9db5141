"""protocol.md, section 2, "Retries": writes that are safe to repeat."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import pytest

from prefsync.testing.mount.callers import READ, WRITE
from prefsync.testing.mount.suite import MountSuite, label

if TYPE_CHECKING:
    from prefsync.testing.mount.callers import Caller
    from prefsync.testing.mount.client import Answer

__all__ = ["RetriesContract"]

_WRITES: Final = [
    pytest.param("PUT", "", {"appearance": {"theme": "dark"}}, id="put-all"),
    pytest.param("PATCH", "", {"appearance": {"theme": "dark"}}, id="patch-all"),
    pytest.param("DELETE", "", None, id="delete-all"),
    pytest.param("PUT", "/appearance", {"theme": "dark"}, id="put-namespace"),
    pytest.param("PATCH", "/plugins", {"a": {"b": 1}}, id="patch-namespace"),
    pytest.param("DELETE", "/appearance", None, id="delete-namespace"),
]


def _same(first: Answer, again: Answer) -> bool:
    names = ("ETag", "Prefsync-Revision", "Content-Type", "Cache-Control", "Vary")
    return (first.status, first.content) == (again.status, again.content) and all(
        first.headers.get(name) == again.headers.get(name) for name in names
    )


class RetriesContract(MountSuite):
    """``Idempotency-Key``."""

    @pytest.fixture
    def key(self) -> dict[str, str]:
        """A header with a key that was never used."""
        return {"Idempotency-Key": str(uuid4())}

    @pytest.mark.parametrize(("method", "path", "value"), _WRITES)
    async def test_a_repeated_write_gets_the_first_answer(
        self, me: Caller, unlimited: Caller, key: dict[str, str], method: str, path: str, value: Any
    ) -> None:
        """Even after later writes and through another process; it writes nothing."""
        await me.put("", {"appearance": {"font_size": 30}, "plugins": {"z": 1}})
        first = await me.write(method, path, value, headers=key)
        first.ok()
        later = await me.put("", {"appearance": {"theme": "light", "density": "compact"}})
        assert later.revision > first.revision
        for caller in (me, me.through(unlimited.client)):
            again = await caller.write(method, path, value, headers=key)
            assert _same(first, again)
        assert (await me.get()).etag == later.etag
        assert len((await me.changes(first.revision))["changes"]) == 1

    @pytest.mark.parametrize(("method", "path", "value"), _WRITES)
    async def test_a_repeated_write_is_known_before_its_condition_is_asked(
        self, me: Caller, key: dict[str, str], method: str, path: str, value: Any
    ) -> None:
        """The first write moved the tag that ``If-Match`` names, and its repetition is no conflict."""
        await me.put("", {"appearance": {"font_size": 30}, "plugins": {"z": 1}})
        headers = {**key, "If-Match": (await me.get(path)).etag}
        first = await me.write(method, path, value, headers=headers)
        first.ok()
        assert _same(first, await me.write(method, path, value, headers=headers))

    async def test_a_key_used_for_another_request(self, me: Caller, key: dict[str, str]) -> None:
        """Another method, path or body: ``422``, and nothing is written."""
        first = await me.patch("/appearance", {"theme": "dark"}, headers=key)
        others: list[tuple[str, str, Any]] = [
            ("PUT", "/appearance", {"theme": "dark"}),
            ("PATCH", "/appearance", {"theme": "light"}),
            ("PATCH", "/appearance", {}),
            ("PATCH", "/appearance", {"theme": None}),
            ("PATCH", "/plugins", {"theme": "dark"}),
            ("PATCH", "", {"appearance": {"theme": "dark"}}),
            ("DELETE", "/appearance", None),
            ("DELETE", "", None),
        ]
        for method, path, value in others:
            answer = await me.write(method, path, value, headers=key)
            answer.problem(422, "idempotency-mismatch")
        assert (await me.get("/appearance")).etag == first.etag
        assert len((await me.changes(0))["changes"]) == 1

    @pytest.mark.parametrize(
        ("first", "again"),
        [
            (b'{"a":1,"b":{"x":[1,2],"y":null}}', b' {\n "b" : {"y":null,"x":[1, 2]},\t"a":1 }\r\n'),
            (b'{"a":"caf\xc3\xa9 /"}', b'{"\\u0061":"caf\\u00e9 \\/"}'),
            (b'{"a":"\xf0\x9f\x98\x80"}', b'{"a":"\\ud83d\\ude00"}'),
            (b'{"a":100}', b'{"a":1e2}'),
            (b'{"a":100}', b'{"a":100.0}'),
            (b'{"a":1.5}', b'{"a":15E-1}'),
            (b'{"a":0}', b'{"a":-0.0}'),
            (b'{"a":1e30}', b'{"a":1' + b"0" * 30 + b".0}"),
            (b'{"a":0.1}', b'{"a":0.1000000000000000055}'),
        ],
    )
    async def test_bodies_are_compared_as_json_values(
        self, me: Caller, key: dict[str, str], first: bytes, again: bytes
    ) -> None:
        """Order of members, white space, escapes and forms of numbers make no other request."""
        wrote = await me.put("/plugins", raw=first, headers=key)
        wrote.ok()
        repeated = await me.put("/plugins", raw=again, headers=key)
        assert _same(wrote, repeated)

    @pytest.mark.parametrize(
        ("first", "other"),
        [
            (b'{"a":1}', b'{"a":true}'),
            (b'{"a":0}', b'{"a":false}'),
            (b'{"a":1}', b'{"a":"1"}'),
            (b'{"a":[1,2]}', b'{"a":[2,1]}'),
            (b'{"a":null}', b"{}"),
            (b'{"a":{}}', b'{"a":[]}'),
            (b'{"a":""}', b'{"a":null}'),
            (b'{"a":9007199254740991}', b'{"a":9007199254740990}'),
            ('{"a":"é"}'.encode(), b'{"a":"e\\u0301"}'),
        ],
    )
    async def test_bodies_that_are_different_json_values(
        self, me: Caller, key: dict[str, str], first: bytes, other: bytes
    ) -> None:
        """``1`` is not ``true``, order in an array counts, and strings are compared code point for code point."""
        (await me.put("/plugins", raw=first, headers=key)).ok()
        answer = await me.put("/plugins", raw=other, headers=key)
        answer.problem(422, "idempotency-mismatch")

    async def test_spellings_of_one_request(self, me: Caller, key: dict[str, str]) -> None:
        """Neither the prefix's slash, nor percent-encoding, nor the media type, nor the client's name make another."""
        first = await me.patch("", {"plugins": {"a": 1}}, headers=key)
        assert _same(
            first, await me.patch("/", {"plugins": {"a": 1}}, headers={**key, "Prefsync-Client": "tab-2"})
        )
        other = {"Idempotency-Key": str(uuid4())}
        second = await me.patch("/plugins", {"b": 1}, headers=other)
        merge = "application/merge-patch+json"
        assert _same(second, await me.patch("/pl%75gins", {"b": 1}, media=merge, headers=other))

    async def test_a_refused_write_claims_no_key(self, me: Caller, key: dict[str, str]) -> None:
        """After any refusal the same key is good for the corrected request."""
        refused = [
            await me.put("/appearance", {"theme": "neon"}, headers=key),
            await me.put("/appearance", {"theme": "dark"}, headers={**key, "If-Match": '"other"'}),
            await me.put("/appearance", {"theme": "dark"}, headers={**key, "If-None-Match": "*"}),
            await me.put("/appearance", {"theme": "dark"}, headers=key, media="text/plain"),
            await me.put("/appearance", raw=b"{", headers=key),
            await me.put("/plugins", raw=b" " * (256 * 1024 + 1), headers=key),
            await me.put("/nothing", {"theme": "dark"}, headers=key),
            await me.holding(scope=READ).put("/appearance", {"theme": "dark"}, headers=key),
        ]
        assert [answer.status for answer in refused] == [422, 412, 412, 415, 400, 413, 404, 403]
        (await me.put("/appearance", {"theme": "light"}, headers=key)).ok()

    async def test_a_write_that_changed_nothing_claims_its_key(self, me: Caller, key: dict[str, str]) -> None:
        """It is repeated as what it was, whatever came after, and another request under its key is refused."""
        first = await me.patch("/appearance", {"theme": None}, headers=key)
        assert first.revision == 0
        await me.patch("/appearance", {"theme": "dark"})
        (await me.patch("/appearance", {"theme": "light"}, headers=key)).problem(422, "idempotency-mismatch")
        assert _same(first, await me.patch("/appearance", {"theme": None}, headers=key))
        assert (await me.get("/appearance")).ok()["theme"] == "dark"

    async def test_a_key_that_changed_nothing_upon_something_stored(
        self, me: Caller, key: dict[str, str]
    ) -> None:
        """As above, where the user has a document already."""
        await me.put("/plugins", {"a": 1})
        first = await me.put("/plugins", {"a": 1}, headers=key)
        await me.put("/plugins", {"a": 2})
        assert _same(first, await me.put("/plugins", {"a": 1}, headers=key))
        assert (await me.get("/plugins")).ok() == {"a": 2}

    async def test_a_key_belongs_to_its_user(self, me: Caller, somebody: Caller, key: dict[str, str]) -> None:
        """One user's key says nothing about another's."""
        (await me.put("/plugins", {"a": 1}, headers=key)).ok()
        answer = await somebody.put("/plugins", {"b": 2}, headers=key)
        assert answer.ok() == {"b": 2}
        assert (await me.get("/plugins")).ok() == {"a": 1}

    async def test_one_key_space_for_all_of_a_users_tokens(self, me: Caller, key: dict[str, str]) -> None:
        """A key that one session has used is used for the others too."""
        first = await me.put("/plugins", {"a": 1}, headers=key)
        assert _same(first, await me.holding(scope=WRITE).put("/plugins", {"a": 1}, headers=key))

    @pytest.mark.parametrize(
        "value", ["k", "".join(map(chr, range(0x21, 0x7F))), "k" * 128, '"quoted"', "a,b;c=d"]
    )
    async def test_what_is_a_key(self, me: Caller, value: str) -> None:
        """1 to 128 visible ASCII characters."""
        headers = {"Idempotency-Key": value}
        first = await me.put("/plugins", {"a": 1}, headers=headers)
        first.ok()
        (await me.put("/plugins", {"a": 2}, headers=headers)).problem(422, "idempotency-mismatch")

    @pytest.mark.parametrize("value", ["", "k" * 129, "a b", "a\tb", "caf\xe9", "\x80"], ids=label)
    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
    async def test_what_is_no_key(self, me: Caller, method: str, value: str) -> None:
        """``400``, and nothing is written."""
        await me.put("/plugins", {"z": 1})
        answer = await me.write(method, "/plugins", {"a": 1}, headers={"Idempotency-Key": value})
        answer.problem(400, "malformed-request")
        assert (await me.get("/plugins")).ok() == {"z": 1}

    async def test_a_read_has_no_key(self, me: Caller, key: dict[str, str]) -> None:
        """The header says nothing on a read."""
        (await me.get(headers=key)).ok()
        (await me.put("/plugins", {"a": 1}, headers=key)).ok()
        assert (await me.get("/plugins", headers=key)).ok() == {"a": 1}

    async def test_of_concurrent_requests_with_one_key_one_writes(
        self, me: Caller, unlimited: Caller, key: dict[str, str]
    ) -> None:
        """All get its answer, through whichever process they came."""
        writers = [me, me.through(unlimited.client)]
        await me.put("/plugins", {"count": 0})
        start = (await me.get()).revision
        answers = await asyncio.gather(
            *(writers[n % 2].patch("/plugins", {"count": 1}, headers=key) for n in range(12))
        )
        assert all(_same(answers[0], answer) for answer in answers)
        answers[0].ok()
        assert len((await me.changes(start))["changes"]) == 1

    async def test_concurrent_first_writes_with_one_key(
        self, me: Caller, unlimited: Caller, key: dict[str, str]
    ) -> None:
        """Where nothing is stored yet, too."""
        writers = [me, me.through(unlimited.client)]
        answers = await asyncio.gather(
            *(writers[n % 2].put("/plugins", {"a": 1}, headers=key) for n in range(12))
        )
        assert all(_same(answers[0], answer) for answer in answers)
        answers[0].ok()
        assert len((await me.changes(0))["changes"]) == 1

    async def test_of_concurrent_requests_that_share_a_key_by_mistake_one_writes(
        self, me: Caller, unlimited: Caller, key: dict[str, str]
    ) -> None:
        """All others are told."""
        writers = [me, me.through(unlimited.client)]
        answers = await asyncio.gather(
            *(writers[n % 2].put("/plugins", {"n": n}, headers=key) for n in range(8))
        )
        assert sorted(answer.status for answer in answers) == [200] + [422] * 7
        for answer in answers:
            if answer.status == 422:
                answer.problem(422, "idempotency-mismatch")
        assert len((await me.changes(0))["changes"]) == 1

    async def test_concurrent_requests_with_keys_of_their_own(self, me: Caller) -> None:
        """Each is written, and each can be repeated."""
        keys = [{"Idempotency-Key": secrets.token_hex(8)} for _ in range(8)]
        answers = await asyncio.gather(
            *(me.patch("/plugins", {f"k{n}": n}, headers=one) for n, one in enumerate(keys))
        )
        assert (await me.get("/plugins")).ok() == {f"k{n}": n for n in range(8)}
        for n, (one, answer) in enumerate(zip(keys, answers, strict=True)):
            assert _same(answer, await me.patch("/plugins", {f"k{n}": n}, headers=one))

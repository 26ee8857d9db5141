"""protocol.md, section 2, "Concurrency" and "Read your writes"; RFC 9110, section 13."""

from __future__ import annotations

import asyncio
import re
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final

import pytest

from prefsync.testing.mount.callers import DEFAULTS
from prefsync.testing.mount.suite import MountSuite

if TYPE_CHECKING:
    from prefsync.testing.mount.callers import Caller

__all__ = ["ConditionsContract"]

# RFC 9110, section 8.8.3, without the bytes that only a strange server would use.
_STRONG: Final = re.compile(r'"[\x21\x23-\x7e]+"')

_DOCUMENTS: Final = ["", "/appearance", "/plugins"]
_WRITES: Final = [
    pytest.param("PUT", "", {"appearance": {"theme": "light"}}, id="put-all"),
    pytest.param("PATCH", "", {"appearance": {"theme": "light"}}, id="patch-all"),
    pytest.param("DELETE", "", None, id="delete-all"),
    pytest.param("PUT", "/appearance", {"theme": "light"}, id="put-namespace"),
    pytest.param("PATCH", "/appearance", {"theme": "light"}, id="patch-namespace"),
    pytest.param("DELETE", "/appearance", None, id="delete-namespace"),
]
_MALFORMED: Final = [
    "abc",
    '"abc',
    'abc"',
    'w/"abc"',
    'W/ "abc"',
    "W/abc",
    '"a" "b"',
    '"a b"',
    '"a", *',
    '*, "a"',
    "**",
    "'abc'",
    '"a"; "b"',
]

_BIG: Final = {"text": "prefsync " * 300}


async def _write(me: Caller, method: str, path: str, value: Any, **headers: str) -> Any:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return await me.write(method, path, value, headers=named)


class ConditionsContract(MountSuite):
    """Entity tags, preconditions, and reads that must not be older than what the client has seen."""

    # --- Entity tags -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("path", [*_DOCUMENTS, "/schema"])
    async def test_entity_tags_are_strong(self, me: Caller, path: str) -> None:
        """In quotes, and not marked as weak."""
        assert _STRONG.fullmatch((await me.get(path)).etag)

    @pytest.mark.parametrize("path", ["", "/plugins", "/schema"])
    async def test_an_entity_tag_is_the_same_in_every_coding(self, me: Caller, path: str) -> None:
        """Compressed or not, the tag is that of the state."""
        await me.put("/plugins", _BIG)
        answers = [
            await me.get(path, headers={"Accept-Encoding": coding})
            for coding in ("identity", "gzip", "br", "zstd")
        ]
        assert len({answer.etag for answer in answers}) == 1
        for answer in answers:
            read = await me.get(path, headers={"Accept-Encoding": "gzip", "If-None-Match": answer.etag})
            assert (read.status, read.etag) == (304, answer.etag)

    async def test_a_namespaces_tag_moves_only_with_the_namespace(self, me: Caller) -> None:
        """A write to one namespace moves its tag and that of the whole, and no other's."""
        values: dict[str, dict[str, Any]] = {
            "appearance": {"theme": "dark"},
            "editor": {"tab_size": 2},
            "notifications": {"push": True},
            "plugins": {"a": 1},
        }
        for namespace, value in values.items():
            before = {name: (await me.get(f"/{name}")).etag for name in DEFAULTS}
            whole = (await me.get()).etag
            await me.patch("", {namespace: value})
            after = {name: (await me.get(f"/{name}")).etag for name in DEFAULTS}
            assert {name for name in DEFAULTS if before[name] != after[name]} == {namespace}
            assert (await me.get()).etag != whole

    async def test_an_entity_tag_moves_with_every_change(self, me: Caller) -> None:
        """Different bodies have different tags, on every path and between paths."""
        tags: dict[str, bytes] = {}
        for value in (
            {"theme": "dark"},
            {"theme": "light"},
            {"font_size": 9},
            {"theme": "light", "font_size": 9},
        ):
            await me.put("/appearance", value)
            for path in ("", "/appearance", "/editor", "/plugins", "/notifications"):
                answer = await me.get(path)
                assert tags.setdefault(answer.etag, answer.body) == answer.body

    @pytest.mark.parametrize("path", _DOCUMENTS)
    async def test_entity_tags_of_two_users_differ(self, me: Caller, somebody: Caller, path: str) -> None:
        """Even where the bodies are alike: one user's tag must not be a ``304`` for another."""
        first, second = await me.get(path), await somebody.get(path)
        assert first.body == second.body
        assert first.etag != second.etag
        assert (await somebody.get(path, headers={"If-None-Match": first.etag})).status == 200

    # --- If-Match --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(("method", "path", "value"), _WRITES)
    async def test_a_write_upon_the_state_it_names(
        self, me: Caller, method: str, path: str, value: Any
    ) -> None:
        """``If-Match`` with the current tag, alone or in a list, or ``*``: the write goes through."""
        for form in ("{0}", '"other", {0}', '{0},"other"', '"other" , W/{0},\t{0}', ', {0} ,, "x"', "*"):
            await me.put("", {"appearance": {"theme": "dark"}})
            tag = (await me.get(path)).etag
            answer = await _write(me, method, path, value, If_Match=form.format(tag))
            answer.ok()
            assert answer.etag != tag
            assert (await me.get(path)).etag == answer.etag

    @pytest.mark.parametrize(("method", "path", "value"), _WRITES)
    async def test_a_write_upon_another_state(self, me: Caller, method: str, path: str, value: Any) -> None:
        """``If-Match`` that names the current state not, or only weakly: ``412``, and nothing is written."""
        old = (await me.get(path)).etag
        before = await me.put("", {"appearance": {"theme": "dark"}})
        current = (await me.get(path)).etag
        for form in (old, f"W/{current}", f"{old}, W/{current}", '"nonsense"', '""'):
            answer = await _write(me, method, path, value, If_Match=form)
            answer.problem(412, "precondition-failed")
        after = await me.get()
        assert (after.etag, after.revision) == (before.etag, before.revision)
        assert (await me.changes(before.revision))["changes"] == []

    async def test_if_match_is_of_the_path(self, me: Caller) -> None:
        """A namespace's tag outlives changes elsewhere; the tag of the whole is none of a namespace's."""
        tag = (await me.put("/appearance", {"theme": "dark"})).etag
        await me.put("/editor", {"tab_size": 2})
        (await me.patch("/appearance", {"theme": "light"}, headers={"If-Match": tag})).ok()
        whole = (await me.get()).etag
        answer = await me.patch("/appearance", {"theme": "dark"}, headers={"If-Match": whole})
        answer.problem(412, "precondition-failed")

    async def test_if_match_holds_for_a_write_that_changes_nothing(self, me: Caller) -> None:
        """The condition is asked first."""
        old = (await me.get("/appearance")).etag
        await me.put("/appearance", {"theme": "dark"})
        answer = await me.put("/appearance", {"theme": "dark"}, headers={"If-Match": old})
        answer.problem(412, "precondition-failed")

    async def test_a_state_with_nothing_stored_can_be_a_condition(self, me: Caller) -> None:
        """Its tag is good for ``If-Match``, and so is ``*``: there is something to read."""
        tag = (await me.get()).etag
        (await me.patch("", {"plugins": {"a": 1}}, headers={"If-Match": tag})).ok()
        answer = await me.patch("", {"plugins": {"a": 2}}, headers={"If-Match": tag})
        answer.problem(412, "precondition-failed")

    async def test_of_concurrent_writes_upon_one_state_one_is_written(
        self, me: Caller, unlimited: Caller
    ) -> None:
        """All others get ``412``, through whichever process they came."""
        tag = (await me.get("/plugins")).etag
        writers = [me, me.through(unlimited.client)]
        answers = await asyncio.gather(
            *(writers[n % 2].put("/plugins", {"n": n}, headers={"If-Match": tag}) for n in range(10))
        )
        assert sorted(answer.status for answer in answers) == [200] + [412] * 9
        (winner,) = (answer for answer in answers if answer.status == 200)
        assert (await writers[1].get("/plugins")).body == winner.body
        assert len((await me.changes(0))["changes"]) == 1

    @pytest.mark.parametrize("path", [*_DOCUMENTS, "/schema"])
    async def test_if_match_on_a_read(self, me: Caller, path: str) -> None:
        """``412`` where it differs (RFC 9110, section 13.1.1)."""
        tag = (await me.get(path)).etag
        (await me.get(path, headers={"If-Match": tag})).ok()
        answer = await me.get(path, headers={"If-Match": '"other"'})
        answer.problem(412, "precondition-failed")

    async def test_if_match_is_asked_before_if_none_match(self, me: Caller) -> None:
        """The order of RFC 9110, section 13.2.2."""
        tag = (await me.get("/appearance")).etag
        both = {"If-Match": '"other"', "If-None-Match": tag}
        (await me.get("/appearance", headers=both)).problem(412, "precondition-failed")
        assert (await me.get("/appearance", headers={"If-Match": tag, "If-None-Match": tag})).status == 304

    async def test_a_list_may_span_header_lines(self, me: Caller) -> None:
        """Lines of one name are one list (RFC 9110, section 5.3)."""
        tag = (await me.get("/appearance")).etag
        lines = [
            ("Authorization", f"Bearer {me.token}"),
            ("Content-Type", "application/json"),
            ("If-Match", '"other"'),
            ("If-Match", tag),
        ]
        answer = await me.client.request("PATCH", "/appearance", headers=lines, body=b'{"theme":"dark"}')
        answer.ok()

    # --- If-None-Match ---------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("path", [*_DOCUMENTS, "/schema"])
    async def test_a_read_of_what_the_client_has(self, me: Caller, path: str) -> None:
        """``304`` without a body, by weak comparison, with the headers that ``200`` would have (RFC 9110, 15.4.5)."""
        full = await me.get(path)
        for form in ("{0}", "W/{0}", '"other", {0}', 'W/"other",W/{0}', "*"):
            answer = await me.get(path, headers={"If-None-Match": form.format(full.etag)})
            assert (answer.status, answer.body) == (304, b"")
            for name in ("ETag", "Cache-Control", "Vary"):
                assert answer.headers.get(name) == full.headers.get(name)
            assert "Content-Type" not in answer.headers

    @pytest.mark.parametrize("path", [*_DOCUMENTS, "/schema"])
    async def test_a_read_of_what_the_client_has_not(self, me: Caller, path: str) -> None:
        """Another tag: the whole answer."""
        for form in ('"other"', '"a", "b"', '""'):
            (await me.get(path, headers={"If-None-Match": form})).ok()

    @pytest.mark.parametrize("path", _DOCUMENTS)
    async def test_a_changed_state_is_read_again(self, me: Caller, path: str) -> None:
        """What was ``304`` before a write is ``200`` after it."""
        tag = (await me.get(path)).etag
        await me.patch("", {"appearance": {"theme": "dark"}, "plugins": {"a": 1}})
        answer = await me.get(path, headers={"If-None-Match": tag})
        answer.ok()
        assert answer.etag != tag

    @pytest.mark.parametrize(("method", "path", "value"), _WRITES)
    async def test_a_write_that_excludes_a_state(
        self, me: Caller, method: str, path: str, value: Any
    ) -> None:
        """``If-None-Match`` that names the current state: ``412`` and nothing is written; another one: written."""
        before = await me.put("", {"appearance": {"theme": "dark"}})
        tag = (await me.get(path)).etag
        for form in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            answer = await _write(me, method, path, value, If_None_Match=form)
            answer.problem(412, "precondition-failed")
        assert (await me.get()).etag == before.etag
        (await _write(me, method, path, value, If_None_Match='"other"')).ok()
        assert (await me.get()).etag != before.etag

    # --- Other headers ---------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("name", ["If-Match", "If-None-Match"])
    @pytest.mark.parametrize("value", _MALFORMED)
    async def test_what_is_no_list_of_entity_tags(self, me: Caller, name: str, value: str) -> None:
        """``400``, on reads and on writes, and nothing is written."""
        (await me.get(headers={name: value})).problem(400, "malformed-request")
        for method, body in (("PUT", {"theme": "dark"}), ("PATCH", {"theme": "dark"}), ("DELETE", None)):
            answer = await _write(me, method, "/appearance", body, **{name.replace("-", "_"): value})
            answer.problem(400, "malformed-request")
        assert (await me.get()).revision == 0

    @pytest.mark.parametrize(
        "headers",
        [
            {"If-Modified-Since": formatdate(usegmt=True)},
            {"If-Unmodified-Since": formatdate(0, usegmt=True)},
            {"Range": "bytes=0-3"},
            {"If-Range": '"other"', "Range": "bytes=0-3"},
        ],
        ids=lambda headers: next(iter(headers)),
    )
    async def test_conditions_that_do_not_apply_are_ignored(
        self, me: Caller, headers: dict[str, str]
    ) -> None:
        """Answers have no date of modification and no ranges (RFC 9110, sections 13.1.3, 13.1.4 and 14.2)."""
        (await me.get("/appearance", headers=headers)).ok()

    # --- Prefsync-Min-Revision -------------------------------------------------------------------------------------

    @pytest.mark.parametrize("path", _DOCUMENTS)
    async def test_a_read_that_is_new_enough(self, me: Caller, unlimited: Caller, path: str) -> None:
        """Any revision up to the newest is satisfied, through whichever process."""
        (await me.get(path, headers={"Prefsync-Min-Revision": "0"})).ok()
        for size in (20, 21):
            revision = (await me.patch("/appearance", {"font_size": size})).revision
            for reader in (me, me.through(unlimited.client)):
                for least in (0, 1, revision - 1, revision):
                    answer = await reader.get(path, headers={"Prefsync-Min-Revision": str(least)})
                    answer.ok()
                    assert answer.revision == revision

    @pytest.mark.parametrize("path", _DOCUMENTS)
    async def test_a_read_that_cannot_be_new_enough(self, me: Caller, path: str) -> None:
        """Where the database has nothing that new: ``412``, at once."""
        started = time.monotonic()
        revision = (await me.patch("/plugins", {"a": 1})).revision
        for least in (revision + 1, 2**53 - 1):
            answer = await me.get(path, headers={"Prefsync-Min-Revision": str(least)})
            answer.problem(412, "precondition-failed")
        assert time.monotonic() - started < 5

    async def test_a_condition_on_a_user_with_nothing_stored(self, me: Caller) -> None:
        """Revision 0 is what there is; 1 is more."""
        (await me.get(headers={"Prefsync-Min-Revision": "0"})).ok()
        (await me.get(headers={"Prefsync-Min-Revision": "1"})).problem(412, "precondition-failed")

    async def test_a_304_is_not_older_than_asked(self, me: Caller) -> None:
        """A copy that is still current must be new enough too."""
        tag = (await me.get()).etag
        headers = {"If-None-Match": tag, "Prefsync-Min-Revision": "1"}
        (await me.get(headers=headers)).problem(412, "precondition-failed")

    @pytest.mark.parametrize("path", _DOCUMENTS)
    @pytest.mark.parametrize(
        "value", ["", "abc", "-1", "+1", "1.0", "1e3", "0x10", "1 2", "9007199254740992", "9" * 400, "\xb2"]
    )
    async def test_what_is_no_revision(self, me: Caller, path: str, value: str) -> None:
        """``400``."""
        (await me.get(path, headers={"Prefsync-Min-Revision": value})).problem(400, "malformed-request")

    @pytest.mark.parametrize("value", ["0", "9007199254740991", "nonsense"])
    async def test_the_change_feed_ignores_it(self, me: Caller, value: str) -> None:
        """``/changes`` says for itself how new it is."""
        revision = (await me.patch("/plugins", {"a": 1})).revision
        answer = await me.get("/changes", query="since=0", headers={"Prefsync-Min-Revision": value})
        assert answer.ok()["revision"] == revision

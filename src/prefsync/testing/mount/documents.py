"""protocol.md, section 2: the table of paths, and what reads and writes of documents answer."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from prefsync.testing.mount.callers import DEFAULTS
from prefsync.testing.mount.suite import STORED, WRITES, MountSuite

if TYPE_CHECKING:
    from prefsync.testing.mount.callers import Caller
    from prefsync.testing.mount.client import Answer

__all__ = ["DocumentsContract"]

_PATHS: Final = ["", "/", "/appearance", "/editor", "/notifications", "/plugins"]


def _effective(**stored: Any) -> dict[str, Any]:
    """Lay stored values over the defaults."""
    return {name: {**defaults, **stored.get(name, {})} for name, defaults in DEFAULTS.items()}


def _without_limit(answer: Answer) -> dict[str, list[str]]:
    names = {name for name, _ in answer.headers} - {"date", "server"}
    return {name: answer.headers.all(name) for name in names if not name.startswith("ratelimit")}


class DocumentsContract(MountSuite):
    """Reads and writes of documents."""

    # --- Reads ---------------------------------------------------------------------------------------------------

    async def test_a_new_user_has_the_defaults(self, me: Caller) -> None:
        """Revision 0, a schema tag, and every declared namespace with every declared field."""
        state = (await me.get()).ok()
        assert state.keys() == {"revision", "schema", "values"}
        assert state["revision"] == 0
        assert isinstance(state["schema"], str)
        assert state["schema"]
        assert state["values"] == DEFAULTS

    @pytest.mark.parametrize("namespace", list(DEFAULTS))
    async def test_a_namespace_is_the_bare_object(self, me: Caller, namespace: str) -> None:
        """``GET /{ns}`` shows the effective values of one namespace and nothing around them."""
        assert (await me.get(f"/{namespace}")).ok() == DEFAULTS[namespace]
        await me.put("", STORED)
        assert (await me.get(f"/{namespace}")).ok() == _effective(**STORED)[namespace]

    @pytest.mark.parametrize(
        ("method", "value"), [("GET", None), ("HEAD", None), ("PUT", {}), ("PATCH", {}), ("DELETE", None)]
    )
    async def test_the_prefix_needs_no_slash(self, me: Caller, method: str, value: Any) -> None:
        """``{prefix}`` and ``{prefix}/`` answer the same, and neither redirects."""
        bare, slash = [await me.write(method, path, value) for path in ("", "/")]
        assert bare.status == slash.status == 200
        assert bare.body == slash.body
        assert _without_limit(bare) == _without_limit(slash)

    @pytest.mark.parametrize("path", [*_PATHS, "/schema", "/changes?since=0", "/changes", "/nothing-here"])
    async def test_head_is_get_without_the_body(self, me: Caller, path: str) -> None:
        """``HEAD`` has the status and the headers of ``GET`` (RFC 9110, section 9.3.2)."""
        await me.put("", STORED)
        path, _, query = path.partition("?")
        got = await me.get(path, query=query)
        head = await me.send("HEAD", path, query=query)
        assert head.status == got.status
        assert head.body == b""
        assert _without_limit(head) == _without_limit(got)

    @pytest.mark.parametrize("path", ["", "/appearance"])
    async def test_head_can_be_conditional(self, me: Caller, path: str) -> None:
        """``HEAD`` takes conditions as ``GET`` does."""
        tag = (await me.get(path)).etag
        assert (await me.send("HEAD", path, headers={"If-None-Match": tag})).status == 304

    # --- Writes --------------------------------------------------------------------------------------------------

    async def test_put_replaces_everything(self, me: Caller) -> None:
        """``PUT /`` replaces every stored value; what is left out goes back to its default."""
        await me.put("", STORED)
        await me.put("", {"appearance": {"accent": "#ABCDEF"}, "plugins": {"git": {}}})
        assert await me.values() == _effective(appearance={"accent": "#ABCDEF"}, plugins={"git": {}})

    async def test_put_replaces_a_namespace(self, me: Caller) -> None:
        """``PUT /{ns}`` takes its left-out fields back to their defaults, and touches no other namespace."""
        await me.put("", STORED)
        await me.put("/appearance", {"density": "compact"})
        await me.put("/plugins", {"git": 1})
        values = {**STORED, "appearance": {"density": "compact"}, "plugins": {"git": 1}}
        assert await me.values() == _effective(**values)

    async def test_patch_merges_over_namespaces(self, me: Caller) -> None:
        """``PATCH /`` merges; ``null`` takes a whole namespace back."""
        await me.put("", STORED)
        await me.patch(
            "", {"appearance": {"theme": "light"}, "editor": None, "plugins": {"vim": {"keys": None}}}
        )
        expected = _effective(
            appearance={"theme": "light", "font_size": 20}, plugins={"vim": {"mode": "insert"}, "spell": True}
        )
        assert await me.values() == expected
        await me.patch("", {"plugins": None})
        assert (await me.values())["plugins"] == {}

    async def test_patch_merges_over_fields(self, me: Caller) -> None:
        """``PATCH /{ns}`` merges; ``null`` takes a field back to its default, and a key of an open namespace away."""
        await me.put("", STORED)
        assert (await me.patch("/appearance", {"theme": None, "accent": "#000000"})).ok() == {
            **DEFAULTS["appearance"],
            "font_size": 20,
            "accent": "#000000",
        }
        assert (await me.patch("/plugins", {"spell": None, "vim": {"mode": None, "leader": " "}})).ok() == {
            "vim": {"keys": [1, 2], "leader": " "}
        }

    async def test_patch_is_rfc_7396(self, me: Caller) -> None:
        """Merge patches do what the examples of RFC 7396, appendix A, say."""
        examples: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
            ({"a": "b"}, {"a": "c"}, {"a": "c"}),
            ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
            ({"a": "b"}, {"a": None}, {}),
            ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
            ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
            ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
            ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
            ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
            ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
            ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ]
        for before, patch, after in examples:
            await me.put("/plugins", before)
            assert (await me.patch("/plugins", patch)).ok() == after

    async def test_delete_takes_everything_back(self, me: Caller) -> None:
        """``DELETE /`` leaves defaults, and an open namespace without keys is ``{}``, never absent."""
        await me.put("", STORED)
        state = (await me.delete("")).ok()
        assert state["values"] == DEFAULTS
        assert await me.values() == DEFAULTS
        assert (await me.get("/plugins")).ok() == {}

    async def test_delete_takes_a_namespace_back(self, me: Caller) -> None:
        """``DELETE /{ns}`` leaves the others alone."""
        await me.put("", STORED)
        assert (await me.delete("/plugins")).ok() == {}
        assert (await me.delete("/appearance")).ok() == DEFAULTS["appearance"]
        assert await me.values() == _effective(editor=STORED["editor"])

    @pytest.mark.parametrize(("method", "path", "value"), WRITES)
    async def test_a_write_answers_what_its_path_shows(
        self, me: Caller, unlimited: Caller, method: str, path: str, value: Any
    ) -> None:
        """Its body, ``ETag`` and ``Prefsync-Revision`` are those of ``GET`` of its path, through any process."""
        await me.put("", STORED)
        wrote = await me.write(method, path, value)
        for reader in (me, me.through(unlimited.client)):
            read = await reader.get(path)
            assert wrote.status == read.status == 200
            assert wrote.body == read.body
            for name in ("ETag", "Prefsync-Revision", "Cache-Control", "Vary", "Content-Type"):
                assert wrote.headers[name] == read.headers[name]

    async def test_concurrent_writes_each_answer_the_state_they_left(self, me: Caller) -> None:
        """An answer shows the state of its own revision, not a later one."""
        count = 12
        answers = await asyncio.gather(*(me.patch("", {"plugins": {f"k{n}": n}}) for n in range(count)))
        state: dict[str, Any] = {}
        left: dict[int, dict[str, Any]] = {}
        for change in (await me.changes(0))["changes"]:
            state = {**state, **change["changed"]["plugins"]}
            left[change["revision"]] = state
        assert len(left) == count
        for n, answer in enumerate(answers):
            shown = answer.ok()
            assert shown["revision"] == answer.revision
            assert shown["values"]["plugins"] == left[answer.revision]
            assert f"k{n}" in shown["values"]["plugins"]

    async def test_concurrent_patches_of_different_fields_lose_nothing(
        self, me: Caller, unlimited: Caller
    ) -> None:
        """Without ``If-Match``, each field has what its own writer sent, whichever process it went through."""
        fields: dict[str, dict[str, Any]] = {
            "appearance": {"theme": "dark", "accent": "#010203", "font_size": 9, "density": "compact"},
            "editor": {"tab_size": 8, "word_wrap": True, "rulers": [72]},
            "notifications": {"email": False, "push": True, "digest": "off", "muted_channels": ["a"]},
        }
        writers = [me, me.through(unlimited.client)]
        patches = [
            (namespace, {name: value})
            for namespace, values in fields.items()
            for name, value in values.items()
        ]
        answers = await asyncio.gather(
            *(
                writers[n % 2].patch(f"/{namespace}", patch)
                if n % 3
                else writers[n % 2].patch("", {namespace: patch})
                for n, (namespace, patch) in enumerate(patches)
            )
        )
        assert [answer.status for answer in answers] == [200] * len(patches)
        assert await writers[1].values() == {**fields, "plugins": {}}

    async def test_concurrent_patches_of_different_members_lose_nothing(
        self, me: Caller, unlimited: Caller
    ) -> None:
        """Members of one field, deep inside it too, are merged one by one."""
        writers = [me, me.through(unlimited.client)]
        answers = await asyncio.gather(
            *(writers[n % 2].patch("/plugins", {"p": {"q": {f"m{n}": n}}}) for n in range(20))
        )
        assert [answer.status for answer in answers] == [200] * 20
        assert (await writers[1].values())["plugins"] == {"p": {"q": {f"m{n}": n for n in range(20)}}}

    async def test_of_concurrent_puts_the_last_one_wins(self, me: Caller) -> None:
        """Every ``PUT`` succeeds, and what stays is all of one of them."""
        bodies = [{"theme": "dark", "font_size": 8 + n} for n in range(8)]
        answers = await asyncio.gather(*(me.put("/appearance", body) for body in bodies))
        assert [answer.status for answer in answers] == [200] * 8
        newest = max(answers, key=lambda answer: answer.revision)
        assert (await me.get("/appearance")).ok() == newest.ok()
        assert newest.ok() in [{**DEFAULTS["appearance"], **body} for body in bodies]

    # --- Revisions -----------------------------------------------------------------------------------------------

    async def test_a_revision_is_the_time_of_its_write(self, me: Caller) -> None:
        """``max(previous + 1, now in ms since 1970)``."""
        before = time.time_ns() // 1_000_000
        first = (await me.patch("/appearance", {"theme": "dark"})).revision
        after = time.time_ns() // 1_000_000
        assert before <= first <= after
        second = (await me.patch("/appearance", {"theme": "light"})).revision
        assert first < second <= max(first + 1, time.time_ns() // 1_000_000)

    async def test_every_namespace_carries_the_revision_of_the_user(self, me: Caller) -> None:
        """``Prefsync-Revision`` is the subject's, in the answers of every path."""
        revision = (await me.patch("/editor", {"tab_size": 2})).revision
        for path in _PATHS:
            assert (await me.get(path)).revision == revision
        assert (await me.get()).ok()["revision"] == revision

    @pytest.mark.parametrize(
        ("method", "path", "value"),
        [
            ("PATCH", "", {}),
            ("PATCH", "", {"appearance": {"theme": "dark"}}),
            ("PATCH", "", {"notifications": None}),
            ("PATCH", "/appearance", {}),
            ("PATCH", "/appearance", {"theme": "dark"}),
            ("PATCH", "/appearance", {"accent": None}),
            ("PATCH", "/plugins", {"gone": None, "vim": {"gone": None}}),
            ("PUT", "", STORED),
            ("PUT", "/appearance", {"font_size": 20, "theme": "dark"}),
            ("PUT", "/plugins", {"spell": True, "vim": {"keys": [1, 2], "mode": "insert"}}),
            ("DELETE", "/notifications", None),
        ],
    )
    async def test_a_write_that_changes_nothing(self, me: Caller, method: str, path: str, value: Any) -> None:
        """It succeeds, makes no revision and no change, and moves no entity tag."""
        await me.put("", STORED)
        before = await me.get(path)
        wrote = await me.write(method, path, value)
        assert wrote.status == 200
        assert (wrote.body, wrote.etag, wrote.revision) == (before.body, before.etag, before.revision)
        page = await me.changes(before.revision)
        assert (page["revision"], page["changes"], page["reset"]) == (before.revision, [], False)

    async def test_deleting_nothing_makes_no_revision(self, me: Caller) -> None:
        """Where nothing was ever stored, the revision stays 0."""
        for path in ("", "/appearance", "/plugins"):
            assert (await me.delete(path)).revision == 0
        assert (await me.changes(0))["changes"] == []

    async def test_a_field_set_to_its_own_default_is_stored(self, me: Caller) -> None:
        """It makes a revision and a change, and so does taking it back."""
        first = await me.patch("/appearance", {"theme": "system"})
        assert first.ok() == DEFAULTS["appearance"]
        assert first.revision > 0
        again = await me.patch("/appearance", {"theme": "system"})
        assert again.revision == first.revision
        second = await me.patch("/appearance", {"theme": None})
        assert second.revision > first.revision
        changes = (await me.changes(0))["changes"]
        assert [change["changed"] for change in changes] == [{"appearance": {"theme": "system"}}] * 2

    # --- Headers -------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("method", "path", "value"),
        [*[pytest.param("GET", path, None, id=f"get-{path}") for path in _PATHS], *WRITES],
    )
    async def test_the_headers_of_documents(self, me: Caller, method: str, path: str, value: Any) -> None:
        """``ETag``, ``Prefsync-Revision``, ``Cache-Control: private, no-cache``, ``Vary``; on ``304`` too."""
        await me.put("", STORED)
        answer = await me.write(method, path, value)
        answers = [answer]
        if method == "GET":
            answers.append(await me.get(path, headers={"If-None-Match": answer.etag}))
            assert answers[1].status == 304
            assert answers[1].body == b""
        for one in answers:
            assert one.etag == answer.etag
            assert one.revision == answer.revision > 0
            assert one.headers.members("Cache-Control") == {"private", "no-cache"}
            assert one.headers.members("Vary") == {"authorization", "accept-encoding"}
            for name in ("ETag", "Prefsync-Revision", "Cache-Control"):
                assert len(one.headers.all(name)) == 1

    @pytest.mark.parametrize(
        ("path", "query"), [("/schema", ""), ("/changes", "since=0"), ("/changes", "since=0&wait=0.1")]
    )
    async def test_the_headers_of_the_other_reads(self, me: Caller, path: str, query: str) -> None:
        """``/schema`` has an ``ETag``, ``/changes`` the newest revision and ``no-store``; both the same ``Vary``."""
        revision = (await me.put("", STORED)).revision
        answer = await me.get(path, query=query)
        answer.ok()
        assert answer.headers.members("Vary") == {"authorization", "accept-encoding"}
        if path == "/schema":
            assert answer.etag
        else:
            assert answer.revision == revision
            assert answer.headers.members("Cache-Control") == {"no-store"}

"""protocol.md, section 2, "Changes": the feed of what was written."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest

from prefsync.testing.mount.callers import DEFAULTS
from prefsync.testing.mount.suite import MountSuite, label

if TYPE_CHECKING:
    from prefsync.testing.mount.callers import Caller
    from prefsync.testing.mount.client import MountHost

__all__ = ["ChangesContract"]

_PAGE: Final = {"revision", "schema", "reset", "has_more", "changes"}
_CHANGE: Final = {"revision", "previous", "at", "origin", "changed", "removed"}
_AT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

# Seconds. What is answered at once takes milliseconds; a machine that is busy deserves patience.
_AT_ONCE: Final = 5.0
_LONG: Final = 30


def _folded(values: dict[str, dict[str, Any]], changes: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Apply changes as a client does."""
    values = {name: dict(fields) for name, fields in values.items()}
    for change in changes:
        for name, fields in change["changed"].items():
            values[name].update(fields)
        for name, keys in change["removed"].items():
            for key in keys:
                del values[name][key]
    return values


def _is_reset(page: dict[str, Any], state: dict[str, Any]) -> bool:
    return page.keys() == _PAGE | {"values"} and page == {
        "revision": state["revision"],
        "schema": state["schema"],
        "reset": True,
        "has_more": False,
        "changes": [],
        "values": state["values"],
    }


class ChangesContract(MountSuite):
    """``GET /changes``."""

    # --- What a change says ----------------------------------------------------------------------------------------

    async def test_a_change(self, me: Caller) -> None:
        """Its revision, the one before, its time, the client's name, whole fields, removed keys: always all of it."""
        first = await me.put(
            "", {"plugins": {"foo": 1, "bar": {"x": 1, "y": 2}}, "appearance": {"font_size": 20}}
        )
        patch = {
            "appearance": {"theme": "dark", "font_size": None},
            "plugins": {"foo": None, "bar": {"x": 5}},
        }
        second = await me.patch("", patch, headers={"Prefsync-Client": "tab-1"})
        page = await me.changes(0)
        assert page.keys() == _PAGE
        assert page["schema"] == (await me.get()).ok()["schema"]
        assert (page["revision"], page["reset"], page["has_more"]) == (second.revision, False, False)
        one, two = page["changes"]
        assert one.keys() == two.keys() == _CHANGE
        assert (one["previous"], one["revision"], one["origin"]) == (0, first.revision, None)
        assert one["changed"] == {
            "plugins": {"foo": 1, "bar": {"x": 1, "y": 2}},
            "appearance": {"font_size": 20},
        }
        assert one["removed"] == {}
        assert (two["previous"], two["revision"], two["origin"]) == (first.revision, second.revision, "tab-1")
        assert two["changed"] == {
            "appearance": {"theme": "dark", "font_size": 14},
            "plugins": {"bar": {"x": 5, "y": 2}},
        }
        assert two["removed"] == {"plugins": ["foo"]}

    async def test_the_time_of_a_change(self, me: Caller) -> None:
        """RFC 3339 in UTC with milliseconds."""
        before = time.time()
        await me.patch("/appearance", {"theme": "dark"})
        after = time.time()
        (change,) = (await me.changes(0))["changes"]
        assert _AT.fullmatch(change["at"])
        moment = datetime.strptime(change["at"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC).timestamp()
        assert before - 0.001 <= moment <= after

    async def test_only_what_changed(self, me: Caller) -> None:
        """Fields that a write repeats as they were are not among its changes."""
        await me.put("", {"appearance": {"theme": "dark", "font_size": 20}, "plugins": {"a": 1, "b": 2}})
        start = (await me.get()).revision
        await me.put("", {"appearance": {"theme": "dark", "font_size": 21}, "plugins": {"a": 1, "c": 3}})
        (change,) = (await me.changes(start))["changes"]
        assert change["changed"] == {"appearance": {"font_size": 21}, "plugins": {"c": 3}}
        assert change["removed"] == {"plugins": ["b"]}

    async def test_taking_everything_back(self, me: Caller) -> None:
        """Fields at their default appear with it; keys of open namespaces are removed."""
        await me.put(
            "", {"appearance": {"theme": "dark"}, "editor": {"rulers": [1]}, "plugins": {"a": 1, "b": None}}
        )
        start = (await me.get()).revision
        await me.delete()
        (change,) = (await me.changes(start))["changes"]
        assert change["changed"] == {"appearance": {"theme": "system"}, "editor": {"rulers": []}}
        assert change["removed"].keys() == {"plugins"}
        assert sorted(change["removed"]["plugins"]) == ["a", "b"]

    async def test_a_null_in_an_open_namespace_is_a_value(self, me: Caller) -> None:
        """It is changed, not removed."""
        await me.put("/plugins", {"a": None})
        (change,) = (await me.changes(0))["changes"]
        assert (change["changed"], change["removed"]) == ({"plugins": {"a": None}}, {})

    async def test_changes_lead_from_one_state_to_the_next(self, me: Caller) -> None:
        """Who applies them in order has, after each, what a read showed then."""
        writes: list[tuple[str, str, Any]] = [
            ("PATCH", "", {"appearance": {"theme": "dark"}, "plugins": {"a": {"x": 1}}}),
            ("PUT", "/editor", {"tab_size": 2, "rulers": [80]}),
            ("PATCH", "/plugins", {"a": {"y": [1]}, "b": None, "c": {}}),
            ("PUT", "", {"notifications": {"muted_channels": ["x"]}, "plugins": {"c": 1}}),
            ("DELETE", "/plugins", None),
            ("PATCH", "", {"notifications": None, "plugins": {"d": 0}}),
            ("DELETE", "", None),
        ]
        states = [(0, DEFAULTS)]
        for method, path, value in writes:
            answer = await me.write(method, path, value)
            states.append((answer.revision, await me.values()))
        changes = (await me.changes(0))["changes"]
        assert [change["revision"] for change in changes] == [revision for revision, _ in states[1:]]
        assert [change["previous"] for change in changes] == [revision for revision, _ in states[:-1]]
        for number, (revision, values) in enumerate(states):
            assert _folded(DEFAULTS, changes[:number]) == values
            later = await me.changes(revision)
            assert later["changes"] == changes[number:]
            assert _folded(values, later["changes"]) == DEFAULTS

    @pytest.mark.parametrize("name", ["a", "tab-1", "A.b_C-9", "x" * 64, "-", "..."])
    async def test_the_clients_name(self, me: Caller, name: str) -> None:
        """``Prefsync-Client`` is echoed as ``origin``, by every kind of write."""
        await me.put("/plugins", {"a": 1}, headers={"Prefsync-Client": name})
        await me.patch("/plugins", {"a": 2}, headers={"Prefsync-Client": name})
        await me.delete("", headers={"Prefsync-Client": name})
        assert [change["origin"] for change in (await me.changes(0))["changes"]] == [name] * 3

    @pytest.mark.parametrize(
        "name", ["", "x" * 65, "a b", "a/b", "a,b", "caf\xe9", "a:b", '"a"', "a\xa0"], ids=label
    )
    async def test_what_is_no_name(self, me: Caller, name: str) -> None:
        """``400``, and nothing is written."""
        answer = await me.put("/plugins", {"a": 1}, headers={"Prefsync-Client": name})
        answer.problem(400, "malformed-request")
        assert (await me.get()).revision == 0

    # --- Pages -----------------------------------------------------------------------------------------------------

    async def test_nothing_new(self, me: Caller) -> None:
        """At the newest revision, 0 included: no reset, no changes, and R is where to go on from."""
        assert await me.changes(0) == {
            "revision": 0,
            "schema": (await me.get()).ok()["schema"],
            "reset": False,
            "has_more": False,
            "changes": [],
        }
        revision = (await me.patch("/plugins", {"a": 1})).revision
        page = await me.changes(revision)
        assert (page["revision"], page["reset"], page["has_more"], page["changes"]) == (
            revision,
            False,
            False,
            [],
        )

    async def test_pages(self, me: Caller) -> None:
        """``limit`` cuts the feed into pages that follow one another without a gap."""
        revisions = [0] + [(await me.patch("/plugins", {"n": n})).revision for n in range(7)]
        for limit in (1, 2, 3, 6, 7, 8, 1_000):
            seen: list[int] = []
            since, more = 0, True
            while more:
                answer = await me.get("/changes", query=f"since={since}&limit={limit}")
                page = answer.ok()
                assert 1 <= len(page["changes"]) <= limit
                assert page["changes"][0]["previous"] == since
                assert page["revision"] == page["changes"][-1]["revision"]
                assert answer.revision == revisions[-1]
                since, more = page["revision"], page["has_more"]
                seen += [change["revision"] for change in page["changes"]]
            assert seen == revisions[1:]
            assert since == revisions[-1]

    async def test_the_usual_page(self, unlimited: Caller) -> None:
        """Without ``limit`` a page has 100 changes."""
        for n in range(101):
            await unlimited.patch("/plugins", {"n": n})
        page = await unlimited.changes(0)
        assert (len(page["changes"]), page["has_more"]) == (100, True)
        rest = await unlimited.changes(page["revision"])
        assert (len(rest["changes"]), rest["has_more"]) == (1, False)
        assert len((await unlimited.changes(0, limit=101))["changes"]) == 101

    async def test_one_user_does_not_see_anothers_changes(self, me: Caller, somebody: Caller) -> None:
        """Nor can one tell that another wrote."""
        await somebody.patch("/plugins", {"a": 1})
        assert (await me.changes(0))["changes"] == []
        assert (await me.get("/changes", query="since=0")).revision == 0

    async def test_concurrent_writes_leave_one_chain(self, me: Caller, unlimited: Caller) -> None:
        """Each change's ``previous`` is the revision of the one before it, whichever processes wrote."""
        writers = [me, me.through(unlimited.client)]
        await asyncio.gather(*(writers[n % 2].patch("/plugins", {f"k{n}": n}) for n in range(20)))
        changes = (await me.changes(0))["changes"]
        revisions = [change["revision"] for change in changes]
        assert len(changes) == 20
        assert revisions == sorted(set(revisions))
        assert [change["previous"] for change in changes] == [0, *revisions[:-1]]
        assert _folded(DEFAULTS, changes) == await writers[1].values()

    # --- Resets ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("wait", [0, _LONG])
    async def test_revisions_that_are_not_in_the_log(self, me: Caller, wait: int) -> None:
        """One that never was, or lies beyond the newest: all values, at once."""
        await me.patch("/plugins", {"a": 1})
        await me.patch("/appearance", {"theme": "dark"})
        state = (await me.get()).ok()
        newest = state["revision"]
        started = time.monotonic()
        for since in (1, newest - 100_000, newest + 1, 2**53 - 1):
            page = await me.changes(since, wait=wait)
            assert _is_reset(page, state)
            answer = await me.get("/changes", query=f"since={since}")
            assert answer.revision == newest
        assert time.monotonic() - started < _AT_ONCE

    @pytest.mark.parametrize("wait", [0, _LONG])
    async def test_a_revision_where_nothing_was_ever_stored(self, me: Caller, wait: int) -> None:
        """Any but 0 is beyond the newest."""
        state = (await me.get()).ok()
        assert _is_reset(await me.changes(5, wait=wait), state)
        assert _is_reset(await me.changes(2**53 - 1, wait=wait), state)

    async def test_revisions_between_two_changes(self, me: Caller) -> None:
        """A number inside the log that was never a revision is a reset, not a guess."""
        first = (await me.patch("/plugins", {"a": 1})).revision
        second = first
        while second < first + 2:
            second = (await me.patch("/plugins", {"a": second})).revision
        state = (await me.get()).ok()
        revisions = {0, *(change["revision"] for change in (await me.changes(0))["changes"])}
        for since in sorted({first - 1, first, first + 1, second - 1, second}):
            page = await me.changes(since)
            assert page["reset"] == (since not in revisions)
            assert page["reset"] is False or _is_reset(page, state)

    @pytest.mark.parametrize("wait", [0, _LONG])
    async def test_a_trimmed_log(self, host: MountHost, me: Caller, wait: int) -> None:
        """What was trimmed is a reset; what is left goes on."""
        revisions = [0] + [(await me.patch("/plugins", {"n": n})).revision for n in range(5)]
        async with host.repository() as repository:
            await repository.trim_subject(me.subject, 2)
        state = (await me.get()).ok()
        for since in revisions[:3]:
            assert _is_reset(await me.changes(since, wait=wait), state)
        page = await me.changes(revisions[3])
        assert [change["revision"] for change in page["changes"]] == revisions[4:]
        assert page["reset"] is False
        assert (await me.changes(revisions[5]))["reset"] is False

    async def test_an_erased_user(self, host: MountHost, me: Caller, unlimited: Caller) -> None:
        """Nothing of the log is left, and no revision comes again."""
        revision = (await me.patch("/plugins", {"a": 1})).revision
        async with host.repository() as repository:
            await repository.erase(me.subject)
        there = me.through(unlimited.client)
        page = await there.changes(revision)
        assert (page["reset"], page["revision"], page["values"]) == (True, 0, DEFAULTS)
        again = await there.patch("/plugins", {"b": 1})
        assert again.revision > revision
        assert again.ok() == {"b": 1}
        page = await there.changes(revision)
        assert (page["reset"], page["revision"], page["values"]["plugins"]) == (
            True,
            again.revision,
            {"b": 1},
        )

    @pytest.mark.parametrize("wait", [0, _LONG])
    async def test_another_schema(self, me: Caller, wait: int) -> None:
        """A tag that is not today's is a reset, whatever the revision; today's is none."""
        await me.patch("/plugins", {"a": 1})
        state = (await me.get()).ok()
        for since in (0, state["revision"], 7):
            assert _is_reset(await me.changes(since, schema="another", wait=wait), state)
        page = await me.changes(0, schema=state["schema"])
        assert (page["reset"], len(page["changes"])) == (False, 1)

    # --- Bad parameters --------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "query",
        [
            "",
            "wait=1",
            "since=",
            "since",
            "since=abc",
            "since=-1",
            "since=%2B1",
            "since=1.0",
            "since=1e3",
            "since=0x1",
            "since=%D9%A3",
            "since=1%00",
            "since=1%0A",
            "since=9007199254740992",
            "since=" + "9" * 400,
            "since=0&limit=0",
            "since=0&limit=1001",
            "since=0&limit=-1",
            "since=0&limit=1.5",
            "since=0&limit=",
            "since=0&limit=all",
            "since=0&wait=-1",
            "since=0&wait=-0.1",
            "since=0&wait=60.001",
            "since=0&wait=6.1e1",
            "since=0&wait=1e999",
            "since=0&wait=61",
            "since=0&wait=1000",
            "since=0&wait=",
            "since=0&wait=nan",
            "since=0&wait=inf",
            "since=0&wait=1s",
            "since=0&wait=1,5",
            "since=0&since=0",
            "since=0&since=1",
            "since=0&limit=1&limit=1",
            "since=0&wait=0&wait=0",
            "since=0&schema=a&schema=a",
        ],
        ids=label,
    )
    async def test_bad_parameters(self, me: Caller, query: str) -> None:
        """``since`` is required; ``wait`` is 0 to 60, ``limit`` 1 to 1,000; anything else is ``400``, at once."""
        started = time.monotonic()
        (await me.get("/changes", query=query)).problem(400, "malformed-request")
        assert time.monotonic() - started < _AT_ONCE

    @pytest.mark.parametrize(
        "query",
        [
            "since=0",
            "since=00",
            "since=9007199254740991",
            "since=0&limit=1",
            "since=0&limit=1000",
            "since=0&wait=0",
            "since=0&wait=0.0",
            "since=0&wait=0.05",
            "since=0&wait=0.050000000000000003",
            "since=0&wait=1e-05",
            "wait=0.001&limit=5&since=0",
            "since=9007199254740991&wait=60",
            "since=9007199254740991&wait=60.0",
            "sinc%65=0",
        ],
    )
    async def test_good_parameters(self, me: Caller, query: str) -> None:
        """Bounds are inclusive, and fractions of a second are allowed."""
        (await me.get("/changes", query=query)).ok()

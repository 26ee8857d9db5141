"""protocol.md, section 2, "Bodies": the catalogue of hostile JSON, each case with the answer that it must get."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from prefsync.testing.hostile_json import HOSTILE_JSON
from prefsync.testing.mount.callers import newcomer
from prefsync.testing.mount.suite import MountSuite

if TYPE_CHECKING:
    from prefsync.testing.hostile_json import HostileJson
    from prefsync.testing.mount.callers import Caller
    from prefsync.testing.mount.client import Answer, MountClient

__all__ = ["HostileJsonContract", "merged", "wrong_with"]


def merged(value: Any) -> Any:
    """Return what a merge patch leaves where nothing was (RFC 7396, section 2)."""
    if not isinstance(value, dict):
        return value
    return {name: merged(item) for name, item in value.items() if item is not None}


def wrong_with(case: HostileJson, method: str, answer: Answer) -> str | None:
    """Return what is wrong with the answer to a case, if anything."""
    expected = {400: "malformed-request", 413: "too-large", 422: "invalid-preferences"}
    if answer.status != case.status:
        return f"{case.status} expected, and not {answer.status} {answer.content[:300]!r}"
    if case.status == 200:
        sent = json.loads(case.body, parse_int=float)
        shown = json.loads(answer.content, parse_int=float)
        return None if shown == (merged(sent) if method == "PATCH" else sent) else "it came back as another"
    try:
        problem = answer.problem(case.status, expected[case.status])
    except AssertionError as error:
        return str(error)
    codes = {error["code"] for error in problem.get("errors", ())}
    return None if codes == case.codes else f"{set(case.codes)} expected, and not {codes}"


class HostileJsonContract(MountSuite):
    """Whatever is sent, the answer is the protocol's; nothing of what is refused is stored, and all of what is taken."""

    @pytest.mark.parametrize("kind", HOSTILE_JSON)
    async def test_the_catalogue_of_hostile_json(
        self, unlimited: Caller, second: MountClient, kind: str
    ) -> None:
        """Every case gets its answer, by each of its methods."""
        faults: dict[str, str] = {}
        refused = newcomer(second)
        for case in HOSTILE_JSON[kind]:
            for method in case.methods:
                me = refused
                if case.status == 200:  # what is merged is merged into nothing
                    me = newcomer(second) if method == "PATCH" else unlimited
                answer = await me.send(method, case.path, raw=case.body)
                fault = wrong_with(case, method, answer)
                if fault is None and case.status == 200:
                    read = await me.get(case.path)
                    if (read.body, read.etag) != (answer.body, answer.etag):
                        fault = "it was stored as another"
                if fault is not None:
                    faults[f"{method} {case.name} ({case.purpose})"] = fault
        assert not faults
        assert (await refused.get()).revision == 0, "something was refused and stored"

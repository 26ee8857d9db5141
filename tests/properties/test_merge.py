"""Merge patches, as RFC 7396 has them."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsync.document import Document
from prefsync.errors import InvalidPreferencesError
from prefsync.merge import Assign, Mutation, Patch, Replace, difference, merge_patch
from prefsync.schema import Schema
from prefsync.strictjson import Limits, canonical, equal
from tests.properties.backends import Backend, profile
from tests.unit.support import MODELS, Process, new_subject, patch

# RFC 7396, appendix A: original, patch, result.
APPENDIX_A = [
    ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
    ('{"a":"b"}', '{"a":null}', "{}"),
    ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
    ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
    ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
    ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
    ('["a","b"]', '["c","d"]', '["c","d"]'),
    ('{"a":"b"}', '["c"]', '["c"]'),
    ('{"a":"foo"}', "null", "null"),
    ('{"a":"foo"}', '"bar"', '"bar"'),
    ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
    ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
    ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
]

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["", "x", 0.5])),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from("abcd"), values, max_size=4)


def paths(value: Any, at: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Spread objects into paths: another way to think of a merge than to walk both trees at once."""
    if not isinstance(value, dict):
        return {at: value}
    found: dict[tuple[str, ...], Any] = {at: {}}
    for name, item in value.items():
        found |= paths(item, (*at, name))
    return found


def merged(target: Any, change: Any) -> Any:
    """Merge by paths: each path of the patch, in order, puts, opens or removes what stands there."""
    spread = paths(target)
    for path, value in paths(change).items():
        is_object = value == {} and isinstance(value, dict)
        if is_object and isinstance(spread.get(path), dict):
            continue
        spread = {other: item for other, item in spread.items() if other[: len(path)] != path}
        if value is not None or not path:
            spread[path] = value
    root = spread.pop(())
    if not isinstance(root, dict):
        return root
    result: dict[str, Any] = {}
    for path, value in sorted(spread.items(), key=lambda item: len(item[0])):
        here = result
        for step in path[:-1]:
            here = here[step]
        here[path[-1]] = {} if isinstance(value, dict) else value
    return result


@pytest.mark.parametrize(("original", "change", "result"), APPENDIX_A)
def test_the_rows_of_the_standard(original: str, change: str, result: str) -> None:
    """Each example of RFC 7396, appendix A, comes out as it says there."""
    found = merge_patch(json.loads(original), json.loads(change))
    assert json.dumps(found, sort_keys=True) == json.dumps(json.loads(result), sort_keys=True)


@given(values, values)
@profile(400)
def test_a_merge_is_what_its_paths_say(target: Any, change: Any) -> None:
    """The result is that of an independent way to merge, and both arguments stay as they were."""
    before = copy.deepcopy((target, change))
    assert equal(merge_patch(target, change), merged(target, change))
    assert equal(list(before), [target, change])


@given(values, values)
@profile(200)
def test_a_patch_applied_twice_is_applied_once(target: Any, change: Any) -> None:
    """Merging the same patch again changes nothing."""
    once = merge_patch(target, change)
    assert equal(merge_patch(once, change), once)


@given(objects, objects)
@profile(150)
def test_an_open_namespace_is_patched_as_the_standard_says(stored: Any, change: Any) -> None:
    """A patch of an open namespace is a merge patch of its object, and the document it was made upon stays."""
    schema = Schema(MODELS)
    document = Document(1, {"plugins": canonical(stored)}, {"plugins": 1})
    before = copy.deepcopy(document.values)
    after = Mutation({"plugins": Patch(change)}).apply(schema, document, Limits())
    assert equal(after.get("plugins", {}), merged(stored, change))
    assert equal(document.values, before)


@given(objects, objects)
@profile(150)
def test_a_change_leads_from_one_document_to_the_next(stored: Any, new: Any) -> None:
    """What a change assigns and unsets makes the new values of the old; what it replaced makes the old of the new."""
    before = Document(7, {"plugins": canonical(stored)}, {"plugins": 7})
    after = Mutation({"plugins": Replace(new)}).apply(Schema(MODELS), before, Limits())
    step = difference(before, after, now=0, origin=None, limits=Limits())
    if step is None:
        assert equal(stored, new)
        return
    document, change = step
    assert document.revision == change.revision == 8
    assigned, unset = change.assigned.get("plugins", {}), change.unset.get("plugins", [])
    was = change.replaced.get("plugins", {})
    forth = {name: value for name, value in stored.items() if name not in unset} | assigned
    assert equal(forth, new)
    back = {name: value for name, value in new.items() if name not in assigned} | was
    assert equal(back, stored)


@given(st.lists(objects, min_size=2, max_size=5))
@profile(40)
def test_concurrent_patches_of_different_members_all_survive(changes: list[Any]) -> None:
    """Patches made at once, each of its own member of one field, by two processes, are all there afterwards."""
    with Backend() as backend:
        processes = [Process(backend.repository, cache) for cache in backend.caches]
        subject = new_subject()

        async def race() -> Any:
            writes = (
                processes[n % 2].service.write(subject, patch("appearance", extras={str(n): change}))
                for n, change in enumerate(changes)
            )
            await asyncio.gather(*writes)
            return (await processes[0].service.read(subject)).values["appearance"]["extras"]

        assert equal(backend.run(race()), {str(n): merged({}, change) for n, change in enumerate(changes)})


@given(objects, st.frozensets(st.sampled_from("abcd")), objects)
@profile(100)
def test_assignment_takes_null_for_a_value(stored: Any, removed: frozenset[str], new: Any) -> None:
    """What host code assigns is kept whole, null included, and only what it names differs."""
    document = Document(1, {"plugins": canonical(stored)})
    after = Mutation({"plugins": Assign(new, removed)}).apply(Schema(MODELS), document, Limits())
    expected = {name: value for name, value in stored.items() if name not in removed} | new
    assert equal(after.get("plugins", {}), expected)


def test_a_patch_takes_away_only_what_is_declared() -> None:
    """Null for a field that nobody declared is refused with its pointer, stored values or none."""
    for stored in ({}, {"theme": "dark"}):
        document = Document(1, {"appearance": stored})
        with pytest.raises(InvalidPreferencesError) as caught:
            Mutation({"appearance": Patch({"no/body": None})}).apply(Schema(MODELS), document, Limits())
        assert [error.pointer for error in caught.value.errors] == ["/appearance/no~1body"]

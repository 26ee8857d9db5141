"""What a write does to stored values: RFC 7396, defaults, and values that an older or newer version has put there."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from prefsync import InvalidPreferencesError, Limits, Preferences, Schema
from prefsync.document import Document
from prefsync.merge import Assign, Mutation, Patch, Replace, Reset, difference, merge_patch
from prefsync.strictjson import canonical, encode, equal
from tests.unit.support import MODELS

SCHEMA = Schema(MODELS)
LIMITS = Limits()

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "x", "y"]) | st.floats(-2, 2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from("abc"), json_values, max_size=3)


class Hours(BaseModel):
    """A part of a namespace."""

    start: int = 22


class Quiet(Preferences, namespace="quiet"):
    """A namespace with a part."""

    hours: Hours = Hours()


def edited(
    namespace: str, edit: Any, stored: dict[str, Any], schema: Schema = SCHEMA, limits: Limits = LIMITS
) -> Any:
    """Return a namespace's stored values after an edit."""
    document = Document(1, {namespace: stored} if stored else {}, {namespace: 1})
    return dict(Mutation({namespace: edit}).apply(schema, document, limits).get(namespace, {}))


def refusals(
    namespace: str, edit: Any, stored: dict[str, Any], schema: Schema = SCHEMA, limits: Limits = LIMITS
) -> Any:
    """Return what is refused of an edit, by its place."""
    with pytest.raises(InvalidPreferencesError) as caught:
        edited(namespace, edit, stored, schema, limits)
    return {error.pointer: error.code for error in caught.value.errors}


# --- RFC 7396 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("original", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_examples_of_the_standard(original: Any, patch: Any, result: Any) -> None:
    """Every row of RFC 7396, appendix A."""
    assert merge_patch(original, patch) == result


def reference(target: Any, patch: Any) -> Any:
    """Apply a patch word for word as the pseudocode of RFC 7396, section 2, does."""
    if isinstance(patch, dict):
        if not isinstance(target, dict):
            target = {}
        for name, value in patch.items():
            if value is None:
                if name in target:
                    del target[name]
            else:
                target[name] = reference(target.get(name), value)
        return target
    return patch


@given(json_values, json_values)
def test_a_merge_is_that_of_the_pseudocode(target: Any, patch: Any) -> None:
    """The result is that of the standard's own pseudocode, and neither argument is changed."""
    before, text = encode(target), encode(patch)
    result = merge_patch(target, patch)
    assert encode(canonical(result)) == encode(canonical(reference(_copy(target), patch)))
    assert (encode(target), encode(patch)) == (before, text)


@given(json_values, json_values)
def test_a_patch_applied_again_changes_nothing(target: Any, patch: Any) -> None:
    """A merge patch is idempotent."""
    once = merge_patch(target, patch)
    assert equal(merge_patch(once, patch), once)


@given(objects, objects, objects)
def test_patches_of_different_members_commute(
    target: dict[str, Any], one: dict[str, Any], other: dict[str, Any]
) -> None:
    """Two patches without a member in common give the same in either order: neither is lost."""
    other = {name: value for name, value in other.items() if name not in one}
    assert equal(merge_patch(merge_patch(target, one), other), merge_patch(merge_patch(target, other), one))


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copy(item) for name, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


# --- Edits -----------------------------------------------------------------------------------------------------------


@given(objects, objects)
def test_an_open_namespace_is_patched_as_the_standard_says(
    stored: dict[str, Any], patch: dict[str, Any]
) -> None:
    """An open namespace is a JSON document; a patch merges into it, ``null`` removes."""
    assert equal(edited("plugins", Patch(patch), canonical(stored)), merge_patch(stored, patch))


@given(objects, objects)
def test_replacing_an_open_namespace_keeps_null(stored: dict[str, Any], values: dict[str, Any]) -> None:
    """In a replacement ``null`` is a value like any other, and nothing of before is left."""
    assert equal(edited("plugins", Replace(values), canonical(stored)), values)


def test_a_field_set_to_its_own_default_is_stored() -> None:
    """What the user has chosen is kept, also where it is what they had anyway; ``null`` takes the choice away."""
    assert edited("appearance", Patch({"theme": "system"}), {}) == {"theme": "system"}
    assert edited("appearance", Patch({"theme": None}), {"theme": "system", "font_size": 20}) == {
        "font_size": 20
    }
    assert edited("appearance", Replace({"theme": "system"}), {"font_size": 20}) == {"theme": "system"}


class Panel(BaseModel):
    """A value with members."""

    left: bool = True
    width: int = 200
    tools: dict[str, int] = {}


class Layout(Preferences, namespace="layout"):
    """A field whose default has members."""

    panel: Panel = Panel(tools={"pen": 1})
    names: list[str] = ["a"]
    note: str | None = "none yet"


LAYOUT = Schema([Layout])


def test_a_patch_of_a_member_starts_from_what_reads_show() -> None:
    """Members of a default that the patch does not name are kept: the field is stored whole."""
    assert edited("layout", Patch({"panel": {"width": 300}}), {}, LAYOUT) == {
        "panel": {"left": True, "width": 300, "tools": {"pen": 1}}
    }
    stored = {"panel": {"left": False, "width": 300, "tools": {}}}
    assert edited("layout", Patch({"panel": {"tools": {"pen": 2}}}), stored, LAYOUT) == {
        "panel": {"left": False, "width": 300, "tools": {"pen": 2}}
    }


def test_null_in_a_replacement_is_a_value() -> None:
    """``null`` is stored where the type allows it and refused where it does not."""
    assert edited("layout", Replace({"note": None}), {}, LAYOUT) == {"note": None}
    assert refusals("layout", Replace({"names": None}), {}, LAYOUT) == {"/layout/names": "list_type"}


@pytest.mark.parametrize(
    "edit", [Patch({"bogus": 1}), Patch({"bogus": None}), Replace({"bogus": 1}), Assign({"bogus": 1})]
)
def test_an_undeclared_field_is_refused(edit: Any) -> None:
    """No edit of a typed namespace may name a field that is not declared, not even to take it away."""
    assert refusals("appearance", edit, {"theme": "dark"}) == {"/appearance/bogus": "extra_forbidden"}


@pytest.mark.parametrize("edit", [Patch({"future": 5}), Patch({"future": None}), Replace({"future": 5})])
def test_a_field_of_a_newer_version_cannot_be_written_by_the_older(edit: Any) -> None:
    """That a newer version has stored the very same under an undeclared name does not make it declared."""
    assert refusals("appearance", edit, {"theme": "dark", "future": 5}) == {
        "/appearance/future": "extra_forbidden"
    }


def test_all_that_is_wrong_is_told_at_once() -> None:
    """Errors of all namespaces come together: rules of the models, limits and undeclared fields."""
    mutation = Mutation(
        {
            "appearance": Patch({"theme": "blue", "font_size": 1, "bogus": None}),
            "editor": Replace({"rulers": list(range(9)), "tab_size": "4"}),
            "plugins": Patch({"n" * 200: 1}),
        }
    )
    with pytest.raises(InvalidPreferencesError) as caught:
        mutation.apply(SCHEMA, Document(), LIMITS)
    found = {error.pointer for error in caught.value.errors}
    assert {
        "/appearance/theme",
        "/appearance/font_size",
        "/appearance/bogus",
        "/editor/rulers",
        "/editor/tab_size",
    } < found
    assert any(place.startswith("/plugins/nnn") for place in found)


# --- Other versions' values ------------------------------------------------------------------------------------------


def test_members_of_a_newer_version_are_kept_within_models() -> None:
    """What another version stored in a model within stays through patches and through writing back what was read."""
    schema = Schema([Quiet])
    newer = {"hours": {"start": 21, "stop": 7}}
    assert edited("quiet", Patch({"hours": {"start": 20}}), newer, schema) == {
        "hours": {"start": 20, "stop": 7}
    }
    assert edited("quiet", Replace(newer), newer, schema) == newer
    assert edited("quiet", Patch({"hours": {"stop": None}}), newer, schema) == {"hours": {"start": 21}}
    for edit in (Patch({"hours": {"stop": 7}}), Replace(newer)):
        assert refusals("quiet", edit, {}, schema) == {"/quiet/hours/stop": "extra_forbidden"}


def test_fields_of_a_newer_version_are_kept() -> None:
    """Edits by the older version leave stored fields that it does not know alone; only a reset takes them away."""
    stored = {"theme": "dark", "future": {"a": [1]}}
    kept = {"future": {"a": [1]}}
    assert edited("appearance", Patch({"theme": "light"}), stored) == {"theme": "light", **kept}
    assert edited("appearance", Patch({"theme": None}), stored) == kept
    assert edited("appearance", Replace({"font_size": 20}), stored) == {"font_size": 20, **kept}
    assert edited("appearance", Replace({}), stored) == kept
    assert edited("appearance", Assign({"font_size": 20}, frozenset({"theme"})), stored) == {
        "font_size": 20,
        **kept,
    }
    assert edited("appearance", Reset(), stored) == {}


def test_stored_values_that_do_not_fit_stay_where_the_edit_leaves_them_alone() -> None:
    """A value that reads as its default is not lost by an edit of another field, and gone once it is set anew."""
    stored = {"theme": "blue", "font_size": 20, "future": 1}
    assert edited("appearance", Patch({"font_size": 30}), stored) == {
        "theme": "blue",
        "font_size": 30,
        "future": 1,
    }
    assert edited("appearance", Assign({"font_size": 30}), stored) == {
        "theme": "blue",
        "font_size": 30,
        "future": 1,
    }
    assert edited("appearance", Patch({"theme": "dark"}), stored) == {
        "theme": "dark",
        "font_size": 20,
        "future": 1,
    }
    assert edited("appearance", Patch({"theme": None}), stored) == {"font_size": 20, "future": 1}


def test_a_replacement_keeps_a_newer_versions_fields_beside_a_value_that_does_not_fit() -> None:
    """A replacement drops declared fields alone, whatever else is stored."""
    stored = {"theme": "blue", "future": 1}
    assert edited("appearance", Replace({"font_size": 20}), stored) == {"font_size": 20, "future": 1}
    assert edited("appearance", Replace({}), stored) == {"future": 1}


def test_a_patch_is_made_upon_what_reads_show_and_not_upon_a_value_that_does_not_fit() -> None:
    """Members of a stored value that does not fit are not brought back by a patch of its other members."""
    stored: dict[str, Any] = {"panel": {"left": "yes", "width": 700, "tools": {"pen": 9}}}
    assert LAYOUT["layout"].effective(stored)["panel"] == {"left": True, "width": 200, "tools": {"pen": 1}}
    after = edited("layout", Patch({"panel": {"left": False}}), stored, LAYOUT)
    assert after == {"panel": {"left": False, "width": 200, "tools": {"pen": 1}}}


class Typed(Preferences, namespace="layout"):
    """The same field in another version, of another type."""

    panel: Literal["left", "right"] = "left"


def test_a_field_whose_type_was_changed_can_be_written_by_both_versions() -> None:
    """Each version reads its default where the other one has written, and can write what it takes."""
    other = Schema([Typed])
    stored = edited("layout", Patch({"panel": {"width": 1}}), {}, LAYOUT)
    assert other["layout"].effective(stored) == {"panel": "left"}
    stored = edited("layout", Patch({"panel": "right"}), stored, other)
    shown: Any = LAYOUT["layout"].effective(stored)
    assert shown["panel"]["width"] == 200
    stored = edited("layout", Patch({"panel": {"width": 2}}), stored, LAYOUT)
    assert stored == {"panel": {"left": True, "width": 2, "tools": {"pen": 1}}}


# --- Limits ----------------------------------------------------------------------------------------------------------


def test_limits_are_counted_after_the_merge() -> None:
    """Fields, depth, names, strings and the whole document are measured as they would be stored."""
    few = Limits(fields=3, depth=4, string=8, name=4, document=100)
    assert edited("plugins", Patch({"a": None, "d": 4}), {"a": 1, "b": 2, "c": 3}, limits=few) == {
        "b": 2,
        "c": 3,
        "d": 4,
    }
    assert refusals("plugins", Patch({"d": 4}), {"a": 1, "b": 2, "c": 3}, limits=few) == {
        "/plugins": "too_many_fields"
    }
    assert edited("plugins", Patch({"a": {"b": [1]}}), {}, limits=few)
    assert refusals("plugins", Patch({"a": {"b": [[]]}}), {}, limits=few) == {"/plugins/a/b/0": "too_deep"}
    assert refusals("plugins", Patch({"a": {"b": {"c": {}}}}), {}, limits=few) == {
        "/plugins/a/b/c": "too_deep"
    }
    assert refusals("plugins", Replace({"a": "123456789"}), {}, limits=few) == {
        "/plugins/a": "string_too_large"
    }
    assert refusals("plugins", Replace({"abcde": 1}), {}, limits=few) == {"/plugins/abcde": "name_too_long"}


def test_the_document_is_measured_as_compact_json() -> None:
    """The bound on the document counts all namespaces, those of other versions too, and is inclusive."""
    before = Document(1, {"gone": {"a": "x" * 50}}, {"gone": 1})
    after = {"gone": {"a": "x" * 50}, "plugins": {"b": "\u00e9"}}
    size = len(encode(after))
    assert difference(before, after, now=5, origin=None, limits=Limits(document=size))
    with pytest.raises(InvalidPreferencesError) as caught:
        difference(before, after, now=5, origin=None, limits=Limits(document=size - 1))
    assert [(error.pointer, error.code) for error in caught.value.errors] == [("", "document_too_large")]


# --- The change ------------------------------------------------------------------------------------------------------

documents = st.dictionaries(st.sampled_from(["plugins", "editor"]), objects.filter(bool), max_size=2).map(
    canonical
)


@given(documents, documents, st.integers(0, 2_000))
def test_a_change_leads_from_one_document_to_the_next(before: Any, after: Any, now: int) -> None:
    """What is assigned and unset turns the one into the other, what was replaced turns it back, and nothing else is in it."""
    start = Document(1_000, before, dict.fromkeys(before, 1_000))
    step = difference(start, after, now=now, origin="tab", limits=LIMITS)
    if step is None:
        assert equal(before, after)
        return
    document, change = step
    assert (change.revision, change.previous, change.at, change.origin) == (
        max(1_001, now),
        1_000,
        now,
        "tab",
    )
    assert document.revision == change.revision
    forwards = _apply(before, change.assigned, change.unset)
    assert equal(forwards, after)
    touched = {
        name: {*change.assigned.get(name, {}), *change.unset.get(name, [])}
        for name in {*change.assigned, *change.unset}
    }
    new = {
        name: [field for field in fields if field not in change.replaced.get(name, {})]
        for name, fields in touched.items()
    }
    assert equal(_apply(after, change.replaced, new), before)
    for name, fields in touched.items():
        assert fields
        assert document.revisions[name] == change.revision
        for field in fields:
            had, has = before.get(name, {}), after.get(name, {})
            assert (field in had) != (field in has) or not equal(had[field], has[field])
    for name in before.keys() - touched.keys():
        assert document.revisions[name] == 1_000


def _apply(values: Any, assigned: Any, unset: Any) -> dict[str, dict[str, Any]]:
    result: dict[str, dict[str, Any]] = {name: dict(fields) for name, fields in values.items()}
    for name, fields in assigned.items():
        result.setdefault(name, {}).update(fields)
    for name, gone in unset.items():
        for field in gone:
            result.get(name, {}).pop(field, None)
    return {name: fields for name, fields in result.items() if fields}

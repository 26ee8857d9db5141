"""Changes folded into one do what each of them does."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from prefsync.document import Change
from prefsync.effective import EffectiveChange, fold

Contents = tuple[dict[str, dict[str, Any]], dict[str, list[str]]]

FIELDS = ("a", "b", "c")


@st.composite
def contents(draw: st.DrawFn) -> Contents:
    """What one change sets and removes: in an open namespace a name is set, or removed, or left alone."""
    changed: dict[str, dict[str, Any]] = {}
    removed: dict[str, list[str]] = {}
    for name in ("open", "other"):
        for field in FIELDS:
            match draw(st.sampled_from(["keep", "keep", "set", "remove"])):
                case "set":
                    changed.setdefault(name, {})[field] = draw(st.integers(0, 3))
                case "remove":
                    removed.setdefault(name, []).append(field)
    typed = draw(st.dictionaries(st.sampled_from(FIELDS), st.integers(0, 3), max_size=2))
    return (changed | {"typed": typed} if typed else changed), removed


def chain(several: list[Contents]) -> list[EffectiveChange]:
    """Return changes with these contents, each following the one before it."""
    return [
        EffectiveChange(Change(number + 1, number, 1_000 + number, f"tab-{number}"), changed, removed)
        for number, (changed, removed) in enumerate(several, start=5)
    ]


def applied(view: dict[str, dict[str, Any]], change: EffectiveChange) -> dict[str, dict[str, Any]]:
    """Do what a client does with a change."""
    view = deepcopy(view)
    for name, values in change.changed.items():
        view.setdefault(name, {}).update(values)
    for name, gone in change.removed.items():
        for field in gone:
            view.get(name, {}).pop(field, None)
    return {name: values for name, values in view.items() if values}


views = st.dictionaries(
    st.sampled_from(["open", "other", "typed"]),
    st.dictionaries(st.sampled_from(FIELDS), st.integers(4, 6), min_size=1),
)


@given(views, st.lists(contents(), min_size=1, max_size=6))
@settings(max_examples=80)
def test_a_folded_change_does_what_each_does(
    view: dict[str, dict[str, Any]], several: list[Contents]
) -> None:
    """Applying the fold of any chain equals applying one after the other, and leaves the chain as it was."""
    changes = chain(several)
    before = deepcopy(changes)
    folded = fold(changes)
    expected = view
    for change in changes:
        expected = applied(expected, change)
    assert applied(view, folded) == expected
    assert changes == before


@given(st.lists(contents(), min_size=1, max_size=6))
@settings(max_examples=50)
def test_a_folded_change_goes_from_the_first_to_the_newest(several: list[Contents]) -> None:
    """It leads from what the first one follows to the newest, with its time and origin, and says no more than it must."""
    changes = chain(several)
    folded = fold(changes)
    assert folded.change.previous == changes[0].change.previous
    newest = changes[-1].change
    assert (folded.change.revision, folded.change.at, folded.change.origin) == (
        newest.revision,
        newest.at,
        newest.origin,
    )
    for name, gone in folded.removed.items():
        assert gone == sorted(set(gone))
        assert gone
        assert not set(gone) & set(folded.changed.get(name, {}))


@given(st.lists(contents(), min_size=3, max_size=6), st.data())
@settings(max_examples=50)
def test_folding_in_parts_is_folding_at_once(several: list[Contents], data: st.DataObject) -> None:
    """Wherever a chain is cut, folding the folds of its parts gives the fold of the whole."""
    changes = chain(several)
    cut = data.draw(st.integers(1, len(changes) - 1))
    in_parts = fold([fold(changes[:cut]), fold(changes[cut:])])
    at_once = fold(changes)
    assert in_parts.change == Change(
        at_once.change.revision, at_once.change.previous, at_once.change.at, at_once.change.origin
    )
    assert in_parts.changed == at_once.changed
    assert in_parts.removed == at_once.removed

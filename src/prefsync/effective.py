"""Changes as clients see them: in the effective values of the schema that shows them. Pure, without I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prefsync.document import Change
from prefsync.strictjson import encode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import JsonValue

    from prefsync.document import Values
    from prefsync.schema import Schema

__all__ = ["EffectiveChange", "fold", "fold_beyond", "present"]


@dataclass(frozen=True, slots=True)
class EffectiveChange:
    """A change as clients see it.

    Attributes:
        change: As it was logged; of a folded one, only its revisions, time and origin mean anything.
        changed: Whole fields with their new effective values.
        removed: Names that are gone from open namespaces.
    """

    change: Change
    changed: Values = field(default_factory=dict)
    removed: Mapping[str, list[str]] = field(default_factory=dict)


def present(schema: Schema, change: Change) -> EffectiveChange:
    """Show a logged change in the effective values of a schema; what it does not declare is left out."""
    changed: dict[str, dict[str, JsonValue]] = {}
    removed: dict[str, list[str]] = {}
    for name, namespace in schema.namespaces.items():
        assigned, unset = change.assigned.get(name, {}), change.unset.get(name, [])
        if not assigned and not unset:
            continue
        if namespace.is_open:
            values = dict(assigned)
            if unset:
                removed[name] = sorted(unset)
        else:
            values = {field: namespace.defaults[field] for field in unset if field in namespace.defaults}
            values |= {
                field: namespace.shown(field, value)
                for field, value in assigned.items()
                if field in namespace.defaults
            }
        if values:
            changed[name] = values
    return EffectiveChange(change, changed, removed)


def fold(changes: Sequence[EffectiveChange]) -> EffectiveChange:
    """Return the one change that does what several do, each following the one before it.

    Args:
        changes: At least one, oldest first.
    """
    if len(changes) == 1:
        return changes[0]
    changed: dict[str, dict[str, JsonValue]] = {}
    removed: dict[str, set[str]] = {}
    for one in changes:
        for name, gone in one.removed.items():
            removed.setdefault(name, set()).update(gone)
            for key in gone:
                changed.get(name, {}).pop(key, None)
        for name, values in one.changed.items():
            changed.setdefault(name, {}).update(values)
            removed.get(name, set()).difference_update(values)
    first, newest = changes[0].change, changes[-1].change
    return EffectiveChange(
        Change(newest.revision, first.previous, newest.at, newest.origin),
        {name: values for name, values in changed.items() if values},
        {name: sorted(gone) for name, gone in removed.items() if gone},
    )


def fold_beyond(changes: Sequence[EffectiveChange], size: int) -> Sequence[EffectiveChange]:
    """Return changes as they are, or folded into one where their values are more than so many bytes.

    Args:
        changes: Each following the one before it, oldest first.
        size: As JSON.
    """
    if len(changes) > 1:
        for change in changes:
            size -= len(encode(change.changed))
            if size < 0:
                return (fold(changes),)
    return changes

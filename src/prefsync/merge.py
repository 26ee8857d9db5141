"""What a write does to stored values: pure functions from one document to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from prefsync.document import Change, Document
from prefsync.errors import FieldError, InvalidPreferencesError
from prefsync.strictjson import Limits, canonical, equal, pointer, problems_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from prefsync.document import NamespaceValues, Values
    from prefsync.schema import Namespace, Schema

__all__ = ["Assign", "Edit", "Mutation", "Patch", "Replace", "Reset", "merge_patch"]


def merge_patch(target: JsonValue, patch: JsonValue) -> JsonValue:
    """Apply a JSON merge patch (RFC 7396, section 2) and leave both arguments as they were."""
    if not isinstance(patch, dict):
        return patch
    result: dict[str, JsonValue] = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


@dataclass(frozen=True, slots=True)
class Replace:
    """Replace a namespace's values; declared fields left out go back to their defaults."""

    values: NamespaceValues
    is_checked: bool = field(default=False, compare=False)
    """Whether it is known that the values keep the limits."""

    def apply(self, namespace: Namespace, stored: NamespaceValues) -> dict[str, JsonValue]:
        """Return the new stored values, undeclared ones of a newer schema kept."""
        if namespace.is_open or stored.keys() <= namespace.defaults.keys():
            return dict(self.values)
        return {**{k: v for k, v in stored.items() if k not in namespace.defaults}, **self.values}


@dataclass(frozen=True, slots=True)
class Patch:
    """Merge a patch (RFC 7396) over a namespace as reads show it; ``null`` takes a field back to its default."""

    patch: NamespaceValues

    def apply(self, namespace: Namespace, stored: NamespaceValues) -> dict[str, JsonValue]:
        """Return the new stored values; only fields that the patch names differ."""
        result = dict(stored)
        for name, value in self.patch.items():
            if value is None:
                result.pop(name, None)
            else:
                result[name] = merge_patch(stored.get(name, namespace.defaults.get(name)), value)
        return result


@dataclass(frozen=True, slots=True)
class Assign:
    """Set whole fields and take others away, ``null`` being a value like any other: what host code does."""

    values: NamespaceValues
    removed: frozenset[str] = frozenset()

    def apply(self, namespace: Namespace, stored: NamespaceValues) -> dict[str, JsonValue]:
        """Return the new stored values."""
        del namespace  # the same for open and typed ones
        return {**{name: value for name, value in stored.items() if name not in self.removed}, **self.values}


@dataclass(frozen=True, slots=True)
class Reset:
    """Take a namespace back to its defaults, with all that is stored in it."""

    def apply(self, namespace: Namespace, stored: NamespaceValues) -> dict[str, JsonValue]:
        """Return nothing: no stored value is left."""
        del namespace, stored
        return {}


Edit: TypeAlias = Replace | Patch | Assign | Reset


@dataclass(frozen=True, slots=True)
class Edited:
    """What a mutation leaves.

    Attributes:
        values: The new stored values; those of a namespace that stays as it was are the same object.
        errors: What is wrong with them.
        valid: The namespaces of which it is known that the model takes all that is stored.
    """

    values: dict[str, NamespaceValues]
    errors: list[FieldError] = field(default_factory=list)
    valid: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Mutation:
    """What one write does.

    Attributes:
        edits: By namespace; others stay as they are.
    """

    edits: Mapping[str, Edit] = field(default_factory=dict)

    @classmethod
    def replace_all(cls, schema: Schema, values: Values) -> Mutation:
        """Replace every namespace; those left out go back to their defaults."""
        return cls({name: Replace(values.get(name, {})) for name in schema.namespaces})

    @classmethod
    def reset_all(cls, schema: Schema) -> Mutation:
        """Take everything that is declared back to its default."""
        return cls({name: Reset() for name in schema.namespaces})

    def apply(self, schema: Schema, document: Document, limits: Limits) -> Values:
        """Return the stored values that this write leaves.

        Raises:
            InvalidPreferencesError: The result breaks a model's rules or a limit.
        """
        return self.edit(schema, document, limits).values

    def edit(self, schema: Schema, document: Document, limits: Limits) -> Edited:
        """Return what this write leaves.

        Raises:
            InvalidPreferencesError: As :meth:`apply` does.
        """
        edited = self._edit_all(schema, document, limits)
        if edited.errors:
            raise InvalidPreferencesError(edited.errors)
        return edited

    def errors_upon(self, schema: Schema, document: Document, limits: Limits) -> list[FieldError]:
        """Return what :meth:`apply` would refuse."""
        return self._edit_all(schema, document, limits).errors

    def _edit_all(self, schema: Schema, document: Document, limits: Limits) -> Edited:
        result = Edited(dict(document.values))
        for name, edit in self.edits.items():
            namespace = schema[name]
            stored = document.values.get(name, {})
            fits = document.is_known_to_fit(namespace.model)
            if fits and isinstance(edit, Replace) and edit.values is stored:
                result.valid.add(name)  # sent back as it was
                continue
            values, errors, valid = _edited(namespace, edit, stored, limits, fits=fits)
            result.errors.extend(errors)
            if valid:
                result.valid.add(name)
            if values:
                result.values[name] = values
            else:
                result.values.pop(name, None)
        return result


def _edited(
    namespace: Namespace, edit: Edit, stored: NamespaceValues, limits: Limits, *, fits: bool
) -> tuple[NamespaceValues, list[FieldError], bool]:
    """Return new stored values, what is wrong with them, and whether the model is known to take all of them.

    Args:
        namespace: Which.
        edit: What to do.
        stored: The stored values.
        limits: How large they may be.
        fits: Whether the model is known to take all of the stored values.
    """
    touched = _touched(edit)
    values = edit.apply(namespace, stored)
    is_checked = isinstance(edit, Replace) and edit.is_checked and len(values) == len(edit.values)
    errors = [] if not values else _rule_errors(namespace, stored, values)
    knows_all = namespace.is_open or values.keys() <= namespace.defaults.keys()
    if errors or (not fits and _merges_into(touched, stored)):
        # Something stored earlier may not fit any more. It reads as its default, so the edit is made upon that; and
        # it stays stored where the edit leaves it alone, because a newer version of the host's code may know it.
        valid = namespace.valid_part(stored)
        values = edit.apply(namespace, valid)
        errors = _rule_errors(namespace, stored, values)
        if not isinstance(edit, Reset):
            kept = namespace.defaults.keys() if isinstance(edit, Replace) else touched.keys()
            aside = {name: value for name, value in stored.items() if name not in valid and name not in kept}
            values = {**values, **aside}
        knows_all = False
    if not namespace.is_open and not touched.keys() <= namespace.defaults.keys():
        errors += [
            FieldError(pointer(namespace.name, name), "extra_forbidden", "Extra inputs are not permitted")
            for name in touched
            if name not in namespace.defaults
        ]
    if not is_checked:
        errors += problems_in(dict(values), limits, at=(namespace.name,))
    if len(values) > limits.fields:
        detail = f"a namespace may have at most {limits.fields} fields"
        errors.append(FieldError(pointer(namespace.name), "too_many_fields", detail))
    return canonical(values), errors, knows_all and not errors


def _touched(edit: Edit) -> Mapping[str, Any]:
    """Return the fields that an edit names, with what it says of them."""
    match edit:
        case Replace(values):
            return values
        case Patch(patch):
            return patch
        case Assign(values, removed):
            return {**dict.fromkeys(removed), **values}
        case Reset():
            return {}


def _merges_into(touched: Mapping[str, Any], stored: NamespaceValues) -> bool:
    """Tell whether a merge goes into a stored field, and not just over it."""
    return any(isinstance(value, dict) and name in stored for name, value in touched.items())


def _rule_errors(namespace: Namespace, stored: NamespaceValues, values: NamespaceValues) -> list[FieldError]:
    """Ask the model about all that it declares."""
    if namespace.is_open:
        return []
    if values.keys() <= namespace.defaults.keys():
        return namespace.errors_upon(stored, values)
    declared = {name: value for name, value in values.items() if name in namespace.defaults}
    return namespace.errors_upon(stored, declared)


def difference(
    before: Document, after: Values, *, now: int, origin: str | None, limits: Limits
) -> tuple[Document, Change] | None:
    """Return the next document and the change that leads to it, or ``None`` where nothing differs.

    Args:
        before: The document the write was made upon.
        after: Its new stored values.
        now: In ms since 1970.
        origin: The name the client gives itself.
        limits: How large the document may be.

    Raises:
        InvalidPreferencesError: It would be larger.
    """
    assigned: dict[str, dict[str, JsonValue]] = {}
    unset: dict[str, list[str]] = {}
    replaced: dict[str, dict[str, JsonValue]] = {}
    for name in before.values.keys() | after.keys():
        old, new = before.values.get(name, {}), after.get(name, {})
        if old is new:
            continue
        changed = {
            field: value
            for field, value in new.items()
            if field not in old or not (old[field] is value or equal(old[field], value))
        }
        gone = [field for field in old if field not in new]
        if changed:
            assigned[name] = changed
        if gone:
            unset[name] = gone
        if was := {field: old[field] for field in (*changed, *gone) if field in old}:
            replaced[name] = was
    if not assigned and not unset:
        return None
    revision = before.next_revision(now)
    touched: dict[str, Any] = dict.fromkeys((*assigned, *unset), revision)
    document = Document(revision, after, {**before.revisions, **touched}, before.floor)
    if len(document.values_json) > limits.document:
        detail = f"the stored document would be larger than {limits.document} bytes"
        raise InvalidPreferencesError([FieldError("", "document_too_large", detail)])
    return document, Change(revision, before.revision, now, origin, assigned, unset, replaced)

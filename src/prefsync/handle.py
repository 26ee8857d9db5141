"""The typed handle: preferences in the host's own code."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pydantic_core import to_jsonable_python

from prefsync.errors import FieldError, InvalidPreferencesError
from prefsync.merge import Assign, Mutation, Reset
from prefsync.schema import OpenPreferences, Preferences
from prefsync.strictjson import encode, equal, pointer, problems_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prefsync.document import Snapshot, Subject
    from prefsync.schema import Namespace, Schema

__all__ = ["PreferencesHandle"]

P = TypeVar("P", bound=Preferences | OpenPreferences)


class _Service(Protocol):
    """Where preferences are read and written: ``PreferenceService``, or a transaction of the host's."""

    @property
    def schema(self) -> Schema: ...

    async def read(self, subject: Subject, /) -> Snapshot: ...

    async def write(self, subject: Subject, mutation: Mutation, /) -> Snapshot: ...


class PreferencesHandle:
    """One subject's preferences, read and written as the host's own models.

    Args:
        service: Where they are.
        subject: Whose they are.
    """

    def __init__(self, service: _Service, subject: Subject) -> None:
        self._service = service
        self.subject = subject

    async def get(self, model: type[P]) -> P:
        """Return a namespace's effective values.

        Raises:
            UndeclaredNamespaceError: The model was not declared.
            UnavailableError: Neither cache nor database can answer.
        """
        namespace = self._service.schema.of(model)
        return _typed(model, namespace, await self._service.read(self.subject))

    @asynccontextmanager
    async def edit(self, model: type[P]) -> AsyncIterator[P]:
        """Change a namespace in place: ``async with prefs.edit(Appearance) as mine: mine.theme = "dark"``.

        When the block ends, the fields that were assigned or changed are written and no others, so that edits of
        different fields never undo one another. When it raises, nothing is written.

        Raises:
            InvalidPreferencesError: The values break the model's rules; nothing was written.
            UnavailableError: The database is out of reach.
        """
        namespace = self._service.schema.of(model)
        values = _validated(model, (await self._service.read(self.subject)).values[namespace.name])
        values.model_fields_set.clear()
        before = _dumped(values)
        yield values
        await self._write(namespace, _edit_between(namespace, before, values))

    async def update(self, model: type[P], **fields: Any) -> P:
        """Set some fields of a namespace and return it as it is then.

        Args:
            model: The namespace's model.
            **fields: New values by field.

        Raises:
            InvalidPreferencesError: A field is not declared, or a value breaks the model's rules; nothing was written.
            UnavailableError: The database is out of reach.
        """
        namespace = self._service.schema.of(model)
        return _typed(model, namespace, await self._write(namespace, Assign(_as_json(namespace, fields))))

    async def reset(self, model: type[P], *fields: str) -> P:
        """Take fields, or without any the whole namespace, back to their defaults.

        Raises:
            InvalidPreferencesError: A field is not declared.
            UnavailableError: The database is out of reach.
        """
        namespace = self._service.schema.of(model)
        names = frozenset(_wire_name(namespace, name) for name in fields)
        if not namespace.is_open and (unknown := sorted(names - namespace.defaults.keys())):
            errors = [
                FieldError(pointer(namespace.name, name), "extra_forbidden", "no such field")
                for name in unknown
            ]
            raise InvalidPreferencesError(errors)
        edit = Assign({}, names) if fields else Reset()
        return _typed(model, namespace, await self._write(namespace, edit))

    async def _write(self, namespace: Namespace, edit: Assign | Reset) -> Snapshot:
        if isinstance(edit, Assign) and (errors := problems_in(dict(edit.values), at=(namespace.name,))):
            raise InvalidPreferencesError(errors)
        return await self._service.write(self.subject, Mutation({namespace.name: edit}))


def _typed(model: type[P], namespace: Namespace, snapshot: Snapshot) -> P:
    return _validated(model, snapshot.values[namespace.name])


def _validated(model: type[P], values: Any) -> P:
    validated: Any = model.model_validate_json(encode(values), strict=True)
    return validated  # type: ignore[no-any-return]  # an instance of the model, as pydantic promises


def _dumped(values: Preferences | OpenPreferences) -> dict[str, Any]:
    """Write a model as JSON values; what is wrong in it is for the write to say."""
    dumped: dict[str, Any] = values.model_dump(mode="json", by_alias=True, warnings=False)
    return dumped


def _edit_between(namespace: Namespace, before: Any, after: Preferences | OpenPreferences) -> Assign:
    dumped = _dumped(after)
    if namespace.is_open:
        changed = {
            name: value
            for name, value in dumped.items()
            if name not in before or not equal(before[name], value)
        }
        return Assign(changed, frozenset(name for name in before if name not in dumped))
    assigned = {_wire_name(namespace, name) for name in after.model_fields_set}
    now = {name: dumped[name] for name in namespace.defaults}
    return Assign(
        {name: value for name, value in now.items() if name in assigned or not equal(before[name], value)}
    )


def _as_json(namespace: Namespace, fields: dict[str, Any]) -> dict[str, Any]:
    """Write values that the host gave in Python's types (an enum, a date) as the JSON that the model reads."""
    if namespace.is_open:
        return dict(to_jsonable_python(fields))
    model: Any = namespace.model
    draft = model.model_construct(**fields)
    dumped = draft.model_dump(mode="json", by_alias=True, include=set(fields), warnings=False)
    return {**{name: value for name, value in fields.items() if name not in model.model_fields}, **dumped}


def _wire_name(namespace: Namespace, field_name: str) -> str:
    info = namespace.model.model_fields.get(field_name)
    return (info.alias if info else None) or field_name

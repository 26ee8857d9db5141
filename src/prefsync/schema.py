"""What a host declares: namespaces as pydantic models, their defaults, their rules, one fingerprint of it all."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, JsonValue, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema

from prefsync.errors import ConfigurationError, FieldError, UndeclaredNamespaceError
from prefsync.json_schema import json_schema_of, tag_of
from prefsync.models import OpenPreferences, Preferences, PreferencesModel
from prefsync.strictjson import Limits, canonical, encode, equal, pointer, problems_in

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from pydantic_core import ErrorDetails

    from prefsync.document import Document, NamespaceValues

__all__ = ["Namespace", "OpenPreferences", "Preferences", "PreferencesModel", "Schema", "listed"]

logger = logging.getLogger("prefsync")

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")

# Paths of the protocol below the mount's prefix (protocol.md section 2).
RESERVED_NAMES: Final = frozenset(
    {"schema", "changes", "events", "ws", "ticket", "sync", "history", "export", "erase", "explain", "client"}
)


@dataclass(frozen=True, slots=True)
class Namespace:
    """One declared namespace.

    Attributes:
        name: As in paths and documents.
        model: The host's class.
        is_open: Whether any name is taken.
        defaults: Each declared field's default, in canonical form and declared order; empty for an open namespace.
        has_number_choices: Whether integers are among what an enumeration or a literal somewhere in it admits.
        is_closed: Whether a write may add no undeclared members to the models within.
    """

    name: str
    model: PreferencesModel
    is_open: bool
    defaults: Mapping[str, JsonValue] = field(default_factory=dict)
    has_number_choices: bool = False
    is_closed: bool = False

    def errors_in(self, values: NamespaceValues) -> list[FieldError]:
        """List what the model refuses, each with its pointer from the document's root."""
        if self.is_open:
            return []
        errors: list[FieldError] = []
        try:
            taken: Any = self.model.model_validate_json(encode(values), strict=True)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            errors = [
                FieldError(pointer(self.name, *_place(entry, values)), entry["type"], entry["msg"])
                for entry in found
            ]
            wrong = {entry["loc"][0] for entry in found if entry["loc"]}
            rest = {name: value for name, value in values.items() if name not in wrong}
            if self.has_number_choices and wrong and rest:
                errors += self.errors_in(rest)
            return errors
        if self.has_number_choices:
            dumped = taken.model_dump(mode="json", by_alias=True, warnings=False)
            errors += [
                FieldError(
                    pointer(self.name, *place), "literal_error", "Input should be an integer of those allowed"
                )
                for place in _mistaken(values, dumped)
            ]
        return errors

    def errors_upon(self, stored: NamespaceValues, values: NamespaceValues) -> list[FieldError]:
        """List what a write may not leave: what the model refuses, and undeclared members of models within it.

        An undeclared member that was stored before stays, as undeclared fields do: a newer version may know it.
        """
        errors = self.errors_in(values)
        if not self.is_closed:
            return errors
        try:
            self.model.model_validate_json(encode(values), strict=True, extra="forbid")
        except ValidationError as error:
            told = {error.pointer for error in errors}
            for entry in error.errors(include_url=False, include_context=False, include_input=False):
                place = tuple(_place(entry, values))
                where = pointer(self.name, *place)
                if entry["type"] == "extra_forbidden" and where not in told and not _is_in(stored, place):
                    errors.append(FieldError(where, entry["type"], entry["msg"]))
        return errors

    def valid_part(self, stored: NamespaceValues) -> NamespaceValues:
        """Return the declared fields of stored values that the model still takes.

        The rest stays stored: a newer version of the host's code may have put it there.
        """
        if self.is_open:
            return stored
        declared = {name: value for name, value in stored.items() if name in self.defaults}
        while declared:
            errors = self.errors_in(declared)
            if not errors:
                break
            wrong = {error.pointer.split("/", 3)[2] for error in errors if error.pointer.count("/") > 1}
            wrong = {name for name in declared if pointer(name)[1:] in wrong} or set(declared)
            logger.warning(
                "stored values do not fit the declared namespace any more and read as their defaults: %s",
                ", ".join(f"{self.name}.{name}" for name in sorted(wrong)),
                extra={"namespace": self.name, "fields": sorted(wrong)},
            )
            declared = {name: value for name, value in declared.items() if name not in wrong}
        return declared

    def shown(self, name: str, value: JsonValue) -> JsonValue:
        """Return what one stored field of a change shows: its default where the value does not fit by itself.

        Rules over several fields are not asked: the others are not part of the change.
        """
        here = pointer(self.name, name)
        wrong = any((error.pointer + "/").startswith(here + "/") for error in self.errors_in({name: value}))
        return self.defaults[name] if wrong else value

    def effective(self, stored: NamespaceValues) -> dict[str, JsonValue]:
        """Return stored values laid over the defaults."""
        return self.laid_over(self.valid_part(stored) if stored else stored)

    def laid_over(self, valid: NamespaceValues) -> dict[str, JsonValue]:
        """Return values that fit laid over the defaults."""
        if self.is_open:
            return dict(valid)
        return {name: valid.get(name, default) for name, default in self.defaults.items()}

    def shown_of(self, document: Document) -> dict[str, JsonValue]:
        """Return the effective values of a document, worked out once for each document."""
        found = document.shown.get(self.model)
        if found is None:
            stored = document.values.get(self.name, {})
            valid = self.valid_part(stored) if stored else stored
            found = document.shown[self.model] = (self.laid_over(valid), len(valid) == len(stored))
        return found[0]


class Schema:
    """All namespaces of one host.

    Args:
        models: Subclasses of :class:`Preferences` and :class:`OpenPreferences`, each with its namespace.

    Attributes:
        namespaces: By name, in declared order.
        tag: A short fingerprint of names, types and defaults; descriptions do not count.
        json_schema: JSON Schema 2020-12 of the effective values.

    Raises:
        ConfigurationError: A name is missing, malformed, reserved or taken twice; a field has no default, or a default
            breaks the model's own rules.
    """

    def __init__(self, models: Iterable[PreferencesModel]) -> None:
        namespaces: dict[str, Namespace] = {}
        for model in models:
            namespace = _declare(model)
            if namespace.name in namespaces:
                other = namespaces[namespace.name].model.__name__
                raise ConfigurationError(
                    f"{other} and {model.__name__} both declare the namespace {namespace.name!r}: rename one"
                )
            namespaces[namespace.name] = namespace
        if not namespaces:
            raise ConfigurationError(
                "no namespace is declared: pass at least one subclass of Preferences or OpenPreferences"
            )
        self.namespaces: Mapping[str, Namespace] = MappingProxyType(namespaces)
        self.json_schema: dict[str, Any] = json_schema_of(namespaces)
        self.tag = tag_of(self.json_schema)

    def __getitem__(self, name: str) -> Namespace:
        """Return a namespace by its name.

        Raises:
            UndeclaredNamespaceError: There is none of this name.
        """
        try:
            return self.namespaces[name]
        except KeyError:
            raise UndeclaredNamespaceError(
                f"no namespace {name[:64]!r}; declared are {', '.join(self.namespaces)}"
            ) from None

    def of(self, model: type[BaseModel]) -> Namespace:
        """Return the namespace that a model declares.

        Raises:
            UndeclaredNamespaceError: The model is not among those this schema was made of.
        """
        namespace = next((declared for declared in self.namespaces.values() if declared.model is model), None)
        if namespace is None:
            raise UndeclaredNamespaceError(
                f"{model.__name__} was not declared: add it to the models that PrefSync is made with"
            )
        return namespace

    def effective(self, stored: Mapping[str, NamespaceValues]) -> dict[str, dict[str, JsonValue]]:
        """Return stored values of all declared namespaces laid over the defaults."""
        return {
            name: namespace.effective(stored.get(name, {})) for name, namespace in self.namespaces.items()
        }

    def show(self, document: Document) -> dict[str, dict[str, JsonValue]]:
        """Return the effective values of a document."""
        shown = document.shown
        return {
            name: shown[model][0] if (model := namespace.model) in shown else namespace.shown_of(document)
            for name, namespace in self.namespaces.items()
        }

    def know(self, document: Document, before: Document, valid: Container[str]) -> None:
        """Spare the next document what is known already.

        Args:
            document: What a write left.
            before: What it was made upon.
            valid: The namespaces whose stored values are known to fit.
        """
        document.learn_from(before)
        for name, namespace in self.namespaces.items():
            model = namespace.model
            stored = document.values.get(name)
            if stored is before.values.get(name) and model in before.shown:
                document.shown[model] = before.shown[model]
            elif name in valid:
                document.shown[model] = (namespace.laid_over(stored or {}), True)


def listed(models: Iterable[PreferencesModel]) -> list[PreferencesModel]:
    """Return the models that a host has passed.

    Raises:
        ConfigurationError: It passed something else: one model without a list, say.
    """
    given: Any = models  # whatever the type says, this is where a host's mistake shows
    if isinstance(given, type):
        raise ConfigurationError(f"namespaces are passed in a list: [{given.__name__}]")
    try:
        return list(given)
    except TypeError:
        raise ConfigurationError(
            f"namespaces are passed in a list, of subclasses of Preferences; this is a {type(given).__name__}"
        ) from None


def _declare(model: PreferencesModel) -> Namespace:
    given: Any = model  # whatever the type says, this is where a host's mistake shows
    if not (isinstance(given, type) and issubclass(given, Preferences | OpenPreferences)):
        raise ConfigurationError(f"{model!r} is no namespace: derive it from Preferences or OpenPreferences")
    name = model.namespace_name
    if name is None:
        raise ConfigurationError(
            f'{model.__name__} names no namespace: write class {model.__name__}(..., namespace="...")'
        )
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{model.__name__}: the namespace {name!r} must match {_NAME.pattern}")
    if name in RESERVED_NAMES:
        raise ConfigurationError(
            f"{model.__name__}: the namespace {name!r} is a path of the protocol; choose another name"
        )
    if issubclass(model, OpenPreferences):
        return Namespace(name, model, is_open=True)
    defaults = MappingProxyType(_defaults(name, model))
    try:
        has_number_choices = _has_number_choices(model.model_json_schema())
        is_closed = _has_closed_models(model)
    except PydanticInvalidForJsonSchema as error:
        raise ConfigurationError(
            f"{model.__name__}: a type of its fields is none of JSON: {error.message}"
        ) from None
    return Namespace(
        name,
        model,
        is_open=False,
        defaults=defaults,
        has_number_choices=has_number_choices,
        is_closed=is_closed,
    )


def _has_closed_models(model: type[BaseModel]) -> bool:
    """Tell whether there are models within, none of which takes undeclared members, or writes more than it reads."""
    read, written = (
        model.model_json_schema(mode=mode).get("$defs", {}) for mode in ("validation", "serialization")
    )
    models = {name: schema for name, schema in read.items() if "properties" in schema}
    return bool(models) and not any(
        schema.get("additionalProperties")
        or schema["properties"].keys() != written.get(name, {}).get("properties", {}).keys()
        for name, schema in models.items()
    )


def _has_number_choices(json_schema: Any) -> bool:
    match json_schema:
        case {"enum": [*choices]} if any(isinstance(choice, int) for choice in choices):
            return True
        case {"const": int()}:
            return True
        case dict():
            return any(_has_number_choices(value) for value in json_schema.values())
        case list():
            return any(_has_number_choices(value) for value in json_schema)
        case _:
            return False


def _mistaken(given: Any, taken: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the places where ``true`` or ``1.0`` passed for ``1``, or ``1`` for ``true``.

    Pydantic looks choices up by equality, and in Python these are equal.
    """
    if isinstance(given, dict) and isinstance(taken, dict):
        for name in given.keys() & taken.keys():
            yield from _mistaken(given[name], taken[name], (*place, name))
    elif isinstance(given, list) and isinstance(taken, list):
        for index, (one, other) in enumerate(zip(given, taken, strict=False)):
            yield from _mistaken(one, other, (*place, index))
    # An integer that is taken for a double is the same number, in JSON and in every store.
    elif type(given) in {bool, int, float} and type(taken) in {bool, int} - {type(given)} and given == taken:
        yield place


def _defaults(namespace: str, model: type[Preferences]) -> dict[str, JsonValue]:
    """Return a typed namespace's defaults as JSON, once it is sure that they can serve as such."""
    wire_names: dict[str, str] = {}
    for field_name, info in model.model_fields.items():
        if info.validation_alias not in (None, info.alias) or info.serialization_alias not in (
            None,
            info.alias,
        ):
            raise ConfigurationError(
                f"{model.__name__}.{field_name}: give one alias for both directions (Field(alias=...))"
            )
        if info.is_required():
            raise ConfigurationError(
                f"{model.__name__}.{field_name} has no default: every preference needs one"
            )
        wire_name = field_name if info.alias is None else info.alias
        if not wire_name:
            raise ConfigurationError(
                f"{model.__name__}.{field_name}: its alias is empty; leave it out, or name the field by it"
            )
        if wire_name in wire_names:
            raise ConfigurationError(
                f"{model.__name__}: {wire_names[wire_name]} and {field_name} are both called {wire_name!r} on the wire:"
                " change an alias"
            )
        wire_names[wire_name] = field_name
    try:
        dumped = [model().model_dump(mode="json", by_alias=True, warnings=False) for _ in range(2)]
        first, second = ({name: canonical(values[name]) for name in wire_names} for values in dumped)
        model.model_validate_json(encode(first), strict=True)
    except ValidationError as error:
        entry = error.errors()[0]
        place = ".".join(str(step) for step in entry["loc"]) or "its fields together"
        raise ConfigurationError(
            f"{model.__name__}: the default of {place} breaks the model's own rules: {entry['msg']}"
        ) from None
    except Exception as error:
        raise ConfigurationError(
            f"{model.__name__}: its defaults cannot be written as JSON: {error}"
        ) from error
    if not equal(first, second):
        raise ConfigurationError(
            f"{model.__name__}: a default_factory gives another value on each call; a default must be constant"
        )
    for problem in problems_in(first, Limits(), at=(namespace,)):
        raise ConfigurationError(
            f"{model.__name__}: the default at {problem.pointer} cannot be kept: {problem.detail}"
        )
    return first


def _is_in(value: Any, place: Iterable[str | int]) -> bool:
    """Tell whether there is anything at a place."""
    for step in place:
        members = (
            value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, list) else {}
        )
        if step not in members:
            return False
        value = members[step]
    return True


def _place(error: ErrorDetails, values: Any) -> Iterator[str | int]:
    """Keep the steps of a pydantic location that are steps into the value.

    Pydantic also names the member of a union that it tried, or ``[key]``: nothing a client could follow.
    """
    here: Any = values
    for step in error["loc"]:
        members = here if isinstance(here, dict) else dict(enumerate(here)) if isinstance(here, list) else {}
        if step in members:
            here = members[step]
        elif error["type"] == "missing" and step == error["loc"][-1]:
            here = None  # a required member: the place where it belongs
        else:
            continue
        yield step

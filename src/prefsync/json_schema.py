"""What a host has declared as JSON Schema, and a fingerprint of that."""

from __future__ import annotations

from base64 import b32hexencode
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol

from pydantic.json_schema import models_json_schema

from prefsync.strictjson import Limits, digestible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefsync.document import NamespaceValues
    from prefsync.models import PreferencesModel

__all__ = ["json_schema_of", "tag_of"]


class Declared(Protocol):
    """A namespace.

    Attributes:
        model: As the host declared it.
        is_open: Whether it takes any name.
        defaults: By field.
        is_closed: Whether the models within take no undeclared members.
    """

    @property
    def model(self) -> PreferencesModel:
        """As the host declared it."""

    @property
    def is_open(self) -> bool:
        """Whether it takes any name."""

    @property
    def defaults(self) -> NamespaceValues:
        """By field."""

    @property
    def is_closed(self) -> bool:
        """Whether the models within take no undeclared members."""


def json_schema_of(namespaces: Mapping[str, Declared]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the effective values of all namespaces."""
    keys, definitions = models_json_schema(
        [(namespace.model, "validation") for namespace in namespaces.values() if not namespace.is_open],
        ref_template="#/$defs/{model}",
    )
    definitions = definitions.get("$defs", {})
    properties: dict[str, Any] = {}
    for name, namespace in namespaces.items():
        if namespace.is_open:
            properties[name] = {
                "title": namespace.model.__name__,
                "type": "object",
                "additionalProperties": True,
                "propertyNames": {"maxLength": Limits().name},
                "maxProperties": Limits().fields,
                "default": {},
            }
            if namespace.model.__doc__:
                properties[name]["description"] = namespace.model.__doc__
            continue
        reference = keys[namespace.model, "validation"]["$ref"].removeprefix("#/$defs/")
        schema = dict(definitions[reference])
        schema["properties"] = {
            name_: {**rules, "default": namespace.defaults[name_]}
            for name_, rules in schema.get("properties", {}).items()
        }
        properties[name] = schema
    lax = [properties[name] for name, namespace in namespaces.items() if not namespace.is_closed]
    in_lax = _reached(lax, definitions)
    used = {
        name: definition
        if name in in_lax or "properties" not in definition
        else {**definition, "additionalProperties": False}
        for name, definition in definitions.items()
        if name in _reached(properties, definitions)
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Preferences",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"$defs": used} if used else {}),
    }


def _reached(tree: Any, definitions: Mapping[str, Any]) -> set[str]:
    """Return the names of all definitions that something refers to, others of them included."""
    found: set[str] = set()
    waiting = [tree]
    while waiting:
        match waiting.pop():
            case {"$ref": str(reference), **more}:
                name = reference.removeprefix("#/$defs/")
                waiting.append(more)
                if name in definitions and name not in found:  # it may be of a default, whatever that is
                    found.add(name)
                    waiting.append(definitions[name])
            case dict() as members:
                waiting += members.values()
            case list() as items:
                waiting += items
    return found


def tag_of(json_schema: dict[str, Any]) -> str:
    """Return a short fingerprint of a JSON Schema: of its rules and defaults, not of its words."""
    digest = blake2b(digestible(_without_words(json_schema)), digest_size=5).digest()
    return b32hexencode(digest).decode().lower()


def _without_words(value: Any, *, names: bool = False) -> Any:
    """Drop titles and descriptions of a JSON Schema, but no property that happens to have such a name."""
    match value:
        case dict():
            return {
                name: _without_words(item, names=name in {"properties", "$defs"} and not names)
                for name, item in value.items()
                if names or name not in {"title", "description"}
            }
        case list():
            return [_without_words(item) for item in value]
        case _:
            return value

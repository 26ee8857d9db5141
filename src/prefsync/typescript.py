"""TypeScript declarations of what a host has declared, for the browser client and other front ends.

Made here, in Python, and not by ``json-schema-to-typescript``: a host whose front end is a plain page, or whose CI job for
the back end has no Node.js, can then still write and check them, and what pydantic says in JSON Schema is little enough
to be read in one module. Whoever wants something else from ``GET {prefix}/schema`` can put any tool to it.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from prefsync.schema import Schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prefsync.models import PreferencesModel

__all__ = ["typescript"]

_HEAD: Final = "// Made by prefsync from the app's models: do not edit, make it anew."

_ALL: Final = "UserPreferences"

# Any value of JSON, as client.d.ts has it.
_JSON: Final = "export type Json = string | number | boolean | null | Json[] | { [name: string]: Json };"

# Words that name no interface, and names that stand in what is made.
_RESERVED: Final = frozenset(
    re.findall(
        r"\w+",
        """
        Json UserPreferences any as async await bigint boolean break case catch class const continue debugger default
        delete do else enum export extends false finally for function if implements import in instanceof interface let
        never new null number object package private protected public return static string super switch symbol this
        throw true try type typeof undefined unknown var void while with yield
        """,
    )
)

_PLAIN: Final = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "null": "null",
}

# What a type cannot say, and a comment can.
_RULES: Final = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "matches {}",
    "format": "format {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "uniqueItems": "no item twice",
    "minProperties": "at least {} members",
    "maxProperties": "at most {} members",
}

_IDENTIFIER: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")

# Characters of a default that a comment shows.
_LONGEST_DEFAULT: Final = 80


def typescript(models: Iterable[PreferencesModel]) -> str:
    r"""Return a module of TypeScript declarations; the same models give the same text, to the byte.

    ``UserPreferences`` has a member for each namespace, each with an interface of its own, named after its class. A
    field of a namespace is always there; a member of an object inside a field is optional where it has a default.
    Descriptions, defaults, and rules that no type can express (``ge``, ``pattern``) are in the comments. What has no
    counterpart becomes the next wider type: the server alone decides what is valid.

    Example:
        ```python
        Path("web/src/preferences.ts").write_text(typescript([Appearance, Plugins]), encoding="utf-8")
        ```

        ```ts
        import type { UserPreferences } from "./preferences";

        const prefs = await connect<UserPreferences>();
        prefs.get("appearance").theme; // "system" | "light" | "dark"
        ```

    Args:
        models: As :class:`~prefsync.Schema` takes them.

    Raises:
        ConfigurationError: The models cannot be preferences.
    """
    schema = Schema(models)
    return "\n".join(_Declarations(schema).lines()) + "\n"


class _Declarations:
    """The declarations of one schema.

    Args:
        schema: Of the host.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._definitions: dict[str, Any] = schema.json_schema.get("$defs", {})
        self._needs_json = False
        taken = set(_RESERVED)
        self._namespaces = {
            name: _name(namespace.model.__name__, taken) for name, namespace in schema.namespaces.items()
        }
        self._names = {key: _name(key, taken) for key in sorted(self._definitions)}

    def lines(self) -> Iterator[str]:
        """Yield the module's lines."""
        body = [*self._all(), *self._interfaces()]
        yield _HEAD
        if self._needs_json:
            yield from ("", _JSON)
        yield from body

    def _all(self) -> Iterator[str]:
        yield from ("", "/** Values by field, by namespace: what `connect` of the browser client takes. */")
        yield f"export interface {_ALL} {{"
        for name, interface in self._namespaces.items():
            yield f"  {name}: {interface};"
        yield "}"

    def _interfaces(self) -> Iterator[str]:
        for name, interface in self._namespaces.items():
            declared = self._schema.json_schema["properties"][name]
            every = list(declared.get("properties", {}))
            yield from self._declaration(interface, {**declared, "required": every})
        for key, name in self._names.items():
            yield from self._declaration(name, self._definitions[key])

    def _declaration(self, name: str, schema: Any) -> Iterator[str]:
        yield ""
        if not self._is_object(schema):
            yield from _comment(schema, "")
            yield f"export type {name} = {self._type(schema)};"
            return
        yield from _comment({"description": schema.get("description", "")}, "")
        yield f"export interface {name} {{"
        for member, rules, mark in _members(schema):
            yield from _comment(rules, "  ")
            yield f"  {_key(member)}{mark}: {self._type(rules)};"
        if index := self._index(schema):
            yield f"  {index};"
        yield "}"

    def _is_object(self, schema: Any) -> bool:
        """Tell whether an interface can be made of a schema: names that are a union are for types alone."""
        return (
            isinstance(schema, dict)
            and schema.get("type") == "object"
            and not {"$ref", "const", "enum", "anyOf", "oneOf", "allOf"} & schema.keys()
            and self._names_of(schema.get("propertyNames", {})) is None
        )

    def _type(self, schema: Any) -> str:
        """Return a type; a union stands without parentheses."""
        match schema:
            case {"$ref": str(reference)}:
                made = self._names.get(reference.removeprefix("#/$defs/")) or self._any()
            case {"const": value}:
                made = _literal(value)
            case {"enum": [_, *_] as values}:
                made = _union(map(_literal, values))
            case {"anyOf": [_, *_] as choices} | {"oneOf": [_, *_] as choices}:
                made = _union(map(self._type, choices))
            case {"allOf": [_, *_] as parts}:
                made = " & ".join(dict.fromkeys(_grouped(self._type(part)) for part in parts))
            case {"type": kind}:
                made = self._of_kind(kind, schema)
            case _:
                made = "never" if schema is False else self._any()
        return made

    def _of_kind(self, kind: Any, schema: Mapping[str, Any]) -> str:
        match kind:
            case [_, *_]:
                return _union(self._of_kind(one, schema) for one in kind)
            case "array":
                return self._array(schema)
            case "object":
                return self._object(schema)
            case _:
                return _PLAIN.get(str(kind)) or self._any()

    def _any(self) -> str:
        self._needs_json = True
        return "Json"

    def _array(self, schema: Mapping[str, Any]) -> str:
        first = schema.get("prefixItems", [])
        rest = schema.get("items", True)
        is_open = rest is not False and schema.get("maxItems", len(first) + 1) > len(first)
        if not first:
            return f"{_grouped(self._type(rest))}[]" if is_open else "[]"
        sure = schema.get("minItems", 0)
        items = [
            _grouped(self._type(item)) + ("" if place < sure else "?") for place, item in enumerate(first)
        ]
        if is_open:
            items.append(f"...{_grouped(self._type(rest))}[]")
        return f"[{', '.join(items)}]"

    def _object(self, schema: Mapping[str, Any]) -> str:
        members = [f"{_key(name)}{mark}: {self._type(rules)}" for name, rules, mark in _members(schema)]
        if index := self._index(schema):
            members.append(index)
        return f"{{ {'; '.join(members)} }}" if members else "{}"

    def _index(self, schema: Mapping[str, Any]) -> str:
        """Return what an object may hold under names that are not told one by one; nothing where it may not."""
        rest = schema.get("additionalProperties", not schema.get("properties"))
        if rest is False:
            return self._patterns(schema)
        if schema.get("properties"):
            return "[name: string]: unknown"  # in TypeScript, what is told one by one must fit in here
        names = self._names_of(schema.get("propertyNames", {}))
        if names is not None:
            return f"[name in {names}]?: {self._type(rest)}"
        return self._patterns(schema) or f"[name: string]: {self._type(rest)}"

    def _patterns(self, schema: Mapping[str, Any]) -> str:
        patterns = schema.get("patternProperties", {}).values()
        if not patterns:
            return ""
        kind = "unknown" if schema.get("properties") else _union(map(self._type, patterns))
        return f"[name: string]: {kind}"

    def _names_of(self, names: Any) -> str | None:
        """Return the union of the names that an object may have, where they are told."""
        if "$ref" in names:
            return self._names_of(self._definitions.get(names["$ref"].removeprefix("#/$defs/"), {}))
        if "enum" in names or "const" in names:
            return self._type(names)
        return None


def _members(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Yield the members of an object, each with its rules and the mark of those that may be missing."""
    required = schema.get("required", ())
    for name, rules in schema.get("properties", {}).items():
        yield name, rules, "" if name in required else "?"


def _union(types: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(types))


def _grouped(kind: str) -> str:
    """Return a type that something can be put behind."""
    simple = _IDENTIFIER.fullmatch(kind) or not re.search(r" [|&] ", kind)
    return kind if simple else f"({kind})"


def _literal(value: Any) -> str:
    """Return JSON in ASCII, which is TypeScript, and holds nothing that ends a line or a comment."""
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return "{ " + "; ".join(f"{_key(name)}: {_literal(item)}" for name, item in value.items()) + " }"
    return json.dumps(value)


def _key(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else json.dumps(name)


def _name(wanted: str, taken: set[str]) -> str:
    """Return a name for a type like the one wanted, and take it."""
    name = "".join(char if f"_{char}".isidentifier() else "_" for char in wanted).strip("_") or "_"
    if not name.isidentifier():
        name = f"_{name}"
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}{number}"
    taken.add(found)
    return found


def _comment(schema: Any, indent: str) -> Iterator[str]:
    """Yield the lines of a comment: what is said of it, its rules, its default."""
    if not isinstance(schema, dict):
        return
    lines = [line.strip() for line in _printable(schema.get("description", "")).strip().splitlines()]
    told = {"minItems", "maxItems"} if "prefixItems" in schema else set()  # by the type
    rules = [
        text.format(_printable(schema[rule]))
        for rule, text in _RULES.items()
        if rule not in told and schema.get(rule) not in (None, False)
    ]
    if rules:
        lines.append(f"Rules: {', '.join(rules)}.")
    if "default" in schema and len(default := json.dumps(schema["default"])) <= _LONGEST_DEFAULT:
        lines.append(f"@default {_printable(default)}")
    if len(lines) == 1:
        yield f"{indent}/** {lines[0]} */"
    elif lines:
        yield f"{indent}/**"
        yield from (f"{indent} * {line}".rstrip() for line in lines)
        yield f"{indent} */"


def _printable(text: object) -> str:
    """Return text for a comment: nothing in it ends the comment, and nothing is out of sight."""
    safe = "".join(char if char.isprintable() or char == "\n" else " " for char in str(text))
    return safe.replace("*/", "*\\/")

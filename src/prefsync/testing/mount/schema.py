"""protocol.md, section 2: ``GET /schema``."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from prefsync.testing.mount.callers import DEFAULTS
from prefsync.testing.mount.suite import MountSuite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefsync.testing.mount.callers import Caller

__all__ = ["SchemaContract"]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_TYPES: Final = {"array", "boolean", "integer", "null", "number", "object", "string"}

# What regular expressions of Python or Rust have and ECMA-262 has not (JSON Schema 2020-12 core, section 6.4).
_NOT_ECMA: Final = re.compile(r"\\[AzZ]|\(\?P|\(\?[a-z]+\)|\(\?#|\\[hHGK]")


def _subschemas(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield a schema and all schemas in it."""
    if not isinstance(schema, dict):
        return
    yield schema
    for keyword in ("properties", "$defs", "patternProperties"):
        for part in schema.get(keyword, {}).values():
            yield from _subschemas(part)
    for keyword in ("items", "additionalProperties", "propertyNames", "not", "contains"):
        yield from _subschemas(schema.get(keyword))
    for keyword in ("anyOf", "allOf", "oneOf", "prefixItems"):
        for part in schema.get(keyword, []):
            yield from _subschemas(part)


class SchemaContract(MountSuite):
    """The JSON Schema of the preferences."""

    @pytest.fixture
    async def schema(self, me: Caller) -> Any:
        """What ``GET /schema`` answers."""
        return (await me.get("/schema")).ok()

    async def test_an_object_whose_properties_are_the_namespaces(self, schema: Any) -> None:
        """In JSON Schema 2020-12."""
        assert schema["$schema"] == _DIALECT
        assert schema["type"] == "object"
        assert schema["properties"].keys() == DEFAULTS.keys()

    async def test_titles_descriptions_and_defaults(self, schema: Any) -> None:
        """Namespaces and fields say what they are, and every field its default."""
        for namespace, fields in DEFAULTS.items():
            rules = schema["properties"][namespace]
            assert rules["title"]
            assert rules["description"]
            assert rules["type"] == "object"
            assert rules.get("properties", {}).keys() == fields.keys()
            for name, default in fields.items():
                field = rules["properties"][name]
                assert field["title"]
                assert field["description"]
                assert field["default"] == default
                assert type(field["default"]) is type(default)

    async def test_the_rules_of_fields(self, schema: Any) -> None:
        """What a form needs to know in order to refuse what the server refuses."""
        found = {name: rules.get("properties", {}) for name, rules in schema["properties"].items()}
        assert found["appearance"]["theme"]["enum"] == ["system", "light", "dark"]
        assert found["appearance"]["density"]["enum"] == ["comfortable", "compact"]
        size, tab = found["appearance"]["font_size"], found["editor"]["tab_size"]
        assert (size["type"], size["minimum"], size["maximum"]) == ("integer", 8, 72)
        assert (tab["type"], tab["minimum"], tab["maximum"]) == ("integer", 1, 16)
        assert found["editor"]["word_wrap"]["type"] == "boolean"
        rulers, muted = found["editor"]["rulers"], found["notifications"]["muted_channels"]
        assert (rulers["type"], rulers["items"]["type"], rulers["maxItems"]) == ("array", "integer", 8)
        assert (muted["type"], muted["items"]["type"], muted["maxItems"]) == ("array", "string", 100)
        assert schema["properties"]["plugins"].get("additionalProperties", True) is True

    async def test_it_is_a_json_schema(self, schema: Any) -> None:
        """Its keywords have the values that the dialect's meta-schema asks for, and references lead somewhere."""
        for part in _subschemas(schema):
            kinds = part.get("type", [])
            assert {kinds} <= _TYPES if isinstance(kinds, str) else set(kinds) <= _TYPES
            for keyword in ("title", "description", "$comment", "format"):
                assert isinstance(part.get(keyword, ""), str)
            for keyword in (
                "minLength",
                "maxLength",
                "minItems",
                "maxItems",
                "minProperties",
                "maxProperties",
            ):
                value = part.get(keyword, 0)
                assert type(value) is int
                assert value >= 0
            for keyword in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
                assert type(part.get(keyword, 0)) in {int, float}
            required = part.get("required", [])
            assert len(required) == len(set(required))
            assert isinstance(part.get("enum", []), list)
            if "$ref" in part:
                assert part["$ref"].startswith("#/")
                target = schema
                for token in part["$ref"].split("/")[1:]:
                    target = target[token.replace("~1", "/").replace("~0", "~")]

    async def test_its_patterns_are_those_of_json_schema(self, schema: Any) -> None:
        """Patterns are ECMA-262's: those that only Python or Rust knows break every validator in a browser."""
        patterns = [part["pattern"] for part in _subschemas(schema) if "pattern" in part]
        assert patterns
        for pattern in patterns:
            assert not _NOT_ECMA.search(pattern), f"{pattern} is no regular expression of ECMA-262"

    async def test_it_is_the_same_for_everybody(self, me: Caller, somebody: Caller) -> None:
        """One body and one entity tag for all users, and no write moves them."""
        first = await me.get("/schema")
        await me.put("", {"appearance": {"theme": "dark"}, "plugins": {"a": 1}})
        again, theirs = await me.get("/schema"), await somebody.get("/schema")
        assert first.body == again.body == theirs.body
        assert first.etag == again.etag == theirs.etag
        assert (await somebody.get("/schema", headers={"If-None-Match": first.etag})).status == 304

    async def test_every_process_has_the_same(self, me: Caller, unlimited: Caller) -> None:
        """A client may ask any of them."""
        first, second = await me.get("/schema"), await unlimited.get("/schema")
        assert (first.body, first.etag) == (second.body, second.etag)
        assert (await me.get()).ok()["schema"] == (await unlimited.get()).ok()["schema"]

    async def test_the_defaults_keep_the_rules(self, me: Caller, schema: Any) -> None:
        """Writing all defaults is a write like any other."""
        defaults = {
            namespace: {name: field["default"] for name, field in rules.get("properties", {}).items()}
            for namespace, rules in schema["properties"].items()
        }
        assert json.dumps(defaults, sort_keys=True) == json.dumps(DEFAULTS, sort_keys=True)
        assert (await me.put("", defaults)).ok()["values"] == DEFAULTS

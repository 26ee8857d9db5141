"""What clients are told of the namespaces: JSON Schema, and a tag that changes with it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import jsonschema_rs
import pytest
from pydantic import BaseModel, Field

from prefsync import Preferences, Schema
from tests.unit.schemas import DEEP, STRICT, typed
from tests.unit.support import DEFAULTS, MODELS, Plugins


@pytest.mark.parametrize("schema", [Schema(MODELS), STRICT, DEEP], ids=["example", "strict", "deep"])
def test_the_json_schema_is_valid_and_describes_what_reads_return(schema: Schema) -> None:
    """It is JSON Schema 2020-12, refers to nothing that it lacks, and the effective defaults fulfil it."""
    assert schema.json_schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(schema.json_schema)
    validator = jsonschema_rs.validator_for(schema.json_schema)
    validator.validate(schema.effective({}))
    assert list(schema.json_schema["properties"]) == list(schema.namespaces)
    assert schema.json_schema["additionalProperties"] is False
    for name, namespace in schema.namespaces.items():
        declared = schema.json_schema["properties"][name]
        if not namespace.is_open:
            shown = {key: rules["default"] for key, rules in declared["properties"].items()}
            assert shown == dict(namespace.defaults)
        else:
            assert declared["default"] == {}


def test_the_json_schema_refuses_what_the_model_refuses() -> None:
    """For what both can say, schema and model agree."""
    schema = Schema(MODELS)
    validator = jsonschema_rs.validator_for(schema.json_schema)
    wrong: list[tuple[str, Any]] = [
        ("theme", "blue"),
        ("font_size", 7),
        ("accent", "red"),
        ("nope", 1),
        ("density", None),
    ]
    for field, value in wrong:
        assert schema["appearance"].errors_in({field: value})
        assert not validator.is_valid({"appearance": {**DEFAULTS["appearance"], field: value}})
    assert not validator.is_valid({"nope": {}})
    assert not validator.is_valid({"plugins": []})
    assert validator.is_valid({"plugins": {"a": [None, 1.5]}})


def test_titles_and_descriptions_are_told() -> None:
    """What the host wrote about namespaces and fields is in the JSON Schema."""

    class Told(Preferences, namespace="told"):
        """All about it."""

        field: int = 1
        """What it is for."""

    properties = Schema([Told, Plugins]).json_schema["properties"]
    assert properties["told"]["description"] == "All about it."
    assert properties["told"]["properties"]["field"]["description"] == "What it is for."
    assert properties["plugins"]["title"] == "Plugins"
    assert properties["plugins"]["description"] == "What plugins keep."


def test_two_models_may_use_parts_of_one_name() -> None:
    """Parts of the same class name in two namespaces do not get mixed up."""

    def made(annotation: type) -> Any:
        metaclass: Any = type(BaseModel)
        body = {"__module__": __name__, "__annotations__": {"v": annotation}, "v": annotation()}
        return metaclass("Part", (BaseModel,), body)

    text, number = made(str), made(int)
    schema = Schema([typed("a", part=(text, text())), typed("b", part=(number, number()))])
    validator = jsonschema_rs.validator_for(schema.json_schema)
    assert validator.is_valid({"a": {"part": {"v": "x"}}, "b": {"part": {"v": 1}}})
    assert not validator.is_valid({"a": {"part": {"v": 1}}})
    assert not validator.is_valid({"b": {"part": {"v": "x"}}})


def variant(**changes: Any) -> Schema:
    """Return a schema that differs from the plain one in some way."""
    how = {
        "name": "x",
        "annotation": Annotated[int, Field(ge=1, description="as it was", title="Title")],
        "default": 1,
        "doc": "As it was.",
        "field": "a",
        "more": {},
        **changes,
    }
    body = {
        "__module__": __name__,
        "__doc__": how["doc"],
        "__annotations__": {
            how["field"]: how["annotation"],
            "title": str,
            **{k: a for k, (a, _) in how["more"].items()},
        },
        how["field"]: how["default"],
        "title": "t",
        **{key: default for key, (_, default) in how["more"].items()},
    }
    metaclass: Any = type(Preferences)
    return Schema([metaclass("Made", (Preferences,), body, namespace=how["name"])])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"doc": "Other words."},
        {"doc": None},
        {"annotation": Annotated[int, Field(ge=1, description="other words")]},
        {"annotation": Annotated[int, Field(ge=1)]},
        {"annotation": Annotated[int, Field(ge=1, title="Another")]},
    ],
)
def test_words_do_not_change_the_tag(changes: dict[str, Any]) -> None:
    """The tag stays the same when it is made again and when only titles and descriptions change."""
    assert variant(**changes).tag == variant().tag


@pytest.mark.parametrize(
    "changes",
    [
        {"default": 2},
        {"annotation": Annotated[int, Field(ge=0)]},
        {"annotation": Annotated[float, Field(ge=1)], "default": 1.5},
        {"annotation": int},
        {"annotation": Literal[1, 2]},
        {"annotation": str, "default": "1"},
        {"annotation": int | None},
        {"name": "y"},
        {"field": "b"},
        {"more": {"z": (int, 1)}},
        {"more": {"description": (str, "")}},
    ],
)
def test_defaults_names_and_types_change_the_tag(changes: dict[str, Any]) -> None:
    """Whatever changes what reads return or writes take has another tag."""
    assert variant(**changes).tag != variant().tag


def test_a_default_that_differs_in_kind_changes_the_tag() -> None:
    """``0`` and ``false``, ``""`` and ``null`` are different defaults."""
    anything = int | bool | str | None
    tags = {
        variant(annotation=anything, default=default).tag for default in (0, False, "", None, "0", 1, True)
    }
    assert len(tags) == 7


def test_order_does_not_change_the_tag() -> None:
    """The same namespaces and fields declared in another order are the same schema: reads return the same values."""
    forwards = typed("x", a=(int, 1), b=(str, ""))
    backwards = typed("x", b=(str, ""), a=(int, 1))
    assert Schema([forwards, Plugins]).tag == Schema([Plugins, forwards]).tag
    assert Schema([forwards]).tag == Schema([backwards]).tag


def test_a_tag_is_short_and_plain() -> None:
    """A tag is a few lower-case letters and digits, good in any query or header."""
    tag = Schema(MODELS).tag
    assert 4 <= len(tag) <= 16
    assert tag.isascii()
    assert tag.isalnum()
    assert tag == tag.lower()

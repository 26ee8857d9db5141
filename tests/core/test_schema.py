"""What a host may declare, and what declared namespaces refuse."""

from __future__ import annotations

import random
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, model_validator

from prefsync.errors import ConfigurationError, UndeclaredNamespaceError
from prefsync.schema import RESERVED_NAMES, OpenPreferences, Preferences, Schema
from tests.core.support import Appearance, Plugins

if TYPE_CHECKING:
    from collections.abc import Callable


def typed(namespace: str = "one", **fields: Any) -> type[Preferences]:
    """Make a namespace; each field is a type and a default."""
    body = {
        "__module__": __name__,
        "__annotations__": {name: kind for name, (kind, _) in fields.items()},
        **{name: default for name, (_, default) in fields.items()},
    }
    return type(Preferences)("Made", (Preferences,), body, namespace=namespace)  # type: ignore[call-arg, return-value]


# --- Configuration ---------------------------------------------------------------------------------------------------


def _no_name() -> Any:
    class Nameless(Preferences):
        pass

    return Nameless


def _between() -> Any:
    class Broken(Preferences, namespace="one"):
        low: int = 2
        high: int = 1

        @model_validator(mode="after")
        def ordered(self) -> Broken:
            if self.low > self.high:
                raise ValueError("low is above high")
            return self

    return Broken


CONFIGURATION_ERRORS: dict[str, tuple[Callable[[], Any], str]] = {
    "no namespace": (list, "no namespace is declared: pass at least one subclass"),
    "no model": (lambda: [BaseModel], "derive it from Preferences or OpenPreferences"),
    "an instance": (lambda: [Appearance()], "derive it from Preferences or OpenPreferences"),
    "no name": (lambda: [_no_name()], 'write class Nameless\\(..., namespace="..."\\)'),
    "capitals": (lambda: [typed("One")], "'One' must match"),
    "a digit first": (lambda: [typed("1one")], "must match"),
    "a hyphen": (lambda: [typed("one-two")], "must match"),
    "empty": (lambda: [typed("")], "must match"),
    "a line break": (lambda: [typed("one\n")], "must match"),
    "65 characters": (lambda: [typed("a" * 65)], "must match"),
    "twice": (lambda: [typed("one"), typed("one")], "both declare the namespace 'one': rename one"),
    "no default": (lambda: [typed(a=(int, Field()))], "Made.a has no default"),
    "a default of another type": (lambda: [typed(a=(int, "1"))], "the default of a breaks"),
    "a default out of range": (
        lambda: [typed(a=(Annotated[int, Field(ge=1)], 0))],
        "the default of a breaks",
    ),
    "a default of another literal": (lambda: [typed(a=(Literal["x"], "y"))], "the default of a breaks"),
    "defaults that break a rule together": (lambda: [_between()], "low is above high"),
    "a default that is no JSON": (lambda: [typed(a=(Any, object()))], "cannot be written as JSON"),
    "a default that is no number": (lambda: [typed(a=(float, float("nan")))], "default"),
    "a default too large to keep": (
        lambda: [typed(a=(str, "x" * 20_000))],
        "the default at /one/a cannot be kept",
    ),
    "a default beyond what a double holds": (lambda: [typed(a=(int, 2**53))], "the default"),
    "a default with a NUL": (lambda: [typed(a=(str, "\x00"))], "the default at /one/a cannot be kept"),
    "a default that changes": (
        lambda: [typed(a=(float, Field(default_factory=random.random)))],
        "another value on each call; a default must be constant",
    ),
    "one alias to read": (
        lambda: [typed(a=(int, Field(1, validation_alias="b")))],
        "give one alias for both",
    ),
    "one alias to write": (
        lambda: [typed(a=(int, Field(1, serialization_alias="b")))],
        "give one alias for both",
    ),
}


@pytest.mark.parametrize("case", CONFIGURATION_ERRORS)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydantic's, about a default that it cannot write
def test_what_cannot_work_is_told_at_start(case: str) -> None:
    """A declaration that cannot work is a ConfigurationError that says what to change, in one line."""
    make, message = CONFIGURATION_ERRORS[case]
    with pytest.raises(ConfigurationError, match=message) as caught:
        Schema(make())
    assert "\n" not in str(caught.value).replace("'one\\n'", "")


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_paths_of_the_protocol_are_no_namespaces(name: str) -> None:
    """No namespace can take the place of a path."""
    with pytest.raises(ConfigurationError, match="is a path of the protocol; choose another name"):
        Schema([typed(name)])


def test_names_may_be_as_long_as_the_protocol_says() -> None:
    """Sixty-four characters of the allowed ones are a name."""
    name = "a" + "_9z" * 21
    assert list(Schema([typed(name)]).namespaces) == [name]


def test_an_undeclared_namespace_is_an_error() -> None:
    """Asking for one that is not there says which are."""
    with pytest.raises(UndeclaredNamespaceError, match="declared are appearance, plugins"):
        Schema([Appearance, Plugins])["nobody"]


# --- Strictness ------------------------------------------------------------------------------------------------------


class Number(IntEnum):
    """Numbers by name."""

    ONE = 1


STRICT: list[tuple[Any, Any, list[Any], list[Any]]] = [
    (Literal[1, 2], 1, [1, 2], [True, 1.0, "1", 3, None]),
    (Literal[0, True], 0, [0, True], [False, 1, 0.0]),
    (Literal[1] | None, None, [1, None], [True, 1.0, False]),
    (Literal["a", 1], "a", ["a", 1], [True, 1.0]),
    (int, 1, [1, -1, 0], [True, 1.0, 1.5, "1", None]),
    (bool, True, [True, False], [1, 0, "true", None, 1.0]),
    (float, 1.5, [1.5, 1, 0], ["1.5", True, None]),
    (str, "", ["", "x"], [1, None, True, []]),
    (list[int], [], [[], [1]], [{}, "1", [1.0], [True], None]),
    (dict[str, int], {}, [{}, {"a": 1}], [[], {"a": "1"}]),
    (int | None, None, [None, 1], [True, 1.0]),
]


@pytest.mark.parametrize(("kind", "default", "taken", "refused"), STRICT, ids=repr)
def test_types_are_strict(kind: Any, default: Any, taken: list[Any], refused: list[Any]) -> None:
    """No value is taken for one of another type, and each refusal points at the field."""
    namespace = Schema([typed(a=(kind, default))])["one"]
    for value in taken:
        assert namespace.errors_in({"a": value}) == []
    for value in refused:
        errors = namespace.errors_in({"a": value})
        assert errors, value
        assert all(error.pointer.startswith("/one/a") for error in errors)


class Small(BaseModel):
    """A member of a union."""

    kind: Literal["small"] = "small"
    size: int


class Large(BaseModel):
    """Another."""

    kind: Literal["large"] = "large"
    sizes: list[int]


PLACES: list[tuple[Any, Any, Any, set[str]]] = [
    (list[int], [], [1, "x", 2, None], {"/one/a/1", "/one/a/3"}),
    (dict[str, list[int]], {}, {"x/y": [1, "x"], "~": 1}, {"/one/a/x~1y/1", "/one/a/~0"}),
    (int | list[str] | None, None, [1], {"/one/a", "/one/a/0"}),
    (Small | None, None, {"kind": "small"}, {"/one/a/size"}),
    (Small | None, None, {"kind": "x", "size": "1"}, {"/one/a/kind", "/one/a/size"}),
    (list[Small], [], [{"size": 1}, {}], {"/one/a/1/size"}),
    (
        Annotated[Small | Large, Field(discriminator="kind")] | None,
        None,
        {"kind": "large", "sizes": [1, "x"]},
        {"/one/a/sizes/1"},
    ),
    (tuple[int, str], (1, "a"), [1, 2], {"/one/a/1"}),
    (dict[Literal["x"], int], {}, {"y": 1}, {"/one/a/y"}),
]


@pytest.mark.parametrize(("kind", "default", "value", "places"), PLACES, ids=repr)
def test_errors_stand_where_a_client_can_follow(
    kind: Any, default: Any, value: Any, places: set[str]
) -> None:
    """Pointers name steps into what was sent, or the place where a member is missing; never pydantic's own steps."""
    namespace = Schema([typed(a=(kind, default))])["one"]
    assert {error.pointer for error in namespace.errors_in({"a": value})} == places


def test_an_undeclared_field_is_refused_at_its_place() -> None:
    """Typed namespaces take no other fields; open ones take any."""
    schema = Schema([Appearance, Plugins])
    assert [error.pointer for error in schema["appearance"].errors_in({"no/body": 1})] == [
        "/appearance/no~1body"
    ]
    assert schema["plugins"].errors_in({"no/body": 1}) == []


# --- Tag -------------------------------------------------------------------------------------------------------------


def tag(*models: Any) -> str:
    """Return the tag of a schema."""
    return Schema(models).tag


BASE = typed(a=(int, 1), b=(str, "x"))


@pytest.mark.parametrize(
    "other",
    [
        [typed(a=(int, 2), b=(str, "x"))],
        [typed(a=(float, 1.0), b=(str, "x"))],
        [typed(a=(int | None, 1), b=(str, "x"))],
        [typed(a=(Annotated[int, Field(le=9)], 1), b=(str, "x"))],
        [typed(a=(int, 1))],
        [typed(a=(int, 1), c=(str, "x"))],
        [typed("two", a=(int, 1), b=(str, "x"))],
        [BASE, Plugins],
    ],
)
def test_the_tag_changes_with_what_reads_return(other: list[Any]) -> None:
    """Another default, type, rule, field or namespace is another tag."""
    assert tag(*other) != tag(BASE)


def test_the_tag_does_not_change_with_words() -> None:
    """Titles and descriptions are no reason to send everything anew; a field of such a name is."""
    described = typed(a=(int, Field(1, description="words", title="A")), b=(str, "x"))
    described.__doc__ = "More words."
    assert tag(described) == tag(BASE)
    assert tag(typed(a=(int, 1), b=(str, "x"))) == tag(BASE)
    one, other = typed(title=(int, 1)), typed(title=(int, 2))
    assert tag(one) != tag(other)
    assert tag(typed(description=(int, 1))) != tag(one)


def test_the_schema_that_clients_see_carries_the_defaults() -> None:
    """Properties are the namespaces, theirs the fields, each with its default."""
    schema = Schema([Appearance, Plugins]).json_schema
    assert list(schema["properties"]) == ["appearance", "plugins"]
    properties = schema["properties"]["appearance"]["properties"]
    assert {name: rules["default"] for name, rules in properties.items()} == Schema([Appearance])[
        "appearance"
    ].defaults
    assert schema["properties"]["plugins"]["default"] == {}
    assert schema["additionalProperties"] is False


class Bare(OpenPreferences, namespace="bare"):
    """An open namespace."""


def test_an_open_namespace_is_a_mapping() -> None:
    """Host code uses it as it uses a dictionary."""
    bare = Bare()
    bare["a"] = 1
    bare.update(b=2)
    assert bare.pop("a") == 1
    assert dict(bare) == {"b": 2}
    assert len(bare) == 1
    assert "a" not in bare
    assert bare.get("a") is None
    assert dict(Bare()) == {}

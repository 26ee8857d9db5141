"""What declared namespaces take and refuse, and where the refusals point."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from prefsync import Schema
from prefsync.testing.mount.suite import label
from tests.unit.schemas import DEEP, STRICT, typed
from tests.unit.support import MODELS, Appearance, Plugins


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("integer", 7),
        ("number", 7),
        ("number", 1e22),
        ("flag", True),
        ("text", "7"),
        ("one_or_two", 2),
        ("maybe_one", 1),
        ("maybe_one", None),
        ("yes", True),
        ("yes", "auto"),
        ("mixed", 0),
        ("mixed", False),
        ("integers", [1, 2]),
        ("choices", [1, 2, 1]),
        ("by_name", {"a": 0, "b": 1}),
        ("level", 1),
        ("levels", [0, 1]),
        ("shade", "dark"),
        ("maybe", None),
        ("either", "x"),
        ("int_or_bool", True),
        ("int_or_bool", 1),
        ("flag_or_text", "true"),
        ("day", "2026-11-23"),
        ("moment", "2026-11-23T03:05:46Z"),
        ("price", "2.75"),
        ("identity", "12345678-1234-5678-1234-567812345678"),
        ("pair", [2, "b"]),
        ("unique", [3, 1, 2]),
    ],
)
def test_values_of_the_declared_type_are_taken(field: str, value: Any) -> None:
    """What is of the type as JSON spells it is taken."""
    assert STRICT["x"].errors_in({field: value}) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("integer", "7"),
        ("integer", True),
        ("integer", False),
        ("integer", 7.0),
        ("integer", 7.5),
        ("integer", None),
        ("integer", [7]),
        ("integer", {}),
        ("number", "1.5"),
        ("number", True),
        ("number", None),
        ("flag", 1),
        ("flag", 0),
        ("flag", 1.0),
        ("flag", "true"),
        ("flag", "yes"),
        ("flag", None),
        ("text", 7),
        ("text", True),
        ("text", None),
        ("text", ["x"]),
        ("one_or_two", True),
        ("one_or_two", 1.0),
        ("one_or_two", "1"),
        ("one_or_two", 3),
        ("one_or_two", None),
        ("maybe_one", True),
        ("maybe_one", 1.0),
        ("yes", 1),
        ("yes", 1.0),
        ("yes", False),
        ("yes", "true"),
        ("mixed", 0.0),
        ("mixed", True),
        ("mixed", None),
        ("bounded", True),
        ("bounded", 2.0),
        ("integers", [1, True]),
        ("integers", [1, 2.0]),
        ("integers", "12"),
        ("integers", {"0": 1}),
        ("choices", [True]),
        ("choices", [1, 2.0]),
        ("choices", ["1"]),
        ("by_name", {"a": False}),
        ("by_name", {"a": 1.0}),
        ("level", True),
        ("level", 1.0),
        ("level", "high"),
        ("level", "1"),
        ("level", 2),
        ("levels", [True]),
        ("shade", "Dark"),
        ("shade", 1),
        ("maybe", "1"),
        ("maybe", True),
        ("either", True),
        ("either", 1.0),
        ("either", None),
        ("int_or_bool", 1.0),
        ("flag_or_text", 1),
        ("day", 0),
        ("day", "2026-11-23T00:00:00"),
        ("day", "23.11.2026"),
        ("moment", 1_795_000_000),
        ("moment", "tomorrow"),
        ("price", True),
        ("price", "NaN"),
        ("price", "Infinity"),
        ("price", "a lot"),
        ("identity", "x"),
        ("identity", 5),
        ("pair", [1]),
        ("pair", [1, "a", 2]),
        ("pair", ["1", "a"]),
        ("unique", ["1"]),
        ("undeclared", 1),
        ("Integer", 1),
        ("", 1),
    ],
)
def test_other_types_are_not_turned_into_the_declared_one(field: str, value: Any) -> None:
    """Nothing is coerced: a string is no number, a boolean no integer, ``1.0`` no ``1``, wherever the type stands."""
    errors = STRICT["x"].errors_in({field: value})
    assert errors, f"{field} takes {value!r}"
    assert all(error.pointer.startswith(f"/x/{field}") for error in errors)


@pytest.mark.parametrize(
    ("values", "pointers"),
    [
        ({"key": 5}, ["/deep/key"]),
        ({"key": {}}, ["/deep/key/code"]),
        (
            {"key": {"code": 1, "hold": "x", "more": 1}},
            ["/deep/key/code", "/deep/key/hold", "/deep/key/more"],
        ),
        ({"keys": [{"code": "a"}, {"code": 2}, 7]}, ["/deep/keys/1/code", "/deep/keys/2"]),
        ({"keys": [{}]}, ["/deep/keys/0/code"]),
        ({"table": {"a/b~c": {"code": 1}}}, ["/deep/table/a~1b~0c/code"]),
        ({"table": {"": {}}}, ["/deep/table//code"]),
        ({"table": {"code": {}}}, ["/deep/table/code/code"]),
        ({"table": {"0": {"code": 1}}}, ["/deep/table/0/code"]),
        ({"pet": {"kind": "dog", "name": 1}}, ["/deep/pet/name"]),
        ({"pet": {"kind": "dog"}}, ["/deep/pet/name"]),
        ({"pet": {"kind": "cow"}}, ["/deep/pet"]),
        ({"pet": {}}, ["/deep/pet"]),
        ({"even": 3}, ["/deep/even"]),
        ({"even": "3", "low": "x", "nope": 1}, ["/deep/even", "/deep/low", "/deep/nope"]),
        ({"low": 11}, ["/deep"]),
        ({"low": 11, "even": 1}, ["/deep/even"]),
    ],
)
def test_errors_point_to_what_is_wrong(values: dict[str, Any], pointers: list[str]) -> None:
    """All errors are told at once, each with the place of the value, or where a missing one belongs."""
    assert sorted(error.pointer for error in DEEP["deep"].errors_in(values)) == sorted(pointers)


def test_errors_in_a_union_point_into_the_value() -> None:
    """Where no member of a union fits, the pointers name places in the value, not pydantic's names of the members."""
    errors = DEEP["deep"].errors_in({"either": {"code": 5}})
    assert {error.pointer for error in errors} <= {"/deep/either", "/deep/either/code"}


def test_errors_tell_the_rule_and_not_the_value() -> None:
    """Code and words are of the rule; what was sent is not repeated."""
    secret = "swordfish"
    cases: list[tuple[Schema, dict[str, Any]]] = [
        (DEEP, {"key": secret, "even": secret, secret: 1}),
        (Schema(MODELS), {"theme": secret}),
    ]
    for schema, values in cases:
        namespace = next(iter(schema.namespaces.values()))
        for error in namespace.errors_in(values):
            assert error.code
            assert error.detail
            assert secret not in error.detail


def test_an_open_namespace_takes_everything() -> None:
    """An open namespace has no rules of its own."""
    namespace = Schema([Plugins])["plugins"]
    assert namespace.errors_in({"a": None, "": [{}], "x": 1.5}) == []
    assert namespace.effective({"b": 1}) == {"b": 1}


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


@pytest.mark.parametrize(("kind", "default", "value", "places"), PLACES, ids=label)
def test_errors_stand_where_a_client_can_follow(
    kind: Any, default: Any, value: Any, places: set[str]
) -> None:
    """Pointers name steps into what was sent, or the place where a member is missing; never pydantic's own steps."""
    namespace = Schema([typed("one", a=(kind, default))])["one"]
    assert {error.pointer for error in namespace.errors_in({"a": value})} == places


def test_an_undeclared_field_is_refused_at_its_place() -> None:
    """Typed namespaces take no other fields; open ones take any."""
    schema = Schema([Appearance, Plugins])
    assert [error.pointer for error in schema["appearance"].errors_in({"no/body": 1})] == [
        "/appearance/no~1body"
    ]
    assert schema["plugins"].errors_in({"no/body": 1}) == []

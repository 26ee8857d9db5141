"""What a host declares: refused where it cannot work, strict in what it takes, told in JSON Schema and one tag."""

from __future__ import annotations

import datetime as dt
import enum
import itertools
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import jsonschema_rs
import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator, model_validator

from prefsync import ConfigurationError, OpenPreferences, Preferences, Schema, UndeclaredNamespaceError
from prefsync.schema import RESERVED_NAMES
from tests.unit.support import DEFAULTS, MODELS, Appearance, Plugins

# --- What cannot work ------------------------------------------------------------------------------------------------


def typed(name: str | None = "x", **fields: Any) -> Any:
    """Make a typed namespace of one's choice."""
    body = {
        "__module__": __name__,
        "__annotations__": {key: annotation for key, (annotation, _) in fields.items()},
        **{key: default for key, (_, default) in fields.items() if default is not ...},
    }
    metaclass: Any = type(Preferences)
    return metaclass("Made", (Preferences,), body, namespace=name)


class NoName(Preferences):
    """Has no namespace."""

    a: int = 1


class Child(Appearance):
    """Inherits from a namespace and names none."""


class NoDefault(Preferences, namespace="x"):
    """Cannot be read before it was written."""

    fine: int = 1
    a: int


class WrongDefault(Preferences, namespace="x"):
    """A default outside its own bounds."""

    a: Annotated[int, Field(ge=8)] = 7


class WrongTypeDefault(Preferences, namespace="x"):
    """A default of another type."""

    a: int = "1"  # type: ignore[assignment]  # on purpose


class WrongTogether(Preferences, namespace="x"):
    """Defaults that break a rule together."""

    low: int = 5
    high: int = 1

    @model_validator(mode="after")
    def _ordered(self) -> WrongTogether:
        if self.low > self.high:
            message = "low is above high"
            raise ValueError(message)
        return self


class RandomDefault(Preferences, namespace="x"):
    """Another default each time."""

    a: UUID = Field(default_factory=uuid4)


_numbers = itertools.count()


class CountingDefault(Preferences, namespace="x"):
    """Another default each time."""

    a: int = Field(default_factory=lambda: next(_numbers))


class TwoAliases(Preferences, namespace="x"):
    """One name in and another out."""

    a: int = Field(1, validation_alias="b", serialization_alias="c")


class ManyAliases(Preferences, namespace="x"):
    """Several names in."""

    a: int = Field(1, validation_alias=AliasChoices("b", "c"))


class NoJson(Preferences, namespace="x"):
    """A type that is no JSON."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    a: object = object()


class Thing:
    """Something of the host's that JSON knows nothing of."""


class NoJsonType(Preferences, namespace="x"):
    """A class of the host's."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    a: Thing = Thing()


class NoJsonInside(Preferences, namespace="x"):
    """A class of the host's, deeper inside, with a default that is JSON all the same."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    a: list[Thing] = []


class NanDefault(Preferences, namespace="x"):
    """A default that is no JSON."""

    a: float = float("nan")


class InfiniteDefault(Preferences, namespace="x"):
    """A default that is no JSON."""

    a: float = float("inf")


class HugeDefault(Preferences, namespace="x"):
    """A default that no double holds."""

    a: int = 2**53


class NulDefault(Preferences, namespace="x"):
    """A default that no database keeps."""

    a: str = "a\x00"


class SurrogateDefault(Preferences, namespace="x"):
    """A default that cannot be written."""

    a: str = "\ud800"


class PrototypeDefault(Preferences, namespace="x"):
    """A default with a name that clients must not be given."""

    a: dict[str, int] = {"__proto__": 1}


class LongDefault(Preferences, namespace="x"):
    """A default beyond the limits."""

    a: str = "x" * 20_000


class HiddenField(Preferences, namespace="x"):
    """A field that is never written."""

    a: int = Field(1, exclude=True)


def _called(model: Any) -> str:
    return f"{getattr(model, '__name__', model)!s} {getattr(model, 'namespace_name', '')!r}"


@pytest.mark.parametrize(
    ("models", "says"),
    [
        ([], "no namespace is declared"),
        ([NoName], "NoName names no namespace"),
        ([Child], "Child names no namespace"),
        ([Preferences], "names no namespace"),
        ([OpenPreferences], "names no namespace"),
        ([BaseModel], "is no namespace"),
        ([dict], "is no namespace"),
        ([Appearance()], "is no namespace"),
        (["appearance"], "is no namespace"),
        ([None], "is no namespace"),
        ([Appearance, Appearance], "both declare the namespace 'appearance'"),
        ([typed("Upper", a=(int, 1))], "must match"),
        ([typed("", a=(int, 1))], "must match"),
        ([typed("1a", a=(int, 1))], "must match"),
        ([typed("a-b", a=(int, 1))], "must match"),
        ([typed("a.b", a=(int, 1))], "must match"),
        ([typed("a\n", a=(int, 1))], "must match"),
        ([typed("é", a=(int, 1))], "must match"),
        ([typed("a" * 65, a=(int, 1))], "must match"),
        ([NoDefault], r"NoDefault.a has no default"),
        ([WrongDefault], "the default of a breaks the model's own rules"),
        ([WrongTypeDefault], "the default of a breaks the model's own rules"),
        ([WrongTogether], "its fields together breaks the model's own rules"),
        ([RandomDefault], "a default must be constant"),
        ([CountingDefault], "a default must be constant"),
        ([TwoAliases], "one alias for both directions"),
        ([ManyAliases], "one alias for both directions"),
        ([NoJson], "cannot be written as JSON"),
        ([NoJsonType], "NoJsonType"),
        ([NoJsonInside], "NoJsonInside"),
        ([NanDefault], "NanDefault"),
        ([InfiniteDefault], "InfiniteDefault"),
        ([HugeDefault], "HugeDefault"),
        ([NulDefault], "/x/a cannot be kept"),
        ([SurrogateDefault], "SurrogateDefault"),
        ([PrototypeDefault], "/x/a/__proto__ cannot be kept"),
        ([LongDefault], "/x/a cannot be kept"),
        ([HiddenField], "HiddenField"),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(map(_called, value)),
)
def test_what_cannot_work_is_refused_at_start(models: list[Any], says: str) -> None:
    """A host's mistake is a ``ConfigurationError`` when the schema is made, in a line that names the class and the mend."""
    with pytest.raises(ConfigurationError, match=says):
        Schema(models)


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_paths_of_the_protocol_are_no_namespaces(name: str) -> None:
    """A namespace cannot have the name of a path that the protocol uses."""
    with pytest.raises(ConfigurationError, match="path of the protocol"):
        Schema([typed(name, a=(int, 1))])
    metaclass: Any = type(OpenPreferences)
    with pytest.raises(ConfigurationError, match="path of the protocol"):
        Schema([metaclass("Open", (OpenPreferences,), {"__module__": __name__}, namespace=name)])


@pytest.mark.parametrize("name", ["a", "a" * 64, "a_b", "a1", "z9_", "values", "revision", "schemas"])
def test_other_names_are_fine(name: str) -> None:
    """Any name of the protocol's form that is no path of it can be declared."""
    assert list(Schema([typed(name, a=(int, 1))]).namespaces) == [name]


# --- Defaults and lookups ------------------------------------------------------------------------------------------------


def test_effective_values_are_stored_ones_over_defaults() -> None:
    """Every declared namespace and field is shown; undeclared ones and stored values that do not fit are not."""
    schema = Schema(MODELS)
    assert schema.effective({}) == DEFAULTS
    shown = schema.effective(
        {
            "appearance": {"theme": "dark", "font_size": 999, "gone": 1},
            "unknown": {"a": 1},
            "plugins": {"any": [1]},
        }
    )
    assert shown["appearance"] == {**DEFAULTS["appearance"], "theme": "dark"}
    assert shown["plugins"] == {"any": [1]}
    assert list(shown) == list(DEFAULTS)


def test_reading_changes_no_default() -> None:
    """Effective values can be changed by whoever gets them without changing what the next one gets."""
    schema = Schema(MODELS)
    shown = schema.effective({})
    shown["appearance"]["theme"] = "dark"
    shown["plugins"]["a"] = 1
    assert schema.effective({}) == DEFAULTS


def test_declared_order_is_kept() -> None:
    """Namespaces and fields are shown in the order in which the host declared them."""
    schema = Schema(MODELS)
    assert list(schema.namespaces) == ["appearance", "editor", "notifications", "plugins"]
    assert list(schema.effective({"appearance": {"theme": "dark"}})["appearance"]) == list(
        DEFAULTS["appearance"]
    )


def test_a_namespace_is_found_by_name_and_by_model() -> None:
    """What was declared is found; what was not is an error that tells what there is."""
    schema = Schema(MODELS)
    assert schema["appearance"].model is Appearance
    assert schema.of(Plugins).name == "plugins"
    for name in ("nope", "Appearance", "", "x" * 10_000):
        with pytest.raises(UndeclaredNamespaceError, match="appearance, editor") as caught:
            schema[name]
        assert len(str(caught.value)) < 300
    same_name = typed("appearance", a=(int, 1))
    for model in (same_name, NoName, Child):
        with pytest.raises(UndeclaredNamespaceError, match="was not declared"):
            schema.of(model)


def test_a_field_may_have_an_alias() -> None:
    """With an alias, clients know the field by that name alone."""

    class Aliased(Preferences, namespace="x"):
        python_name: int = Field(1, alias="wireName")

    schema = Schema([Aliased])
    assert schema.effective({}) == {"x": {"wireName": 1}}
    assert schema["x"].errors_in({"wireName": 2}) == []
    assert [error.pointer for error in schema["x"].errors_in({"python_name": 2})] == ["/x/python_name"]
    assert list(schema.json_schema["properties"]["x"]["properties"]) == ["wireName"]


# --- Strict types --------------------------------------------------------------------------------------------------------


class Level(enum.IntEnum):
    """Numbers with names."""

    low = 0
    high = 1


class Shade(enum.StrEnum):
    """Words with names."""

    light = "light"
    dark = "dark"


class Strict(Preferences, namespace="x"):
    """One field of every kind."""

    integer: int = 1
    number: float = 1.5
    flag: bool = False
    text: str = ""
    one_or_two: Literal[1, 2] = 1
    maybe_one: Literal[1] | None = None
    yes: Literal[True, "auto"] = "auto"
    mixed: Literal[0, "x", False] = "x"
    bounded: Annotated[Literal[1, 2], Field(description="bounded")] = 1
    integers: list[int] = []
    choices: list[Literal[1, 2]] = []
    by_name: dict[str, Literal[0, 1]] = {}
    level: Level = Level.low
    levels: list[Level] = []
    shade: Shade = Shade.light
    maybe: int | None = None
    either: int | str = 0
    int_or_bool: int | bool = 0
    flag_or_text: bool | str = False
    day: dt.date = dt.date(2026, 1, 1)
    moment: dt.datetime = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    price: Decimal = Decimal("1.50")
    identity: UUID = UUID(int=0)
    pair: tuple[int, str] = (1, "a")
    unique: set[int] = set()


STRICT = Schema([Strict])


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


# --- Pointers ------------------------------------------------------------------------------------------------------------


class Key(BaseModel):
    """A part of a value."""

    model_config = ConfigDict(extra="forbid", strict=True)

    code: str
    hold: int = 0


class Cat(BaseModel):
    """One of two."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    """The other."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["dog"]
    name: str


class Deep(Preferences, namespace="deep"):
    """Values inside values."""

    key: Key = Key(code="a")
    keys: list[Key] = []
    table: dict[str, Key] = {}
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] = Cat(kind="cat", lives=9)
    either: Key | int = 0
    low: int = 0
    high: int = 10
    even: int = 0

    @field_validator("even")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            message = "must be even"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Deep:
        if self.low > self.high:
            message = "low is above high"
            raise ValueError(message)
        return self


DEEP = Schema([Deep])


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


# --- JSON Schema ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", [Schema(MODELS), STRICT, DEEP], ids=["example", "strict", "deep"])
def test_the_json_schema_is_valid_and_describes_what_reads_return(schema: Schema) -> None:
    """It is JSON Schema 2020-12, refers to nothing that it lacks, and the effective defaults fulfil it."""
    assert schema.json_schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(schema.json_schema)
    validator = jsonschema_rs.validator_for(schema.json_schema)
    validator.validate(schema.effective({}))
    assert list(schema.json_schema["properties"]) == list(schema.namespaces)
    for name, namespace in schema.namespaces.items():
        declared = schema.json_schema["properties"][name]
        if not namespace.is_open:
            shown = {key: rules["default"] for key, rules in declared["properties"].items()}
            assert shown == dict(namespace.defaults)


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


# --- The tag -------------------------------------------------------------------------------------------------------------


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

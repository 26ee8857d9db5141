"""What a host declares: refused where it cannot work, found by name and by model, shown over its defaults."""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, computed_field, model_validator

from prefsync import ConfigurationError, OpenPreferences, Preferences, Schema, UndeclaredNamespaceError
from prefsync.schema import RESERVED_NAMES
from tests.unit.schemas import typed
from tests.unit.support import DEFAULTS, MODELS, Appearance, Plugins


class Hours(BaseModel):
    """Part of a namespace, as pydantic has models."""

    start: int = 22


class StrictHours(Hours):
    """The same, and nothing undeclared."""

    model_config = ConfigDict(extra="forbid")


class Quiet(Preferences, namespace="quiet"):
    """A namespace with parts."""

    plain: Hours = Hours()
    strict: StrictHours = StrictHours()


class Many(Preferences, namespace="many"):
    """Parts in all places."""

    listed: list[Hours] = []
    named: dict[str, Hours] = {}
    either: Hours | int = 1


class Taking(BaseModel):
    """Takes anything beside its own."""

    model_config = ConfigDict(extra="allow")

    start: int = 1


class Writing(BaseModel):
    """Writes more than it declares."""

    start: int = 1

    @computed_field
    def stop(self) -> int:
        """Return what follows from the other."""
        return self.start + 1


class OneTaking(Preferences, namespace="x"):
    """Has such a part."""

    part: Taking = Taking()


class OneWriting(Preferences, namespace="x"):
    """Has such a part."""

    part: Writing = Writing()


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
        ([typed("x", a=(Literal["x"], "y"))], "the default of a breaks the model's own rules"),
        ([typed("x", a=(int, Field(1, validation_alias="b")))], "one alias for both directions"),
        ([typed("y", a=(int, Field(1, serialization_alias="b")))], "one alias for both directions"),
        ([typed("z", a=(int, Field(1, alias="")))], r"\.a: its alias is empty"),
        ([typed("z", a=(int, Field(1, alias="b")), b=(int, 2))], "a and b are both called 'b'"),
        (
            [typed("z", a=(int, Field(1, alias="c")), b=(int, Field(2, alias="c")))],
            "a and b are both called 'c'",
        ),
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
    with pytest.raises(ConfigurationError, match=says) as caught:
        Schema(models)
    assert "\n" not in str(caught.value).replace(r"\n", "")


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


def test_effective_values_are_stored_ones_over_defaults(caplog: pytest.LogCaptureFixture) -> None:
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
    (said,) = caplog.messages
    assert said.endswith("read as their defaults: appearance.font_size")


def test_models_within_take_nothing_undeclared() -> None:
    """A write may add no undeclared member to a model within; one that was stored before stays, and reads go on."""
    quiet = Schema([Quiet])["quiet"]
    late = {"start": 21, "stop": 7}
    assert [(error.pointer, error.code) for error in quiet.errors_upon({}, {"plain": late})] == [
        ("/quiet/plain/stop", "extra_forbidden")
    ]
    assert quiet.errors_upon({"plain": {"stop": 6}}, {"plain": late}) == []
    assert quiet.effective({"plain": late})["plain"] == late


def test_a_model_that_forbids_it_does_so_in_reads_as_well() -> None:
    """Where the host's model says itself that it takes nothing undeclared, that is told once, and holds for all."""
    quiet = Schema([Quiet])["quiet"]
    late = {"start": 21, "stop": 7}
    for stored in ({}, {"strict": late}):
        (error,) = quiet.errors_upon(stored, {"strict": late})
        assert (error.pointer, error.code) == ("/quiet/strict/stop", "extra_forbidden")
    assert quiet.effective({"strict": late})["strict"] == {"start": 22}


def test_members_of_lists_and_mappings_of_models_are_looked_at() -> None:
    """Wherever a model stands, and whichever of several it is."""
    many = Schema([Many])["many"]
    values = {"listed": [{}, {"a": 1}], "named": {"x": {"b": 2}}, "either": {"c": 3}}
    assert {error.pointer for error in many.errors_upon({}, values)} == {
        "/many/listed/1/a",
        "/many/named/x/b",
        "/many/either/c",
    }
    assert many.errors_upon(values, values) == []


def test_models_that_take_or_write_more_are_left_alone() -> None:
    """A model that takes undeclared members keeps them; one that writes more than it declares can be written back."""
    for model in (OneTaking, OneWriting):
        schema = Schema([model])
        assert schema["x"].errors_upon({}, {"part": {"start": 1, "stop": 2}}) == []
        (definition,) = schema.json_schema["$defs"].values()
        assert "additionalProperties" not in definition or definition["additionalProperties"] is True


def test_the_json_schema_says_which_models_take_nothing_undeclared() -> None:
    """Clients are told by the schema what a write may hold."""
    definitions = Schema([Quiet]).json_schema["$defs"]
    assert {name: definition["additionalProperties"] for name, definition in definitions.items()} == {
        "Hours": False,
        "StrictHours": False,
    }


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

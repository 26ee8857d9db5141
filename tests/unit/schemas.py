"""Schemas to test schemas with: every kind of type, values inside values, and one of one's choice."""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from prefsync import Preferences, Schema


def typed(name: str | None = "x", **fields: Any) -> Any:
    """Make a typed namespace of one's choice."""
    body = {
        "__module__": __name__,
        "__annotations__": {key: annotation for key, (annotation, _) in fields.items()},
        **{key: default for key, (_, default) in fields.items() if default is not ...},
    }
    metaclass: Any = type(Preferences)
    return metaclass("Made", (Preferences,), body, namespace=name)


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

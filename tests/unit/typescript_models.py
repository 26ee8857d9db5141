"""Namespaces that put the TypeScript declarations to every test: what pydantic can say, and names that nobody expects."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, create_model
from typing_extensions import TypedDict

from prefsync import OpenPreferences, Preferences

__all__ = ["HOSTILE", "MODELS"]

T = TypeVar("T")


class Level(enum.Enum):
    """How loud."""

    LOW = "low"
    HIGH = "high"


class Size(enum.IntEnum):
    """In steps."""

    SMALL = 1
    LARGE = 2


class Box(BaseModel, Generic[T]):
    """Holds one thing."""

    held: T


class Tree(BaseModel):
    """Grows."""

    name: str
    branches: list[Tree] = []


class Dot(BaseModel):
    """A point."""

    kind: Literal["dot"] = "dot"
    at: tuple[float, float] = (0.0, 0.0)


class Line(BaseModel):
    """Through points."""

    kind: Literal["line"]
    through: list[tuple[float, float]]


class Window(TypedDict, total=False):
    """Where it stands."""

    width: int
    title: str


class Range(NamedTuple):
    """From here to there."""

    first: int
    last: int = 9


class Loose(BaseModel):
    """Takes more than it says."""

    model_config = ConfigDict(extra="allow")

    sure: int = 1


class Everything(Preferences, namespace="everything"):
    """One field of each kind."""

    theme: Literal["system", "light", "dark"] = "system"
    """How it looks."""

    level: Level = Level.LOW
    size: Size = Size.SMALL
    mixed: Literal["a", 1, True] | None = None
    maybe: int | None = None
    either: int | str | list[int | str] = 0
    flags: dict[str, bool] = {}
    volumes: dict[Literal["left", "right"], int] = {}
    levels: dict[Level, int] = {}
    pair: tuple[int, str] = (1, "one")
    numbers: tuple[int, ...] = ()
    choices: list[Literal["x", "y"]] = []
    tree: Tree = Tree(name="root")
    box: Box[int] = Box[int](held=1)
    shapes: list[Annotated[Dot | Line, Field(discriminator="kind")]] = []
    window: Window = {}
    span: Range = Range(1)
    loose: Loose = Loose()
    anything: JsonValue = None
    whatever: Any = None
    at: dt.datetime | None = None
    uid: uuid.UUID | None = None
    price: Decimal = Decimal("1.5")
    size_of_font: Annotated[int, Field(ge=8, lt=72, multiple_of=2, alias="fontSize")] = 14
    colour: Annotated[str, Field(pattern=r"^#[0-9a-f]{6}$", max_length=7)] = "#336699"


class Plugins(OpenPreferences, namespace="plugins"):
    """Anything under any name."""


MODELS = [Everything, Plugins]

ENDS_A_COMMENT = "*/ declare const injected: never; /* \u2028 \u2029 \r\n second line \x00 `${x}`"

Hostile: Any = create_model(
    "class",
    __base__=Preferences,
    __doc__=ENDS_A_COMMENT,
    __cls_kwargs__={"namespace": "hostile"},
    words=(
        Literal["*/", '"', "\\", "\u2028", "${x}", "\n", "\u00e9\U0001f600"],
        Field(default="*/", description=ENDS_A_COMMENT),
    ),
    reserved=(int, Field(default=1, alias="new")),
    dashed=(int, Field(default=1, alias='a-b"*/\\')),
    blank=(int, Field(default=1, alias=" ")),
    digit=(int, Field(default=1, alias="1st")),
    pattern=(str, Field(default="", pattern="^(a*/)?$")),
)

# Two classes of one name, names that mean something in TypeScript, and one in letters beyond ASCII.
Again: Any = create_model("class", __base__=Preferences, __cls_kwargs__={"namespace": "again"})
Json: Any = create_model("Json", __base__=OpenPreferences, __cls_kwargs__={"namespace": "json"})
Union: Any = create_model("string", __base__=Preferences, __cls_kwargs__={"namespace": "union"}, a=(int, 1))
Foreign: Any = create_model(
    "Größe", __base__=Preferences, __cls_kwargs__={"namespace": "foreign"}, a=(int, 1)
)
Record: Any = create_model(
    "Array", __base__=Preferences, __cls_kwargs__={"namespace": "array"}, a=(list[int], [])
)

HOSTILE = [Hostile, Again, Json, Union, Foreign, Record]

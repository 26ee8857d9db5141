"""How a change is shown where its fields depend on one another or belong to another version; the rest is in ``tests/core``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, model_validator

from prefsync import Preferences, Schema
from prefsync.feed import present
from tests.unit.support import ANNA, MODELS, make_kit


class Window(Preferences, namespace="window"):
    """Two fields that have to fit together."""

    low: int = 0
    high: int = 10
    name: str = ""

    @model_validator(mode="after")
    def _ordered(self) -> Window:
        if self.low > self.high:
            message = "low is above high"
            raise ValueError(message)
        return self


async def test_a_change_shows_the_value_that_a_read_shows() -> None:
    """Where fields are only right together, a change of one of them shows its new value and not the default."""
    kit = make_kit([Window])
    first = await kit.patch("window", {"high": 100})
    second = await kit.patch("window", {"low": 50})
    assert (await kit.read()).values["window"] == {"low": 50, "high": 100, "name": ""}
    page = await kit.feed.page(ANNA, first.revision)
    assert [change.changed for change in page.changes] == [{"window": {"low": 50}}]
    assert page.revision == second.revision


async def test_a_client_that_applies_every_change_has_what_a_read_shows() -> None:
    """Laying all changes over the state of before gives the state of now, whatever was set, reset or replaced."""
    kit = make_kit([*MODELS, Window])
    view = {name: dict(values) for name, values in (await kit.read()).values.items()}
    await kit.patch("window", {"high": 100, "low": 60})
    await kit.put("window", {"low": 5})
    await kit.patch("appearance", {"theme": "dark", "font_size": 20})
    await kit.patch("appearance", {"theme": None})
    await kit.patch("plugins", {"a": {"b": 1}, "c": None, "d": [1]})
    await kit.patch("plugins", {"a": {"b": None, "e": 2}, "d": None})
    await kit.put("plugins", {"x": None})
    await kit.reset("appearance", "editor")
    await kit.patch("window", {"high": 6, "low": None})
    await kit.put("plugins", {})
    page = await kit.feed.page(ANNA, 0)
    for change in page.changes:
        for name, fields in change.changed.items():
            view[name] |= fields
        for name, gone in change.removed.items():
            for field in gone:
                del view[name][field]
    assert view == (await kit.read()).values


class Panel(BaseModel):
    """A value with members."""

    left: bool = True
    width: int = 200


class Newer(Preferences, namespace="appearance"):
    """Another version of a namespace of the example."""

    theme: Literal["system", "contrast"] = "system"
    panel: Panel = Panel()


async def test_a_change_by_another_version_keeps_the_chain() -> None:
    """A change of which this version knows nothing is told as an empty one: the client's chain has no break."""
    kit = make_kit()
    newer = kit.another([Newer])
    await newer.patch("appearance", {"panel": {"width": 300}})
    await newer.patch("appearance", {"theme": "contrast"})
    await kit.patch("appearance", {"font_size": 20})
    page = await kit.feed.page(ANNA, 0)
    assert [change.changed for change in page.changes] == [
        {},
        {"appearance": {"theme": "system"}},
        {"appearance": {"font_size": 20}},
    ]
    assert [change.removed for change in page.changes] == [{}, {}, {}]
    assert [change.change.previous for change in page.changes] == [
        0,
        *[change.change.revision for change in page.changes[:-1]],
    ]


async def test_a_change_is_shown_in_todays_defaults() -> None:
    """A field that went back to its default is shown with the default of the version that shows it."""
    kit = make_kit()
    await kit.patch("appearance", {"font_size": 20})
    await kit.patch("appearance", {"font_size": None, "theme": "dark"})
    log = await kit.repository.changes(ANNA, 0, 10)

    class Later(Preferences, namespace="appearance"):
        theme: Literal["system", "light", "dark"] = "dark"
        font_size: int = 16

    shown = present(Schema([Later]), log.changes[1])
    assert shown.changed == {"appearance": {"theme": "dark", "font_size": 16}}

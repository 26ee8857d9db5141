"""The typed handle and how values are spelled in JSON: what an edit touches, and what it leaves as it was."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import anyio
import pytest
from pydantic import BaseModel, Field, field_validator

from prefsync import InvalidPreferencesError, Preferences
from tests.unit.support import ANNA, MODELS, PATIENCE, Appearance, Editor, Plugins, Process

if TYPE_CHECKING:
    from prefsync.handle import PreferencesHandle


class Tool(BaseModel):
    """A part of a value."""

    name: str
    size: int = 1


class Spelled(Preferences, namespace="spelled"):
    """Fields whose values can be spelled in more than one way, or are changed by the model when it reads them."""

    moment: dt.datetime = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    price: Decimal = Decimal("1.5")
    ratio: float = 1.5
    colour: str = "#3366ff"
    unique: set[str] = set()
    tools: list[Tool] = [Tool(name="pen")]
    wire: int = Field(1, alias="wireName")
    other: int = 0

    @field_validator("colour")
    @classmethod
    def _lower(cls, value: str) -> str:
        return value.lower()


@pytest.fixture
def process() -> Process:
    """A service that knows the example's namespaces and this one."""
    return Process(models=(*MODELS, Spelled))


@pytest.fixture
def prefs(process: Process) -> PreferencesHandle:
    """Anna's handle."""
    return process.handle()


async def stored(process: Process, namespace: str) -> dict[str, Any]:
    """Return what is stored in a namespace."""
    return dict((await process.repository.load(ANNA)).values.get(namespace, {}))


ODDLY_SPELLED = {
    "moment": "2026-11-23T03:05:46+00:00",
    "price": "2.50",
    "ratio": 2,
    "colour": "#AABBCC",
    "unique": ["z", "a", "m", "z"],
    "tools": [{"name": "brush"}],
    "wireName": 7,
}


@pytest.mark.parametrize("how", ["assign", "in place", "nothing"])
async def test_an_edit_leaves_the_spelling_of_what_it_does_not_touch(process: Process, how: str) -> None:
    """A field that the block did not touch is not written, though the model would spell its value in another way.

    Written back, it would undo what another session has made of it meanwhile.
    """
    await process.put("spelled", ODDLY_SPELLED)
    revision = (await process.read()).revision
    async with process.handle().edit(Spelled) as mine:
        if how == "assign":
            mine.other = 5
        elif how == "in place":
            mine.tools.append(Tool(name="pencil"))
        await process.merge(
            "spelled", {"moment": "2030-01-01T00:00:00+00:00", "colour": "#FFFFFF", "price": "9"}
        )
    values = await stored(process, "spelled")
    expected = {**ODDLY_SPELLED, "moment": "2030-01-01T00:00:00+00:00", "colour": "#FFFFFF", "price": "9"}
    if how == "assign":
        expected["other"] = 5
    elif how == "in place":
        assert [tool["name"] for tool in values["tools"]] == ["brush", "pencil"]
        expected["tools"] = values["tools"]
    assert values == expected
    if how == "nothing":
        changes = await process.repository.changes(ANNA, revision, 10)
        assert len(changes.changes) == 1, "an edit of nothing made a revision"


async def test_an_edit_can_spell_a_touched_field_anew(process: Process) -> None:
    """What the block assigns is written as the model writes it."""
    await process.put("spelled", ODDLY_SPELLED)
    async with process.handle().edit(Spelled) as mine:
        mine.moment = dt.datetime(2031, 1, 1, tzinfo=dt.UTC)
        mine.unique.discard("z")
        mine.wire = 8
    values = await stored(process, "spelled")
    assert values["moment"] == "2031-01-01T00:00:00Z"
    assert sorted(values["unique"]) == ["a", "m"]
    assert values["wireName"] == 8
    assert values["colour"] == "#AABBCC"


async def test_a_field_is_updated_by_its_name_in_python(process: Process, prefs: PreferencesHandle) -> None:
    """A field with an alias is set by the name that the host's code has for it."""
    assert (await prefs.update(Spelled, wire=5)).wire == 5
    assert await stored(process, "spelled") == {"wireName": 5}


async def test_an_update_stores_what_was_given(process: Process, prefs: PreferencesHandle) -> None:
    """Python's own types are written as JSON, and nothing beside them."""
    moment = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
    answer = await prefs.update(Spelled, moment=moment, price=Decimal("3.25"), tools=[Tool(name="x", size=3)])
    assert (answer.moment, answer.price, answer.tools) == (moment, Decimal("3.25"), [Tool(name="x", size=3)])
    assert set(await stored(process, "spelled")) == {"moment", "price", "tools"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("font_size", "big"),
        ("font_size", 7),
        ("font_size", None),
        ("font_size", 14.5),
        ("font_size", True),
        ("theme", "blue"),
        ("theme", 5),
        ("accent", "red"),
        ("accent", "\ud800"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("how", ["edit", "update"])
async def test_a_value_that_breaks_the_rules_is_told_by_its_place(
    process: Process, prefs: PreferencesHandle, how: str, field: str, value: Any
) -> None:
    """Whatever is wrong with a value, its type included, the error is ours and names the field; nothing is written."""

    async def write() -> None:
        if how == "update":
            await prefs.update(Appearance, **{field: value})
            return
        async with prefs.edit(Appearance) as mine:
            setattr(mine, field, value)

    with pytest.raises(InvalidPreferencesError) as caught:
        await write()
    assert {error.pointer for error in caught.value.errors} == {f"/appearance/{field}"}
    assert await stored(process, "appearance") == {}


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 2**53, "\x00", "\ud800", {"__proto__": 1}], ids=repr
)
async def test_what_cannot_be_stored_is_refused_in_an_open_namespace(
    process: Process, prefs: PreferencesHandle, value: Any
) -> None:
    """The rules for values hold for the host's own code too."""
    with pytest.raises(InvalidPreferencesError) as caught:
        await prefs.update(Plugins, fine=1, bad=value)
    assert caught.value.errors[0].pointer.startswith("/plugins/bad")
    assert await stored(process, "plugins") == {}


async def test_what_is_returned_is_the_callers_own(prefs: PreferencesHandle) -> None:
    """Changing a model outside an edit changes nothing for anybody."""
    await prefs.update(Editor, rulers=[80])
    await prefs.update(Plugins, a={"b": [1]})
    editor, plugins = await prefs.get(Editor), await prefs.get(Plugins)
    editor.rulers.append(100)
    plugins["a"]["b"].append(2)  # type: ignore[index, call-overload, union-attr]  # known to be so
    plugins["c"] = 1
    assert (await prefs.get(Editor)).rulers == [80]
    assert dict(await prefs.get(Plugins)) == {"a": {"b": [1]}}
    assert Editor().rulers == []


async def test_defaults_are_not_shared_by_edits(prefs: PreferencesHandle) -> None:
    """A list that an edit changes in place is the edit's own, not the default of everybody."""
    async with prefs.edit(Editor) as mine:
        mine.rulers.append(80)
    assert Editor().rulers == []
    await prefs.reset(Editor)
    assert (await prefs.get(Editor)).rulers == []


async def test_an_edit_of_the_same_field_is_last_write_wins(prefs: PreferencesHandle) -> None:
    """Two edits of one field: the one whose block ends last stays."""
    async with prefs.edit(Appearance) as first:
        async with prefs.edit(Appearance) as second:
            second.theme = "light"
        first.theme = "dark"
    assert (await prefs.get(Appearance)).theme == "dark"


async def test_an_edit_that_is_cancelled_writes_nothing(process: Process, prefs: PreferencesHandle) -> None:
    """A block that is cut short is as if it had not been begun."""
    with anyio.move_on_after(0.01):
        async with prefs.edit(Appearance) as mine:
            mine.theme = "dark"
            await anyio.sleep(PATIENCE)
    assert await stored(process, "appearance") == {}


class Wider(Preferences, namespace="appearance"):
    """A newer version of the namespace."""

    theme: Literal["system", "light", "dark", "contrast"] = "system"
    font_size: int = 14
    spacing: int = 2


async def test_an_edit_by_an_older_version_keeps_what_it_cannot_read(
    process: Process, prefs: PreferencesHandle
) -> None:
    """Values and fields of a newer version read as defaults, and survive an edit of something else."""
    await process.another([Wider]).handle().update(Wider, theme="contrast", spacing=5)
    async with prefs.edit(Appearance) as mine:
        assert mine.theme == "system"
        mine.font_size = 20
    assert await stored(process, "appearance") == {"theme": "contrast", "spacing": 5, "font_size": 20}

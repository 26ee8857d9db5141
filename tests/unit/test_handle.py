"""The typed handle."""

from __future__ import annotations

import asyncio
from datetime import date
from enum import Enum

import pytest
from pydantic import Field

from prefsync.adapters.memory import MemoryRepository
from prefsync.errors import InvalidPreferencesError, UnavailableError, UndeclaredNamespaceError
from prefsync.handle import PreferencesHandle
from prefsync.schema import Preferences
from prefsync.testing import FailingRepository
from tests.unit.support import MODELS, Appearance, Editor, Layout, Plugins, Process, new_subject


class Colour(Enum):
    """A value that JSON does not have."""

    RED = "red"
    BLUE = "blue"


class Rich(Preferences, namespace="rich"):
    """Fields whose types JSON does not have, and one with an alias."""

    colour: Colour = Colour.RED
    since: date = date(2026, 1, 1)
    line_height: float = Field(default=1.5, alias="lineHeight")


class Undeclared(Preferences, namespace="undeclared"):
    """One that nobody declared."""


@pytest.fixture
def process() -> Process:
    """A process that knows all of these."""
    return Process(models=(*MODELS, Rich))


@pytest.fixture
def prefs(process: Process) -> PreferencesHandle:
    """Somebody's handle."""
    return PreferencesHandle(process.service, new_subject())


async def stored(process: Process, prefs: PreferencesHandle) -> object:
    """Return what is stored."""
    return (await process.repository.load(prefs.subject)).values


async def test_defaults_are_the_models_own(prefs: PreferencesHandle) -> None:
    """Whoever set nothing gets what the model says."""
    assert await prefs.get(Appearance) == Appearance()
    assert await prefs.get(Rich) == Rich()
    assert dict(await prefs.get(Plugins)) == {}


async def test_an_edit_writes_only_what_it_touched(process: Process, prefs: PreferencesHandle) -> None:
    """Fields that the block leaves alone are not stored, and one that is assigned its own default is."""
    async with prefs.edit(Appearance) as mine:
        mine.theme = "dark"
        mine.font_size = 14
    assert await stored(process, prefs) == {"appearance": {"theme": "dark", "font_size": 14}}


async def test_an_edit_that_touches_nothing_writes_nothing(
    process: Process, prefs: PreferencesHandle
) -> None:
    """Looking is no edit."""
    async with prefs.edit(Appearance) as mine:
        assert mine.theme == "system"
    assert (await process.service.read(prefs.subject)).revision == 0


async def test_an_edit_sees_changes_in_place(process: Process, prefs: PreferencesHandle) -> None:
    """A list or an object that is changed without being assigned is written."""
    async with prefs.edit(Appearance) as mine:
        mine.tags.append("a")
        mine.layout.columns = 3
        mine.extras["x"] = {"y": [1]}
    expected = {"tags": ["a"], "layout": {"columns": 3, "order": []}, "extras": {"x": {"y": [1]}}}
    assert await stored(process, prefs) == {"appearance": expected}
    assert (await prefs.get(Appearance)).layout == Layout(columns=3)
    assert Appearance() == Appearance(tags=[], layout=Layout(), extras={})


async def test_edits_of_different_fields_never_undo_one_another(prefs: PreferencesHandle) -> None:
    """Two blocks that are open at once and touch different fields both take effect."""
    async with prefs.edit(Appearance) as one:
        one.theme = "dark"
        async with prefs.edit(Appearance) as other:
            other.tags.append("a")
    mine = await prefs.get(Appearance)
    assert (mine.theme, mine.tags) == ("dark", ["a"])


async def test_an_edit_that_raises_writes_nothing(process: Process, prefs: PreferencesHandle) -> None:
    """An error in the block reaches the caller, and nothing is stored."""
    with pytest.raises(ZeroDivisionError):  # noqa: PT012  # the error is raised inside the block
        async with prefs.edit(Appearance) as mine:
            mine.theme = "dark"
            raise ZeroDivisionError
    assert await stored(process, prefs) == {}


async def test_an_edit_of_an_open_namespace(process: Process, prefs: PreferencesHandle) -> None:
    """Names are set, changed in place and taken away; those that others set meanwhile stay."""
    await prefs.update(Plugins, a=1, b={"x": [1]}, c=None)
    async with prefs.edit(Plugins) as mine:
        del mine["a"]
        mine["b"]["x"].append(2)  # type: ignore[index, call-overload, union-attr]  # known to be so
        mine["d"] = None
        await prefs.update(Plugins, e=5)
    assert await stored(process, prefs) == {"plugins": {"b": {"x": [1, 2]}, "c": None, "d": None, "e": 5}}


async def test_values_that_json_does_not_have(process: Process, prefs: PreferencesHandle) -> None:
    """An enum and a date are stored as JSON and come back as they were, by update and by edit."""
    answer = await prefs.update(Rich, colour=Colour.BLUE, since=date(2026, 2, 3), line_height=2.0)
    assert answer.colour is Colour.BLUE
    assert answer.since == date(2026, 2, 3)
    async with prefs.edit(Rich) as mine:
        mine.since = date(2026, 2, 4)
    expected = {"colour": "blue", "since": "2026-02-04", "lineHeight": 2.0}
    assert await stored(process, prefs) == {"rich": expected}
    assert await prefs.reset(Rich, "line_height") == Rich(colour=Colour.BLUE, since=date(2026, 2, 4))


async def test_reset_takes_fields_or_all_back(process: Process, prefs: PreferencesHandle) -> None:
    """Named fields go back to their defaults; without names, all do; open namespaces lose their keys."""
    await prefs.update(Appearance, theme="dark", font_size=20)
    await prefs.update(Plugins, a=1, b=2)
    assert (await prefs.reset(Appearance, "theme")).theme == "system"
    assert dict(await prefs.reset(Plugins, "a", "unknown")) == {"b": 2}
    assert await stored(process, prefs) == {"appearance": {"font_size": 20}, "plugins": {"b": 2}}
    assert await prefs.reset(Appearance) == Appearance()
    assert dict(await prefs.reset(Plugins)) == {}
    assert await stored(process, prefs) == {}


async def test_an_unknown_field_is_refused(process: Process, prefs: PreferencesHandle) -> None:
    """Setting or resetting a field that is not declared raises with its pointer, and nothing is written."""
    await prefs.update(Appearance, theme="dark")
    with pytest.raises(InvalidPreferencesError) as caught:
        await prefs.reset(Appearance, "theme", "no/body", "nobody")
    assert [error.pointer for error in caught.value.errors] == ["/appearance/no~1body", "/appearance/nobody"]
    with pytest.raises(InvalidPreferencesError) as caught:
        await prefs.update(Appearance, theme="light", nobody=1)
    assert [error.pointer for error in caught.value.errors] == ["/appearance/nobody"]
    assert await stored(process, prefs) == {"appearance": {"theme": "dark"}}


async def test_values_that_break_the_rules_are_refused(process: Process, prefs: PreferencesHandle) -> None:
    """What the model does not take raises with all its places, by update and by edit, and nothing is written."""
    with pytest.raises(InvalidPreferencesError) as caught:
        await prefs.update(Appearance, theme="wrong", font_size=73, tags=[1])
    assert {error.pointer for error in caught.value.errors} == {
        "/appearance/theme",
        "/appearance/font_size",
        "/appearance/tags/0",
    }
    with pytest.raises(InvalidPreferencesError):
        async with prefs.edit(Appearance) as mine:
            mine.font_size = 7
    assert await stored(process, prefs) == {}


async def test_a_namespace_that_was_not_declared_is_an_error(prefs: PreferencesHandle) -> None:
    """Every method says which model is missing."""
    for work in (prefs.get, prefs.update, prefs.reset):
        with pytest.raises(UndeclaredNamespaceError, match="Undeclared was not declared: add it"):
            await work(Undeclared)
    with pytest.raises(UndeclaredNamespaceError):
        async with prefs.edit(Undeclared):
            pass


async def test_a_database_that_is_away_is_an_error() -> None:
    """Where nothing can be read, get and edit say so, and the block of an edit is not entered."""
    repository = FailingRepository(MemoryRepository())
    prefs = PreferencesHandle(Process(repository).service, new_subject())
    repository.is_down = True
    with pytest.raises(UnavailableError):
        await prefs.get(Editor)
    with pytest.raises(UnavailableError):
        async with prefs.edit(Editor):
            pytest.fail("the block was entered")


async def test_many_edits_at_once_all_survive(prefs: PreferencesHandle) -> None:
    """Concurrent edits of an open namespace, each of its own name, are all there afterwards."""

    async def edit(n: int) -> None:
        async with prefs.edit(Plugins) as mine:
            mine[f"name{n}"] = n

    await asyncio.gather(*map(edit, range(30)))
    assert dict(await prefs.get(Plugins)) == {f"name{n}": n for n in range(30)}

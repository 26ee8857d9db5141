"""Writes and reads by two versions of the host's code at once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from prefsync.adapters.memory import MemoryCache, MemoryRepository
from prefsync.errors import (
    InvalidPreferencesError,
    UndeclaredNamespaceError,
)
from prefsync.merge import Mutation, Patch, Replace, Reset
from prefsync.schema import OpenPreferences, Preferences
from tests.unit.support import Process, new_subject, patch


class OldAppearance(Preferences, namespace="appearance"):
    """As it was before the deploy."""

    theme: Literal["light", "dark"] = "light"
    size: int = 14


class NewAppearance(Preferences, namespace="appearance"):
    """As it is after it: a field more, a value less."""

    theme: Literal["light", "dim"] = "light"
    size: Annotated[int, Field(le=20)] = 14
    accent: str = "blue"


class NewExtras(OpenPreferences, namespace="extras"):
    """A namespace that only the newer schema has."""


@pytest.mark.parametrize(
    ("edit", "left"),
    [
        (Replace({"size": 10}), {"size": 10, "accent": "red"}),
        (Patch({"size": 10}), {"theme": "dark", "size": 10, "accent": "red"}),
        (Patch({"theme": None}), {"accent": "red"}),
    ],
    ids=repr,
)
async def test_fields_of_a_newer_schema_survive(edit: Replace | Patch, left: dict[str, Any]) -> None:
    """A process with the older code writes around fields that it does not know, and shows none of them."""
    repository, cache = MemoryRepository(), MemoryCache()
    newer = Process(repository, cache, models=[Wide, NewExtras])
    older = Process(repository, cache, models=[OldAppearance])
    subject = new_subject()
    await newer.patch(subject, "appearance", theme="dark", accent="red")
    answer = await older.service.write(subject, Mutation({"appearance": edit}))
    assert "accent" not in answer.values["appearance"]
    assert (await repository.load(subject)).values["appearance"] == left
    shown = (await newer.service.read(subject)).values["appearance"]
    assert shown["accent"] == "red"


class Wide(Preferences, namespace="appearance"):
    """What both versions of the code take, and a field more."""

    theme: Literal["light", "dark", "dim"] = "light"
    size: int = 14
    accent: str = "blue"


@pytest.mark.parametrize("mutation", ["replace all", "reset all", "reset", "patch"])
async def test_namespaces_of_a_newer_schema_survive(mutation: str) -> None:
    """No write of the older code touches a namespace that it does not know, not even one over everything."""
    repository, cache = MemoryRepository(), MemoryCache()
    newer = Process(repository, cache, models=[Wide, NewExtras])
    older = Process(repository, cache, models=[OldAppearance])
    subject = new_subject()
    await newer.patch(subject, "extras", kept=[1])
    await newer.patch(subject, "appearance", size=15)
    mutations = {
        "replace all": Mutation.replace_all(older.schema, {"appearance": {"size": 9}}),
        "reset all": Mutation.reset_all(older.schema),
        "reset": Mutation({"appearance": Reset()}),
        "patch": patch("appearance", size=9),
    }
    await older.service.write(subject, mutations[mutation])
    assert (await newer.service.read(subject)).values["extras"] == {"kept": [1]}
    with pytest.raises(UndeclaredNamespaceError):
        await older.patch(subject, "extras", kept=None)


async def test_a_reset_takes_away_all_that_is_stored_in_a_namespace() -> None:
    """DELETE of a namespace leaves nothing in it, fields of a newer schema included."""
    repository, cache, subject = MemoryRepository(), MemoryCache(), new_subject()
    await Process(repository, cache, models=[Wide]).patch(subject, "appearance", accent="red", size=2)
    await Process(repository, cache, models=[OldAppearance]).service.write(
        subject, Mutation({"appearance": Reset()})
    )
    assert (await repository.load(subject)).values == {}


async def test_stored_values_that_do_not_fit_any_more_read_as_defaults_and_stay() -> None:
    """A value that the newer code refuses reads as its default, and survives a patch of another field."""
    repository, cache = MemoryRepository(), MemoryCache()
    older, newer = (
        Process(repository, cache, models=[OldAppearance]),
        Process(repository, cache, models=[NewAppearance]),
    )
    subject = new_subject()
    await older.patch(subject, "appearance", theme="dark", size=30)
    shown = (await newer.service.read(subject)).values["appearance"]
    assert shown == {"theme": "light", "size": 14, "accent": "blue"}
    answer = await newer.patch(subject, "appearance", accent="red")
    assert answer.values["appearance"] == {"theme": "light", "size": 14, "accent": "red"}
    answer = await newer.patch(subject, "appearance", size=20)
    assert answer.values["appearance"] == {"theme": "light", "size": 20, "accent": "red"}
    assert (await older.service.read(subject)).values["appearance"] == {"theme": "dark", "size": 20}


async def test_a_value_that_does_not_fit_any_more_can_be_set_anew_or_reset() -> None:
    """Writing to the field itself replaces what does not fit; null takes it away; a wrong value is still refused."""
    repository, cache = MemoryRepository(), MemoryCache()
    older, newer = (
        Process(repository, cache, models=[OldAppearance]),
        Process(repository, cache, models=[NewAppearance]),
    )
    subject = new_subject()
    await older.patch(subject, "appearance", theme="dark", size=30)
    with pytest.raises(InvalidPreferencesError) as caught:
        await newer.patch(subject, "appearance", size=31)
    assert [error.pointer for error in caught.value.errors] == ["/appearance/size"]
    await newer.patch(subject, "appearance", theme=None)
    assert (await repository.load(subject)).values == {"appearance": {"size": 30}}
    await newer.service.write(subject, Mutation({"appearance": Replace({"theme": "dim"})}))
    assert (await repository.load(subject)).values == {"appearance": {"theme": "dim"}}

"""What a type checker knows about preferences in the host's own code. Checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, assert_type

from prefsync import OpenPreferences, Preferences, PreferencesHandle, Subject, TransactionPreferences
from prefsync.blocking import BlockingTransactionPreferences
from prefsync_fastapi import CurrentPreferences, PrefSync

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session


class Appearance(Preferences, namespace="appearance"):
    """A typed namespace."""

    theme: Literal["system", "light", "dark"] = "system"
    font_size: int = 14


class Plugins(OpenPreferences, namespace="plugins"):
    """An open one."""


prefsync = PrefSync([Appearance, Plugins])


async def reading(prefs: CurrentPreferences) -> None:
    """A namespace comes back as its own model."""
    assert_type(prefs, PreferencesHandle)
    appearance = await prefs.get(Appearance)
    assert_type(appearance, Appearance)
    assert_type(appearance.theme, Literal["system", "light", "dark"])
    assert_type(appearance.font_size, int)
    assert_type(await prefs.get(Plugins), Plugins)


async def writing(prefs: PreferencesHandle) -> None:
    """An edit has the model's fields, and no others."""
    async with prefs.edit(Appearance) as mine:
        assert_type(mine, Appearance)
        mine.theme = "dark"
        mine.theme = "pink"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
        mine.colour = "red"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    async with prefs.edit(Plugins) as plugins:
        plugins["spell-checker"] = {"language": "en"}
    assert_type(await prefs.update(Appearance, theme="light"), Appearance)
    assert_type(await prefs.reset(Appearance, "theme"), Appearance)
    assert_type(await prefs.reset(Plugins), Plugins)


async def inside_transactions(session: AsyncSession, blocking: Session) -> None:
    """What a session is says whether there is something to await."""
    async with prefsync.within(session) as preferences:
        assert_type(preferences, TransactionPreferences)
        assert_type(await preferences.of("alice").get(Appearance), Appearance)
    with prefsync.within(blocking) as inside:
        assert_type(inside, BlockingTransactionPreferences)
        assert_type(inside.of(Subject("alice")).get(Appearance), Appearance)


async def refused(prefs: PreferencesHandle) -> None:
    """Only what can be a namespace can be asked for."""
    await prefs.get(int)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


def constructing() -> None:
    """Models are declared as classes."""
    PrefSync([Appearance()])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    assert_type(Subject("alice").tenant, str | None)

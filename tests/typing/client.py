"""What a type checker knows about the Python client. Checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import Any, Literal, assert_type

from prefsync import OpenPreferences, Preferences
from prefsync.client import AsyncPreferencesClient, Change, PreferencesClient, Reset, State


class Appearance(Preferences, namespace="appearance"):
    """A typed namespace."""

    theme: Literal["system", "light", "dark"] = "system"


class Plugins(OpenPreferences, namespace="plugins"):
    """An open one."""


async def awaited(prefs: AsyncPreferencesClient) -> None:
    """A name gives dicts, a model gives instances, nothing gives everything."""
    assert_type(await prefs.get(), dict[str, dict[str, Any]])
    assert_type(await prefs.get("appearance"), dict[str, Any])
    assert_type(await prefs.get(Appearance), Appearance)
    assert_type((await prefs.read(Plugins)).values, Plugins)
    assert_type(await prefs.set(Appearance, Appearance(theme="dark")), State[Appearance])
    assert_type(await prefs.set("appearance", {"theme": "dark"}), State[dict[str, Any]])
    assert_type(await prefs.patch(Plugins, {"a": None}, if_match="tag", time_limit=5), State[Plugins])
    assert_type(await prefs.reset(), State[dict[str, dict[str, Any]]])
    assert_type(await prefs.reset(Appearance), State[Appearance])
    async with prefs.watch(since=7) as events:
        async for event in events:
            assert_type(event, Change | Reset)


def waited_for(prefs: PreferencesClient) -> None:
    """The blocking client has the same types."""
    assert_type(prefs.get(), dict[str, dict[str, Any]])
    assert_type(prefs.get("appearance"), dict[str, Any])
    assert_type(prefs.get(Appearance), Appearance)
    assert_type(prefs.read(Plugins).values, Plugins)
    state = prefs.set(Appearance, Appearance(theme="dark"))
    assert_type(state, State[Appearance])
    assert_type(
        prefs.patch("plugins", {"a": None}, if_match=state, idempotency_key="k"), State[dict[str, Any]]
    )
    assert_type(prefs.set_all({"appearance": {}}), State[dict[str, dict[str, Any]]])
    assert_type(prefs.patch_all({"appearance": None}), State[dict[str, dict[str, Any]]])
    with prefs.watch() as events:
        for event in events:
            assert_type(event.revision, int)


async def token() -> str:
    """Give a token."""
    return "a.b.c"


def refused(prefs: PreferencesClient) -> None:
    """What could not work is an error."""
    AsyncPreferencesClient("https://app.example.com/preferences", token)
    PreferencesClient("https://app.example.com/preferences", lambda: "a.b.c")
    PreferencesClient("https://app.example.com/preferences", token)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    prefs.get(int)  # type: ignore[type-var]  # pyright: ignore[reportCallIssue, reportArgumentType]
    prefs.set("plugins", {}, force=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]

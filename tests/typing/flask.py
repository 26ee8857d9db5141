"""What a type checker knows about preferences in a Flask host's own code. Checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import Any, Literal, assert_type

from flask import Flask

from prefsync import OpenPreferences, Preferences, Subject
from prefsync.blocking import BlockingPreferencesHandle, BlockingRuntime
from prefsync_flask import PrefSync, current_preferences


class Appearance(Preferences, namespace="appearance"):
    """A typed namespace."""

    theme: Literal["system", "light", "dark"] = "system"
    font_size: int = 14


class Plugins(OpenPreferences, namespace="plugins"):
    """An open one."""


app = Flask(__name__)
prefsync = PrefSync(app, [Appearance, Plugins])
runtime = BlockingRuntime([Appearance, Plugins])


def reading() -> None:
    """A namespace comes back as its own model."""
    assert_type(current_preferences, BlockingPreferencesHandle)
    assert_type(prefsync.preferences(), BlockingPreferencesHandle)
    assert_type(runtime.handle(Subject("anna")), BlockingPreferencesHandle)
    assert_type(current_preferences.get(Appearance), Appearance)
    assert_type(current_preferences.get(Appearance).theme, Literal["system", "light", "dark"])
    assert_type(current_preferences.get(Plugins), Plugins)
    assert_type(prefsync.openapi(), dict[str, Any])


def writing() -> None:
    """An edit has the model's fields, and no others."""
    with current_preferences.edit(Appearance) as mine:
        assert_type(mine, Appearance)
        mine.theme = "dark"
        mine.theme = "pink"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
        mine.colour = "red"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    assert_type(current_preferences.update(Appearance, theme="light"), Appearance)
    assert_type(current_preferences.reset(Appearance, "theme"), Appearance)


def refused() -> None:
    """Only what can be a namespace can be asked for, and models are declared as classes."""
    current_preferences.get(int)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    PrefSync(app, [Appearance()])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]

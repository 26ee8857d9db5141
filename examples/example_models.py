"""What the users of the example apps can set: the same in both apps, so that both can run on one database."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from prefsync import OpenPreferences, Preferences

__all__ = ["Appearance", "Editor", "Notifications", "Plugins"]


class Appearance(Preferences, namespace="appearance"):
    """How the app looks."""

    theme: Literal["system", "light", "dark"] = "system"
    """Light, dark, or as the device is set."""

    accent: Annotated[str, Field(pattern=r"^#[0-9A-Fa-f]{6}$")] = "#3366ff"
    """The colour of what can be clicked, as #rrggbb."""

    font_size: Annotated[int, Field(ge=8, le=72)] = 14
    """In points."""

    density: Literal["comfortable", "compact"] = "comfortable"
    """How much fits on a page."""


class Editor(Preferences, namespace="editor"):
    """How text is edited."""

    tab_size: Annotated[int, Field(ge=1, le=16)] = 4
    """Columns that a tab takes."""

    word_wrap: bool = False
    """Whether long lines continue on the next."""

    rulers: Annotated[list[int], Field(max_length=8)] = []
    """Columns at which a vertical line is drawn."""


class Notifications(Preferences, namespace="notifications"):
    """What the app may interrupt for."""

    email: bool = True
    """By mail."""

    push: bool = False
    """On the device."""

    digest: Literal["off", "daily", "weekly"] = "weekly"
    """How often a summary is sent."""

    muted_channels: Annotated[list[str], Field(max_length=100)] = []
    """Channels that never notify."""


class Plugins(OpenPreferences, namespace="plugins"):
    """What plugins keep: any JSON under any name."""

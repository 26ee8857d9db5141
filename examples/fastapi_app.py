"""A FastAPI app with synchronised preferences, set up by ``PREFSYNC_...`` variables.

Run it under any ASGI server, with as many workers as you like once ``PREFSYNC_REDIS_URL`` is set:

    PREFSYNC_JWT_KEY=... uvicorn --app-dir examples fastapi_app:app
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import FastAPI
from pydantic import Field

from prefsync import OpenPreferences, Preferences
from prefsync_fastapi import CurrentPreferences, PrefSync


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


prefsync = PrefSync([Appearance, Editor, Notifications, Plugins], socketio=True)

app = FastAPI(title="prefsync example")
app.include_router(prefsync.router, prefix="/preferences")


@app.get("/greeting")
async def greeting(prefs: CurrentPreferences) -> dict[str, str]:
    """Read the user's preferences in the app's own code."""
    appearance = await prefs.get(Appearance)
    return {"greeting": f"Welcome to the {appearance.theme} side."}


@app.post("/lights-out")
async def lights_out(prefs: CurrentPreferences) -> dict[str, str]:
    """Change one of them; every other session of the user hears of it."""
    async with prefs.edit(Appearance) as mine:
        mine.theme = "dark"
    return {"theme": mine.theme}

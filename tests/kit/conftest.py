"""Two apps of hosts, one in each framework, made in the way that each shows first."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest
from example_models import Appearance, Editor, Plugins
from fastapi import Cookie, FastAPI, HTTPException
from flask import Flask, request

import prefsync_fastapi
import prefsync_flask
from prefsync import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

MODELS = [Appearance, Editor, Plugins]
FRAMEWORKS = ["fastapi", "flask"]


def settings() -> Settings:
    """A production's settings: nothing in them may be reached by a test of the kit."""
    return Settings(
        database_url="postgresql://nobody@127.0.0.1:1/none",
        redis_url="redis://127.0.0.1:1",
        jwt_key=secrets.token_urlsafe(48),
        jwt_issuer="https://issuer.example",
        jwt_audience="https://app.example",
        require_https=True,
        near_cache="1MiB",  # type: ignore[arg-type]  # as it is written in a configuration
        rate_limit_writes="5/minute",  # type: ignore[arg-type]  # likewise
    )


def fastapi_app(*, own_authentication: bool = False) -> FastAPI:
    """A FastAPI app with a view of its own."""
    app = FastAPI()
    mount = prefsync_fastapi.PrefSync(
        MODELS, settings=settings(), authenticate=_by_cookie if own_authentication else None
    )
    app.include_router(mount.router, prefix="/settings")

    @app.post("/lights-out")
    async def lights_out(prefs: prefsync_fastapi.CurrentPreferences) -> str:
        async with prefs.edit(Appearance) as mine:
            mine.theme = "dark"
        return mine.theme

    return app


def flask_app(*, own_authentication: bool = False) -> Flask:
    """A Flask app with a view of its own."""
    app = Flask(__name__)
    prefsync_flask.PrefSync(
        app,
        MODELS,
        settings=settings(),
        url_prefix="/settings",
        authenticate=(lambda: request.cookies.get("user")) if own_authentication else None,
    )

    @app.post("/lights-out")
    def lights_out() -> Any:
        with prefsync_flask.current_preferences.edit(Appearance) as mine:
            mine.theme = "dark"
        return f'"{mine.theme}"'

    return app


async def _by_cookie(user: str = Cookie("")) -> str:
    if not user:
        raise HTTPException(401)
    return user


@pytest.fixture(params=FRAMEWORKS)
def make_app(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Make an app in each framework."""
    return {"fastapi": fastapi_app, "flask": flask_app}[request.param]


@pytest.fixture
def prefsync_app(make_app: Callable[..., Any]) -> Any:
    """The app that the plugin's fixtures run."""
    return make_app()

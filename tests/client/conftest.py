"""Both clients through one suite, against a real server."""

from __future__ import annotations

import contextlib
import functools
import secrets
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import httpx2
import pytest

from prefsync.client import AsyncPreferencesClient, PreferencesClient
from prefsync.testing.mount.callers import BOTH, KEY, mint
from tests.http.conftest import NO_TLS, uvicorn_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from prefsync.client import Change, Reset
    from tests.servers import ServerProcess

PATIENCE = 20.0
"""Seconds within which what should happen has happened, on a busy machine too."""


def token_for(user: str, life: float = 600, scope: str = BOTH) -> str:
    """Return a token that the example app takes."""
    return mint({"sub": user, "exp": time.time() + life, "scope": scope})


def settings(folder: Path, **more: str) -> dict[str, str]:
    """Return what the example app needs to run on SQLite in a folder."""
    url = f"sqlite:///{folder / 'prefsync.sqlite3'}"
    return {
        "PREFSYNC_JWT_KEY": KEY,
        "PREFSYNC_DATABASE_URL": url,
        "PREFSYNC_RATE_LIMIT": "100000/minute",
        **more,
    }


class Events:
    """A watch of either client, awaited."""

    def __init__(self, watch: Any) -> None:
        self.watch = watch

    async def next(self) -> Change | Reset | None:
        """Return the next event; ``None`` where the watch has ended."""
        with anyio.fail_after(PATIENCE):
            if hasattr(self.watch, "__anext__"):
                return await anext(self.watch, None)
            return await anyio.to_thread.run_sync(next, self.watch, None, abandon_on_cancel=True)

    async def close(self) -> None:
        """Close it."""
        if hasattr(self.watch, "aclose"):
            await self.watch.aclose()
        else:
            self.watch.close()


class Prefs:
    """Either client, awaited: its methods by their names."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)

        async def call(*args: Any, **options: Any) -> Any:
            with anyio.fail_after(PATIENCE):
                if isinstance(self.client, AsyncPreferencesClient):
                    return await method(*args, **options)
                work = functools.partial(method, *args, **options)
                return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)

        return call

    @contextlib.asynccontextmanager
    async def watching(self, *args: Any, **options: Any) -> AsyncIterator[Events]:
        """Watch."""
        events = Events(self.client.watch(*args, **options))
        try:
            yield events
        finally:
            await events.close()

    async def close(self) -> None:
        """Close it."""
        if isinstance(self.client, AsyncPreferencesClient):
            await self.client.aclose()
        else:
            await anyio.to_thread.run_sync(self.client.close)


@pytest.fixture(params=[AsyncPreferencesClient, PreferencesClient], ids=["async", "blocking"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Prefs]]:
    """Make clients of one of the two kinds, closed after the test."""
    made: list[Prefs] = []

    def connect(url: str, token: Any = None, **options: Any) -> Prefs:
        options.setdefault("transport", httpx2.AsyncHTTPTransport(verify=NO_TLS, trust_env=False))
        made.append(Prefs(request.param(url, "a.b.c" if token is None else token, **options)))
        return made[-1]

    yield connect
    for client in made:
        await client.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run the example app under uvicorn."""
    with uvicorn_process(settings(tmp_path_factory.mktemp("client"), PREFSYNC_JWT_LEEWAY="0")) as server:
        yield server


@pytest.fixture
def user() -> str:
    """Somebody new."""
    return secrets.token_hex(8)


@pytest.fixture
def prefs(server: ServerProcess, user: str, connect: Callable[..., Prefs]) -> Prefs:
    """A client of the example app."""
    return connect(f"{server.url}/preferences", token_for(user), name="suite")

"""FastAPI hosts with a mount in memory."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Self

from fastapi import FastAPI

from prefsync import Parts, Settings
from prefsync.adapters.memory import MemoryRepository
from prefsync.testing.mount import KEY, Caller, newcomer
from prefsync_fastapi import PrefSync
from tests.http.conftest import MODELS, asgi_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType


class CountingRepository(MemoryRepository):
    """Counts how often it is opened and closed."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = self.closed = 0

    async def __aenter__(self) -> Self:
        self.opened += 1
        assert self.opened == self.closed + 1, "opened while it was open"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed += 1


def memory_mount(models: Any = MODELS, **more: Any) -> PrefSync:
    """Return a mount that keeps everything in memory."""
    more.setdefault("settings", Settings(jwt_key=KEY))
    return PrefSync(models, parts=more.pop("parts", Parts(repository=CountingRepository())), **more)


def app_with(*mounts: PrefSync, **options: Any) -> FastAPI:
    """Return an app with mounts at /preferences, /preferences2 and so on."""
    app = FastAPI(**options)
    for number, mount in enumerate(mounts, start=1):
        app.include_router(mount.router, prefix="/preferences" + (str(number) if number > 1 else ""))
    return app


@contextlib.asynccontextmanager
async def running(app: FastAPI, prefix: str = "/preferences", **options: Any) -> AsyncIterator[Caller]:
    """Run an app's lifespan, and give a user of what it has at a prefix."""
    async with app.router.lifespan_context(app):
        yield newcomer(asgi_client(app, prefix, **options))

"""The model of a host, and what is asked again and again."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from sqlalchemy import text

from prefsync import Preferences, Subject
from prefsync.ports import Announcement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prefsync import Runtime

__all__ = ["INSERT", "Appearance", "has_row", "listening", "theme"]

INSERT = text("INSERT INTO users VALUES (:id)")


class Appearance(Preferences, namespace="appearance"):
    """What users set."""

    theme: str = "system"
    size: int = 0


async def theme(runtime: Runtime, user: str) -> str:
    """Return what reads of the user's theme are answered."""
    return (await runtime.handle(Subject(user)).get(Appearance)).theme


async def has_row(engine: Any, user: str) -> bool:
    """Tell whether the host has the user."""
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT 1 FROM users WHERE id = :id"), {"id": user})
        return found.first() is not None


@asynccontextmanager
async def listening(runtime: Runtime, user: str) -> AsyncIterator[list[Announcement]]:
    """Collect what sessions are told of a user."""
    told: list[Announcement] = []

    async def listen() -> None:
        nonlocal told
        async with runtime.notifier.subscribe() as announcements:
            listens.set()
            async for one in announcements:
                told += [one] if isinstance(one, Announcement) and one.subject == Subject(user) else []

    listens = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        await listens.wait()
        yield told
        tasks.cancel_scope.cancel()

"""Operations on async engines of SQLAlchemy's."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import anyio.lowlevel

from prefsync.adapters.sqlalchemy.runners import Calls, errors_of_ours, reading_options, transact

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from prefsync.adapters.sqlalchemy.operations import Operation

__all__ = ["AsyncEngineRunner"]

T = TypeVar("T")


class AsyncEngineRunner:
    """Runs operations on an async engine.

    Args:
        engine: Of any driver.
        owned: Whether to dispose of it at the end.
    """

    def __init__(self, engine: AsyncEngine, *, owned: bool) -> None:
        self._reading = engine.execution_options(**reading_options(engine.dialect))
        self._writing = engine.execution_options(prefsync_write=True)
        self._engine = engine
        self._owned = owned
        self._calls = Calls()

    async def run(self, operation: Operation[T], *, atomic: bool = False) -> T:
        await anyio.lowlevel.checkpoint_if_cancelled()
        with errors_of_ours():
            # Cancelled in the middle, SQLAlchemy leaves connections and tasks behind (its issues 6652, 8145, 12077).
            return await self._calls.to_its_end(self._run(operation, atomic=atomic), asyncio.Task.cancel)

    async def _run(self, operation: Operation[T], *, atomic: bool) -> T:
        async with (self._writing if atomic else self._reading).connect() as connection:
            return await connection.run_sync(partial(transact, operation=operation, atomic=atomic))

    async def close(self) -> None:
        await self._calls.ended()
        if self._owned:
            await self._engine.dispose()

"""A process that dies between the commit of the host's transaction and telling anybody of it.

Run as ``python -m tests.transactions.committer URL REDIS PREFIX DRIVER USER SECONDS``: the preferences are written by a
clock that is so many seconds behind the one at the commit, as in a transaction that stays open for as long.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from prefsync import Runtime, Settings
from prefsync.clock import SystemClock
from tests.transactions.host import INSERT, Appearance

if TYPE_CHECKING:
    from prefsync.ports import Committing


class Clock(SystemClock):
    """A clock that may be behind.

    Attributes:
        behind: ms.
    """

    behind = 0

    def now(self) -> int:
        """Return ms since 1970."""
        return super().now() - self.behind


async def main(url: str, redis_url: str, prefix: str, driver: str, user: str, seconds: str) -> None:
    """Commit, and die."""
    clock = Clock()
    settings = Settings(database_url=url, redis_url=redis_url, redis_prefix=prefix)
    async with Runtime([Appearance], settings=settings, authenticates=False, clock=clock) as runtime:

        async def die(committing: Committing, *_: Any) -> None:
            while not committing.is_over():
                await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGKILL)

        runtime.transactions._tell_when_over = die  # type: ignore[method-assign]
        engine = create_async_engine(url.replace(url.partition("://")[0], driver, 1))
        async with AsyncSession(engine) as session:
            clock.behind = int(seconds) * 1_000
            async with runtime.within(session) as preferences:
                await session.execute(INSERT, {"id": user})
                await preferences.of(user).update(Appearance, theme="dark")
            clock.behind = 0
            await session.commit()
        await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

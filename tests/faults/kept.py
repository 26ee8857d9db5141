"""A program that forks while a connection of its event loop is idle, and says whether that still works.

Run as a process of its own, ``python -m tests.faults.kept DRIVER URL``. The child lets go of everything and ends.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from typing import TYPE_CHECKING, Any

from prefsync.forks import keep_for_ever

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# Seconds after which an answer does not come any more.
LIMIT = 10.0


async def connect(driver: str, url: str) -> tuple[Any, Callable[[], Awaitable[object]]]:
    """Return a connection and a way to ask over it."""
    if driver == "asyncpg":
        import asyncpg

        connection = await asyncpg.connect(url)
        return connection, lambda: connection.fetchval("SELECT 1")
    from redis.asyncio import Redis

    client = Redis.from_url(url)
    return client, client.ping


def main() -> None:
    """Connect, fork, and ask once more."""
    runner = asyncio.Runner()
    connection, ask = runner.run(connect(*sys.argv[1:]))

    async def ask_in_time() -> None:
        async with asyncio.timeout(LIMIT):
            await ask()

    runner.run(ask_in_time())
    pid = os.fork()
    if pid == 0:
        keep_for_ever(connection, runner.get_loop())
        del runner, connection, ask, ask_in_time
        gc.collect()
        sys.exit()
    os.waitpid(pid, 0)
    runner.run(ask_in_time())
    os._exit(0)


if __name__ == "__main__":
    main()

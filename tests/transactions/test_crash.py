"""A process that dies after the commit of the host's transaction, before it told anybody."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from prefsync import Runtime, Settings
from tests.transactions.host import Appearance, has_row, listening, theme

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.transactions.conftest import Home

PATIENCE = 60.0


@pytest.mark.once
@pytest.mark.parametrize("seconds", [0, 3_600], ids=["short", "open for an hour"])
async def test_another_process_tells(
    home: Home, engine: AsyncEngine, redis_url: str, redis_prefix: str, user: str, seconds: int
) -> None:
    """What was committed is in the cache and told to sessions within seconds, however long the transaction was open."""
    settings = Settings(database_url=home.url, redis_url=redis_url, redis_prefix=redis_prefix)
    async with Runtime([Appearance], settings=settings, authenticates=False) as runtime:
        assert await theme(runtime, user) == "system"
        async with listening(runtime, user) as told:
            command = [
                sys.executable,
                "-m",
                "tests.transactions.committer",
                home.url,
                redis_url,
                redis_prefix,
            ]
            died = await anyio.run_process([*command, home.driver, user, str(seconds)], check=False)
            assert died.returncode == -signal.SIGKILL, died.stderr.decode()
            assert await has_row(engine, user)
            with anyio.fail_after(PATIENCE):
                while await theme(runtime, user) != "dark" or not told:
                    await anyio.sleep(0.02)

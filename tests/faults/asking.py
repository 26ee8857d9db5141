"""What tests of faults ask servers before and after a fault."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from tests.faults.crowd import headers_of, http_client
from tests.faults.follower import expect_success
from tests.faults.history import Change, Reset, event_of

if TYPE_CHECKING:
    from collections.abc import Callable


async def seed(base: str, user: str) -> Reset:
    """Write something, so that the user has a revision to begin with, and return that state."""
    async with http_client(base) as client:
        response = await client.patch("", headers=headers_of(user), content=b'{"editor": {"tab_size": 2}}')
    assert response.status_code == 200, response.text
    answer = response.json()
    return Reset(answer["revision"], answer["values"])


async def state(base: str, user: str, least: int) -> Reset:
    """Return the user's state, not older than a revision: the cache may be seconds behind after a fault of its own."""
    headers = {**headers_of(user), "prefsync-min-revision": str(least)}
    async with http_client(base) as client:
        response = await client.get("", headers=headers)
    expect_success(response.status_code, response.content)
    answer = response.json()
    return Reset(answer["revision"], answer["values"])


async def log_of(base: str, user: str, since: int) -> list[Change]:
    """Return all changes after a revision."""
    log: list[Change] = []
    async with http_client(base) as client:
        while True:
            path = f"/changes?since={since}&limit=1000"
            response = await client.get(path, headers=headers_of(user))
            expect_success(response.status_code, response.content)
            page = response.json()
            assert not page["reset"], f"revision {since} of {user} is not in the log any more"
            log += [change for change in map(event_of, page["changes"]) if isinstance(change, Change)]
            since = page["revision"]
            if not page["has_more"]:
                return log


async def until(true: Callable[[], bool], limit: float, failure: Callable[[], str] = str) -> None:
    """Return when something is true."""
    deadline = time.monotonic() + limit
    while not true():
        assert time.monotonic() < deadline, f"not within {limit} s {failure()}"
        await asyncio.sleep(0.01)

"""What telling of a host's commit must not do to the host."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prefsync import transactions
from prefsync.ports import Committing
from prefsync.transactions import Transactions
from tests.unit.support import Process

if TYPE_CHECKING:
    import pytest


def test_a_commit_that_ends_after_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread whose commit outlasts the event loop gives its connection back without an error."""
    monkeypatch.setattr(transactions, "_COMMIT_LIMIT", 0.01)
    process = Process()
    committing = Committing([], [], lambda: False)

    async def begin() -> None:
        async with Transactions(process.service, process.repository, process.clock) as joined:
            telling = joined._tell(committing)
            assert telling is not None
            await asyncio.wrap_future(telling)

    asyncio.run(begin())
    committing.end()

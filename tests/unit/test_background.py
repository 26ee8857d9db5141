"""What a process does of its own accord goes on, whatever happens to a part of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from prefsync import OpenPreferences, Parts, Runtime, Subject, wiring
from prefsync.adapters.memory import MemoryNotifier, MemoryRepository
from prefsync.testing import FailingRepository
from prefsync.testing.samples import settled

if TYPE_CHECKING:
    import pytest


class Plugins(OpenPreferences, namespace="plugins"):
    """An open namespace."""


async def test_a_failure_that_nobody_thought_of_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Work in the background that fails is logged and begun again, and the rest goes on meanwhile."""
    monkeypatch.setattr(wiring, "_FAILED_PAUSE", 0.01)
    repository = FailingRepository(MemoryRepository())
    for method in ("logged_since", "ping", "trim"):
        repository.fail(method, ValueError("a row that cannot be read"))
    parts = Parts(repository=repository, notifier=MemoryNotifier())
    async with Runtime([Plugins], parts=parts, authenticates=False) as runtime:
        await settled(lambda: repository.calls["logged_since"] > 1, "the relay was not begun again")
        assert "background work failed" in caplog.text
        assert runtime.health().notifier
        handle = runtime.handle(Subject("anna"))
        with anyio.fail_after(20):
            await handle.update(Plugins, spelling=True)
        assert (await handle.get(Plugins)).model_dump() == {"spelling": True}

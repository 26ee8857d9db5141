"""What a process does of its own accord goes on, whatever happens to a part of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from prefsync import OpenPreferences, Parts, Runtime, Subject, UnavailableError, health, wiring
from prefsync.adapters.memory import MemoryCache, MemoryNotifier, MemoryRepository
from prefsync.testing import FailingCache, FailingRepository
from prefsync.testing.samples import settled

if TYPE_CHECKING:
    from prefsync.ports import Announcement


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


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_cache_that_raises_anything_is_out_of_reach(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    at_once: bool,  # noqa: FBT001  # the example
) -> None:
    """Reads and writes go on without it, health says so and that it is back, and the log names each error once."""
    monkeypatch.setattr(health, "_PAUSE", 0.01)
    cache = MemoryCache()
    parts = Parts(repository=MemoryRepository(), cache=cache, notifier=MemoryNotifier())

    def raise_at_once(*_: Any) -> Any:
        raise KeyError("anna")

    async def raise_when_awaited(*_: Any) -> Any:
        raise KeyError("anna")

    async with Runtime([Plugins], parts=parts, authenticates=False) as runtime:

        def is_well() -> bool:
            return runtime.health().parts["cache"].is_well

        await settled(is_well, "the cache was never well")
        handle = runtime.handle(Subject("anna"))
        with monkeypatch.context() as patch:
            for method in ("get", "put", "versions"):
                patch.setattr(cache, method, raise_at_once if at_once else raise_when_awaited)
            looked: list[Any] = []
            patch.setattr("linecache.checkcache", looked.append)
            await settled(lambda: not is_well(), "that the cache raises was not noticed")
            assert runtime.health().database
            for spelling in (True, False):
                await handle.update(Plugins, spelling=spelling)
                assert (await handle.get(Plugins)).model_dump() == {"spelling": spelling}
            with pytest.raises(UnavailableError):
                await runtime.service.erase(Subject("anna"))
            runtime.service.documents.lookup(Subject("anna")).close()
            assert not looked  # at files, by the standard library's ways with tracebacks, at each request
        await settled(is_well, "that the cache is back was not noticed")
        assert (await handle.get(Plugins)).model_dump() == {}
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == 1
    assert "the cache raised KeyError" in told[0]
    assert "test_background.py" in told[0]
    assert "anna" not in caplog.text


async def test_a_notifier_that_raises_anything_fails_no_write(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is stored is answered as such; the others are told as soon as that is possible."""
    notifier = MemoryNotifier()
    parts = Parts(repository=MemoryRepository(), cache=MemoryCache(), notifier=notifier)

    async def fail(_: Announcement) -> None:
        raise ConnectionResetError

    async with Runtime([Plugins], parts=parts, authenticates=False) as runtime:
        handle = runtime.handle(Subject("anna"))
        with monkeypatch.context() as patch:
            patch.setattr(notifier, "publish", fail)
            for spelling in (True, False):
                await handle.update(Plugins, spelling=spelling)
            assert runtime.service.announcer.untold == {Subject("anna")}
        await settled(lambda: not runtime.service.announcer.untold, "nobody was told")
    assert caplog.text.count("the notifier raised ConnectionResetError") == 1


async def test_a_database_whose_ping_raises_anything_is_ill(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Health says so, and goes on to look after the others."""
    monkeypatch.setattr(health, "_PAUSE", 0.01)
    repository, cache = FailingRepository(MemoryRepository()), FailingCache(MemoryCache())
    parts = Parts(repository=repository, cache=cache, notifier=MemoryNotifier())
    repository.fail("ping", ValueError("no such column"), times=1_000_000)
    async with Runtime([Plugins], parts=parts, authenticates=False) as runtime:
        await settled(lambda: not runtime.health().database, "the database was never ill")
        assert not runtime.health().parts["database"].is_well
        await settled(lambda: runtime.health().parts["cache"].is_well, "the cache was never looked at")
        asked = repository.calls["ping"]
        await settled(lambda: repository.calls["ping"] > asked + 2, "it was not asked again")
        repository._failures.clear()
        await settled(lambda: runtime.health().database, "that the database is back was not noticed")
    assert caplog.text.count("whether the database answers cannot be found out") == 1

"""Hearing early that the process is to end, without taking the signal from whoever handles it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import uvloop

from prefsync.shutdown import told_to_stop
from prefsync.testing.samples import settled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)

Noted = TypeVar("Noted")


def note(what: Callable[[], Noted], where: list[Noted]) -> Callable[[], Awaitable[None]]:
    """Return work that notes something."""

    async def work() -> None:
        where.append(what())

    return work


class Server:
    """A server's handlers, as they are when an app is opened."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def handle(self, number: int, frame: object) -> None:
        """Hear a signal."""
        del frame
        self.heard.append(number)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that handles the signals; whatever was there before is there again afterwards."""
    server = Server()
    before = {number: signal.signal(number, server.handle) for number in SIGNALS}
    yield server
    for number, handler in before.items():
        signal.signal(number, handler)


def nothing() -> None:
    """Do nothing at first."""


async def end_process(number: int) -> None:
    """Send this process a signal, and let what follows from it happen."""
    os.kill(os.getpid(), number)
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("number", SIGNALS)
async def test_it_is_told_and_so_is_the_server(server: Server, number: int) -> None:
    """The call comes on the event loop, the server's handler runs too, and afterwards the server has its handler."""
    threads: list[threading.Thread] = []
    with told_to_stop(nothing, note(threading.current_thread, threads)):
        await end_process(number)
        await settled(lambda: bool(threads), "nobody was told")
        assert threads == [threading.main_thread()]
        await settled(lambda: server.heard == [number], "the server did not hear of it")
    for one in SIGNALS:
        assert signal.getsignal(one) == server.handle
    await end_process(number)
    assert len(threads) == 1
    assert server.heard == [number] * 2


async def test_the_server_hears_when_the_work_is_done(server: Server) -> None:
    """What is done first is over before the server hears of the end, unless the signal comes again: then at once."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await go_on.wait()

    with told_to_stop(nothing, work):
        await end_process(signal.SIGTERM)
        await asyncio.wait_for(begun.wait(), 20)
        assert server.heard == []
        await end_process(signal.SIGINT)
        await settled(lambda: server.heard == [signal.SIGINT], "the second signal was held back too")
        go_on.set()
        await settled(
            lambda: server.heard == [signal.SIGINT, signal.SIGTERM], "the server did not hear of it"
        )


@pytest.mark.parametrize("first_to_go", [0, 1], ids=["the one opened first", "the one opened last"])
async def test_two_mounts_are_told_and_go_in_any_order(server: Server, first_to_go: int) -> None:
    """Both are told once; whichever closes first, the other is still told, and in the end the server alone is."""
    told: list[str] = []
    stacks = {name: ExitStack() for name in ("one", "other")}
    for name, stack in stacks.items():
        stack.enter_context(told_to_stop(nothing, note(partial(str, name), told)))
    await end_process(signal.SIGTERM)
    await settled(lambda: sorted(told) == ["one", "other"], "somebody was not told")
    await settled(lambda: server.heard == [signal.SIGTERM], "the server did not hear of it")
    goes, stays = ("one", "other") if first_to_go == 0 else ("other", "one")
    stacks[goes].close()
    told.clear()
    await end_process(signal.SIGINT)
    await settled(lambda: told == [stays], "not just the one that is left was told")
    stacks[stays].close()
    told.clear()
    await end_process(signal.SIGTERM)
    assert told == []
    assert server.heard == [signal.SIGTERM, signal.SIGINT, signal.SIGTERM]


async def test_handlers_that_came_later_stay(server: Server) -> None:
    """Who puts a handler before ours, and calls on, keeps it when ours goes, and it still leads to the server."""
    later: list[int] = []
    told: list[bool] = []
    with told_to_stop(nothing, note(lambda: True, told)):
        ours: Any = signal.getsignal(signal.SIGTERM)

        def handle(number: int, frame: object) -> None:
            later.append(number)
            ours(number, frame)

        signal.signal(signal.SIGTERM, handle)
    assert signal.getsignal(signal.SIGTERM) is handle
    await end_process(signal.SIGTERM)
    assert later == server.heard == [signal.SIGTERM]
    assert told == []


@pytest.mark.parametrize("kind", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_who_was_added_to_the_loop_hears_after_the_first_part(
    server: Server, kind: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """The first part of the work is done, and a moment has passed, before a handler that was added to the loop runs."""
    del server
    told: list[tuple[str, float]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: told.append(("server", time.monotonic())))
        first = lambda: told.append(("first", time.monotonic()))  # noqa: E731
        with told_to_stop(first, note(lambda: ("rest", time.monotonic()), told)):
            os.kill(os.getpid(), signal.SIGTERM)
            await settled(lambda: len(told) == 3, "somebody was not told")
        loop.remove_signal_handler(signal.SIGTERM)

    with asyncio.Runner(loop_factory=kind) as runner:
        runner.run(main())
    assert told[0][0] == "first"
    assert dict(told)["server"] - told[0][1] >= 0.1


@pytest.mark.parametrize("action", [signal.SIG_DFL, signal.SIG_IGN])
async def test_what_is_no_handler_is_left_alone(server: Server, action: signal.Handlers) -> None:
    """Where a signal has its default action, or is ignored, it keeps that."""
    del server
    signal.signal(signal.SIGTERM, action)
    with told_to_stop(nothing, note(lambda: None, [])):
        assert signal.getsignal(signal.SIGTERM) == action
        assert callable(signal.getsignal(signal.SIGINT))
    assert signal.getsignal(signal.SIGTERM) == action


def test_outside_of_the_main_thread_nothing_is_done(server: Server) -> None:
    """Where Python allows no handlers, none is put, and nothing is raised."""
    seen: list[object] = []

    async def mount() -> None:
        with told_to_stop(nothing, note(lambda: None, [])):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=lambda: asyncio.run(mount()))
    thread.start()
    thread.join(20)
    assert seen == [server.handle]

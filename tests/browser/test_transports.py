"""Where something on the way blocks the better transports the next one serves, until they work again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.browser.devices import Device, Elsewhere
    from tests.browser.gate import Gate, Request

pytestmark = pytest.mark.once

PATIENCE = 8_000
"""Milliseconds that a transport has to show that it works."""

CLIMB = 15_000
"""Milliseconds until better ones are tried again."""


def no_sockets(request: Request) -> str:
    """Refuse upgrades, as proxies do that know none."""
    return "refuse" if request.transport == "websocket" else "pass"


def no_streams(request: Request) -> str:
    """Hold answers back until they are complete, too, which those of a stream never are."""
    return {"websocket": "refuse", "sse": "hold"}.get(request.transport or "", "pass")


def test_without_websockets(
    device: Callable[[], Device], gate: Gate, user: str, elsewhere: Elsewhere
) -> None:
    """Server-sent events where upgrades are refused; a WebSocket again once they are not."""
    gate.rule = no_sockets
    tab = device().tab(is_clock_ours=True).start(user)
    tab.await_status(transport="sse")
    tab.set("appearance", theme="dark")
    tab.await_status(transport="sse")
    elsewhere.patch("appearance", accent="#000000")
    tab.await_value("appearance", theme="dark", accent="#000000")

    gate.heal()
    tab.page.clock.fast_forward(CLIMB)
    tab.await_status(transport="websocket")
    gate.wait(lambda: gate.connections("sse") == 0, "the stream is let go")
    elsewhere.patch("appearance", accent="#ffffff")
    tab.await_value("appearance", theme="dark", accent="#ffffff")


def test_without_streams(device: Callable[[], Device], gate: Gate, user: str, elsewhere: Elsewhere) -> None:
    """Long polls where streams are held back besides; a stream as soon as one gets through."""
    gate.rule = no_streams
    tab = device().tab(is_clock_ours=True)
    tab.page.evaluate("(user) => void start({ user })", user)
    gate.wait(lambda: gate.asked("sse"), "a stream is asked for")
    tab.page.clock.fast_forward(PATIENCE)
    tab.wait("globalThis.prefs")
    tab.await_status(transport="poll")
    tab.set("appearance", theme="dark")
    tab.await_status(transport="poll")
    elsewhere.patch("appearance", accent="#000000")
    tab.await_value("appearance", theme="dark", accent="#000000")

    gate.rule = no_sockets
    tab.page.clock.fast_forward(CLIMB)
    tab.await_status(transport="sse")
    elsewhere.patch("appearance", accent="#ffffff")
    tab.await_value("appearance", theme="dark", accent="#ffffff")


def test_blocked_in_mid_session(
    device: Callable[[], Device], gate: Gate, user: str, elsewhere: Elsewhere
) -> None:
    """A connection that ends, and cannot be had again, is replaced by what can; what changed meanwhile is there."""
    tab = device().tab(is_clock_ours=True).start(user)
    tab.await_status(transport="websocket")
    gate.rule = no_sockets
    gate.break_off()
    elsewhere.patch("appearance", theme="dark")
    tab.await_status(transport="sse")
    tab.await_value("appearance", theme="dark")
    assert tab.told("error") == []

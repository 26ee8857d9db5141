"""What is edited without a network is kept, through reloads too, and arrives once when there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.browser.devices import Device, Elsewhere
    from tests.browser.gate import Gate, Request
    from tests.servers import ServerProcess

pytestmark = pytest.mark.once

LONGEST_DELAY = 30_000
"""Milliseconds that a client may wait before it tries again."""


def no_sockets(request: Request) -> str:
    """Refuse upgrades."""
    return "refuse" if request.transport == "websocket" else "pass"


def test_reload_while_offline(device: Callable[[], Device], user: str, elsewhere: Elsewhere) -> None:
    """An edit made offline shows after a reload, is sent once, and leaves alone what others changed meanwhile."""
    here = device()
    tab = here.tab().start(user)
    tab.page.evaluate("keep()")

    here.context.set_offline(offline=True)
    tab.await_status("offline")
    tab.set("appearance", theme="dark")
    tab.await_status("offline", pending=1)
    elsewhere.patch("appearance", accent="#000000", density="compact")
    elsewhere.patch("editor", tab_size=8)

    tab.page.reload()
    tab.wait("globalThis.isReady")
    tab.start(user)
    tab.await_status("offline", pending=1)
    assert tab.get("appearance")["theme"] == "dark"
    assert tab.get("appearance")["accent"] == "#3366ff"
    tab.set("appearance", font_size=20)
    tab.await_status("offline", pending=2)
    assert elsewhere.values("appearance")["theme"] == "system"

    here.context.set_offline(offline=False)
    tab.await_status()
    expected = {"theme": "dark", "accent": "#000000", "font_size": 20, "density": "compact"}
    tab.await_value("appearance", **expected)
    tab.await_value("editor", tab_size=8)
    assert elsewhere.values("appearance") == expected
    assert elsewhere.writes() == [
        {"appearance": {"accent": "#000000", "density": "compact"}},
        {"editor": {"tab_size": 8}},
        {"appearance": {"theme": "dark"}},
        {"appearance": {"font_size": 20}},
    ]
    assert tab.sent == [{"appearance": {"theme": "dark"}}, {"appearance": {"font_size": 20}}]


def test_answer_that_is_lost(
    device: Callable[[], Device], gate: Gate, user: str, elsewhere: Elsewhere
) -> None:
    """An edit whose acknowledgement was lost is sent again, and undoes nothing that came after it."""
    gate.rule = no_sockets
    tab = device().tab().start(user)
    tab.await_status(transport="sse")

    gate.rule = lambda request: "lose" if request.method == "PATCH" else "cut"
    tab.set("appearance", theme="dark")
    gate.wait(lambda: gate.lost, "the server has answered")
    elsewhere.patch("appearance", theme="light")
    gate.rule = no_sockets
    tab.await_status(transport="sse")
    assert sum(request.method == "PATCH" for request in gate.requests) >= 2
    tab.await_value("appearance", theme="light")
    assert elsewhere.writes() == [{"appearance": {"theme": theme}} for theme in ("dark", "light")]
    assert len(tab.told("acknowledged")) == 1


def test_server_restarts(
    device: Callable[..., Device], server: ServerProcess, user: str, elsewhere: Elsewhere
) -> None:
    """When the server comes back where it was, clients are in step again, and what was edited meanwhile arrives."""
    here, there = (device().tab(is_clock_ours=True).start(user) for _ in range(2))
    here.set("appearance", theme="light")
    there.await_value("appearance", theme="light")
    server.terminate()
    try:
        here.await_status("offline")
        here.set("appearance", theme="dark")
        here.await_status("offline", pending=1)
    finally:
        server.start()
    for tab in (here, there):
        tab.page.clock.fast_forward(LONGEST_DELAY)
        tab.await_status()
    there.await_value("appearance", theme="dark")
    there.set("editor", tab_size=2)
    here.await_value("editor", tab_size=2)
    assert elsewhere.writes() == [
        {"appearance": {"theme": "light"}},
        {"appearance": {"theme": "dark"}},
        {"editor": {"tab_size": 2}},
    ]
    assert here.told("error") == there.told("error") == []

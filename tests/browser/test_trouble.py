"""What a browser may lack or an issuer of tokens may do, without the user noticing more than they must."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.browser.devices import Device, Elsewhere
    from tests.browser.gate import Gate

pytestmark = pytest.mark.once

# As browsers do where the user forbids sites to store anything (HTML standard, "the localStorage getter steps").
FORBIDDEN = """
    Object.defineProperty(window, "localStorage", {
        get() { throw new DOMException("Access is denied for this document.", "SecurityError"); },
    });
"""

LIFE = 4
"""Seconds that a token lasts which is to run out."""

RENEWAL = 5_000
"""Milliseconds after which a client renews such a token, and no sooner."""

GRACE = 1_500
"""Milliseconds after which nothing is left of what a token that ran out had open (protocol.md, "Tokens")."""


def test_tokens_run_out(device: Callable[[], Device], gate: Gate, user: str, elsewhere: Elsewhere) -> None:
    """Tokens that run out in mid-session are renewed before: by each transport, nobody sees anything of it."""
    tabs = {name: device().tab(is_clock_ours=True) for name in ("websocket", "sse", "poll")}
    for name, tab in tabs.items():
        tab.page.evaluate(f"life = {LIFE}")
        tab.start(user, transports=[name])
        tab.page.evaluate("life = 600")
        tab.page.clock.fast_forward(RENEWAL)
        tab.wait("expiries.length == 2")
    for tab in tabs.values():
        tab.wait("(ahead) => Date.now() > expiries[0] + ahead", RENEWAL + GRACE)
    elsewhere.patch("appearance", theme="dark")
    for name, tab in tabs.items():
        tab.await_value("appearance", theme="dark")
        tab.set("editor", rulers=[len(name)])
        tab.await_status()
        assert {(told["status"], told["error"]) for told in tab.told("status")} == {("online", None)}, name
        assert tab.told("error") == []
    assert gate.asked("websocket") == 1


def test_token_renewed_too_late(
    device: Callable[..., Device], gate: Gate, user: str, elsewhere: Elsewhere
) -> None:
    """A connection whose token has run out is opened again with a fresh one, and edits lose nothing by it."""
    tab = device().tab(is_clock_ours=True)
    tab.page.evaluate("life = 2")
    tab.start(user)
    tab.await_status()
    # Nothing is renewed in time where time stands still: from a moment on that is not over yet when the page hears of it.
    tab.page.clock.pause_at(time.time() + 1)
    gate.wait(lambda: gate.asked("websocket") == 2, "the server has ended the session")
    elsewhere.patch("editor", tab_size=8)
    tab.set("appearance", theme="dark")
    tab.await_status()
    tab.await_value("editor", tab_size=8)
    assert elsewhere.values("appearance")["theme"] == "dark"
    assert tab.told("error") == []


def test_storage_forbidden(device: Callable[..., Device], user: str) -> None:
    """Where nothing may be stored it is said, once, and everything goes on in memory."""
    here = device(script=FORBIDDEN).tab().start(user)
    there = device().tab().start(user)
    here.set("appearance", theme="dark")
    there.await_value("appearance", theme="dark")
    there.set("editor", tab_size=8)
    here.await_value("editor", tab_size=8)
    assert [(told["code"], "Access is denied" in told["message"]) for told in here.told("error")] == [
        ("storage", True)
    ]


def test_storage_full(device: Callable[..., Device], user: str, elsewhere: Elsewhere) -> None:
    """Where there is no more room it is said, once, and everything goes on in memory."""
    tab = device().tab()
    tab.page.evaluate(
        """() => {
            for (let length = 2 ** 22; length; ) {
                try { localStorage.setItem(`filler ${localStorage.length}`, "x".repeat(length)); }
                catch { length >>= 1; }
            }
        }"""
    )
    tab.start(user)
    tab.set("appearance", theme="dark")
    tab.await_status()
    tab.set("appearance", theme="light")
    tab.await_status()
    assert elsewhere.values("appearance")["theme"] == "light"
    assert [told["code"] for told in tab.told("error")] == ["storage"]

"""The tabs of one browser share one connection and one queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.browser.devices import Device, Elsewhere
    from tests.browser.gate import Gate

pytestmark = pytest.mark.once


def test_one_connection(device: Callable[[], Device], gate: Gate, user: str, elsewhere: Elsewhere) -> None:
    """Edits in each tab are sent exactly once, over one connection; when its tab is closed the next one has it."""
    here = device()
    tabs = [here.tab().start(user) for _ in range(3)]
    for number, tab in enumerate(tabs):
        tab.set("editor", tab_size=number + 5)
        for other in tabs:
            other.await_value("editor", tab_size=number + 5)
            other.await_status()
    assert gate.asked("websocket") == gate.connections("websocket") == 1
    assert elsewhere.writes() == [{"editor": {"tab_size": size}} for size in (5, 6, 7)]
    assert [tab.sent for tab in tabs] == [elsewhere.writes(), [], []]
    assert all(len(tab.told("acknowledged")) == 1 for tab in tabs)

    tabs[0].page.close()
    gate.wait(lambda: gate.asked("websocket") == 2, "another tab connects")
    tabs[2].set("editor", tab_size=10)
    tabs[2].await_status()
    tabs[1].await_value("editor", tab_size=10)
    elsewhere.patch("editor", word_wrap=True)
    for tab in tabs[1:]:
        tab.await_value("editor", word_wrap=True)
        assert tab.told("error") == []
    assert gate.asked("websocket") == 2
    gate.wait(lambda: gate.connections("websocket") == 1, "there is one connection")
    assert tabs[1].sent + tabs[2].sent == [{"editor": {"tab_size": 10}}]
    assert elsewhere.writes()[3:] == [{"editor": {"tab_size": 10}}, {"editor": {"word_wrap": True}}]


def test_edits_of_a_tab_that_is_gone(
    device: Callable[[], Device], gate: Gate, user: str, elsewhere: Elsewhere
) -> None:
    """Edits that were made offline in several tabs are sent once each, in order, by whichever tab is left."""
    here = device()
    first, second, third = (here.tab().start(user) for _ in range(3))
    gate.cut()
    for tab in (first, second, third):
        tab.await_status("offline")
    first.set("editor", tab_size=1)
    second.set("appearance", theme="dark")
    third.set("notifications", push=True)
    third.await_status("offline", pending=3)
    second.await_status("offline", pending=3)
    first.page.close()
    second.page.close()
    gate.heal()
    third.await_status()
    edits = [
        {"editor": {"tab_size": 1}},
        {"appearance": {"theme": "dark"}},
        {"notifications": {"push": True}},
    ]
    assert elsewhere.writes() == edits
    assert first.sent + second.sent == []
    assert third.sent == edits
    assert third.get("appearance")["theme"] == "dark"
    assert gate.connections("websocket") == 1

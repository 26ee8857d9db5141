"""A change travels to the user's other devices at once, and to nobody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.browser.devices import Device

pytestmark = pytest.mark.once

SOON = 2_000
"""Milliseconds that a change may travel."""


@pytest.mark.parametrize("transport", ["websocket", "sse", "poll"])
def test_between_devices(
    device: Callable[[], Device], user: str, transport: str, record_property: Callable[[str, object], None]
) -> None:
    """One device's change is seen on the other within two seconds, by each transport, and not by another user."""
    here, there, strange = (device().tab() for _ in range(3))
    for tab in (here, there):
        tab.start(user, transports=[transport])
    strange.start(f"another-{user}", transports=[transport])

    took = []
    for theme in ("dark", "light", "dark"):
        started = here.set("appearance", theme=theme)
        took.append(there.await_value("appearance", theme=theme) - started)
    record_property("milliseconds", took)
    assert max(took) < SOON

    # What the other user sets comes after all that could have leaked, and is all that is told.
    strange.set("editor", tab_size=3)
    strange.await_status()
    assert {name for told in strange.told("change") for name in told["namespaces"]} == {"editor"}
    assert strange.get("appearance")["theme"] == "system"
    assert there.get("editor")["tab_size"] == 4

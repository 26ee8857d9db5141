"""axe finds nothing wrong with the demo page, however it looks, and its console stays empty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.stage import sign_in

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.servers import ServerProcess


pytestmark = pytest.mark.once


def violations(page: Page, axe: str) -> list[str]:
    """Return what axe finds, a line for each element."""
    page.evaluate(axe)  # by the debugger's way in, which no policy stands against
    found: list[dict[str, Any]] = page.evaluate("async () => (await axe.run()).violations")
    return [
        f"{one['id']}: {node['html']} ({node['failureSummary']})" for one in found for node in one["nodes"]
    ]


def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    width: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return width


def change(page: Page, device: Locator, namespace: str, patch: dict[str, Any]) -> None:
    """Change preferences of the page's user from elsewhere, and wait until a device has them."""
    revision: int = page.evaluate(
        """async ([namespace, patch]) => {
            const user = new URLSearchParams(location.search).get("user");
            const headers = { "Content-Type": "application/json" };
            const asked = { method: "POST", headers, body: JSON.stringify({ user }) };
            const { token } = await (await fetch("demo/token", asked)).json();
            const answer = await fetch(`preferences/${namespace}`, {
                method: "PATCH",
                headers: { ...headers, Authorization: `Bearer ${token}` },
                body: JSON.stringify(patch),
            });
            return Number(answer.headers.get("Prefsync-Revision"));
        }""",
        [namespace, patch],
    )
    name = device.get_attribute("data-device")
    page.locator(f"[data-device={name}][data-revision='{revision}']").wait_for()


@pytest.mark.parametrize(
    ("width", "theme", "accent"),
    [
        (1280, "light", "#3366ff"),
        (1280, "dark", "#000000"),
        (390, "light", "#ffffff"),
        (360, "dark", "#7a1fa2"),
    ],
)
def test_devices(
    page: Page, demo: ServerProcess, axe: str, complaints: list[str], width: int, theme: str, accent: str
) -> None:
    """With every section open, in both themes, on narrow screens, and whatever the accent."""
    page.clock.install()
    page.set_viewport_size({"width": width, "height": 900})
    laptop, phone = sign_in(page, demo.url)
    change(page, phone, "appearance", {"theme": theme, "accent": accent})
    change(page, phone, "plugins", {"spelling": {"language": "en"}})
    change(page, phone, "editor", {"rulers": [80, 120]})
    change(page, phone, "notifications", {"muted_channels": ["random"]})
    for one in (laptop, phone):
        for namespace in ("editor", "notifications", "plugins"):
            one.locator(f"[data-namespace={namespace}] > summary").click()
    page.clock.fast_forward(3_000)  # what is marked as news is so for a moment
    page.locator("[data-news]").first.wait_for(state="detached")
    assert violations(page, axe) == []
    assert overflow(page) == 0
    assert complaints == []


def test_signing_in(page: Page, demo: ServerProcess, axe: str, complaints: list[str]) -> None:
    """Before anybody is signed in."""
    page.goto(demo.url)
    page.get_by_role("link", name="alice").wait_for()
    assert violations(page, axe) == []
    assert complaints == []


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_offline_and_refused(
    page: Page, demo: ServerProcess, axe: str, complaints: list[str], theme: str
) -> None:
    """With changes that wait for the network, and with one that was refused."""
    laptop, phone = sign_in(page, demo.url)
    laptop.get_by_role("radio", name=theme).check()
    size = laptop.get_by_role("spinbutton", name="Font Size")
    size.fill("99")
    size.press("Tab")
    laptop.get_by_role("button", name="Keep 14").wait_for()
    phone.get_by_role("switch", name="Network of the phone").uncheck()
    phone.get_by_role("radio", name="Compact").check()
    phone.get_by_text("Waiting", exact=True).wait_for()
    assert size.input_value() == "99"
    assert violations(page, axe) == []
    assert complaints == []


def test_the_largest_letters_fit(page: Page, demo: ServerProcess) -> None:
    """A font size of 72, on the narrowest of screens."""
    page.set_viewport_size({"width": 360, "height": 800})
    laptop, _ = sign_in(page, demo.url)
    change(page, laptop, "appearance", {"font_size": 72})
    assert overflow(page) == 0

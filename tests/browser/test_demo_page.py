"""The demo page does what it is there to show, without a mouse, and with nothing to say on its console."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.gate import LIMIT
from tests.browser.stage import device

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Locator, Page

    from tests.servers import ServerProcess

pytestmark = pytest.mark.once

MOST_STEPS = 120
"""As often may Tab be pressed before somebody would give up."""


@pytest.fixture(autouse=True)
def _empty_console(complaints: list[str]) -> Iterator[None]:
    yield
    assert complaints == []


def tab_to(target: Locator) -> None:
    """Press Tab until something has the focus."""
    for _ in range(MOST_STEPS):
        if target.evaluate("(element) => element == document.activeElement"):
            return
        target.page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {target}")


def wait_for(page: Page, selector: str) -> None:
    """Wait until there is something on a page."""
    page.locator(selector).first.wait_for(timeout=LIMIT * 1000)


@pytest.fixture
def devices(page: Page, demo: ServerProcess) -> tuple[Locator, Locator]:
    """Laptop and phone of somebody who signed in by the keyboard."""
    page.goto(demo.url)
    alice = page.get_by_role("link", name="alice")
    alice.wait_for()
    tab_to(alice)
    page.keyboard.press("Enter")
    for name in ("laptop", "phone"):
        wait_for(page, f"[data-device={name}][data-status=online] [data-field]")
    return device(page, "Laptop"), device(page, "Phone")


def test_change_by_keyboard(page: Page, devices: tuple[Locator, Locator]) -> None:
    """What is changed on one device by the keyboard alone shows on the other, which says where it is from."""
    laptop, phone = devices
    tab_to(laptop.get_by_role("radio", name="System"))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    wait_for(page, "[data-device=phone] .screen[data-theme=dark]")
    wait_for(page, "[data-device=phone] [data-field='appearance.theme'][data-news=laptop]")
    assert phone.get_by_role("radio", name="Dark").is_checked()
    wait_for(page, "html[data-theme=dark]")
    wait_for(page, "#log [data-origin=laptop]")

    size = phone.get_by_role("spinbutton", name="Font Size")
    tab_to(size)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Tab")
    wait_for(page, "[data-device=laptop] [data-field='appearance.font_size'][data-news=phone]")
    assert laptop.get_by_role("spinbutton", name="Font Size").input_value() == "15"


def test_network_cut(page: Page, devices: tuple[Locator, Locator]) -> None:
    """A device whose network is cut keeps what is changed on it, and both are in step when it is plugged in again."""
    laptop, phone = devices
    tab_to(phone.get_by_role("switch", name="Network of the phone"))
    page.keyboard.press("Space")
    wait_for(page, "[data-device=phone][data-status=offline]")
    phone.get_by_role("radio", name="Compact").check()
    laptop.get_by_role("radio", name="Dark").check()
    wait_for(page, "[data-device=phone][data-waiting='1']")
    wait_for(page, "[data-device=laptop][data-waiting='0']:not([data-revision='0'])")
    phone.get_by_text("One change waits").wait_for()
    assert phone.get_by_role("radio", name="System").is_checked()
    assert laptop.get_by_role("radio", name="Comfortable").is_checked()

    page.reload()
    wait_for(page, "[data-device=phone][data-status=offline][data-waiting='1'] [data-field]")
    wait_for(page, "[data-device=laptop][data-status=online] [data-field]")
    assert phone.get_by_role("radio", name="Compact").is_checked()

    tab_to(phone.get_by_role("switch", name="Network of the phone"))
    page.keyboard.press("Space")
    wait_for(page, "[data-device=phone][data-status=online][data-waiting='0']")
    wait_for(page, "[data-device=laptop] .screen[data-density=compact]")
    wait_for(page, "[data-device=phone] .screen[data-theme=dark]")
    for one in devices:
        assert one.get_by_role("radio", name="Dark").is_checked()
        assert one.get_by_role("radio", name="Compact").is_checked()


def test_refused(page: Page, devices: tuple[Locator, Locator]) -> None:
    """A value that the server refuses stays where it was typed, marked, with the reason; one key takes it back."""
    laptop, phone = devices
    size = laptop.get_by_role("spinbutton", name="Font Size")
    tab_to(size)
    page.keyboard.press("Control+A")
    page.keyboard.type("99")
    page.keyboard.press("Enter")
    keep = laptop.get_by_role("button", name="Keep 14")
    keep.wait_for()
    assert size.get_attribute("aria-invalid") == "true"
    described = (size.get_attribute("aria-describedby") or "").split()
    assert any("72" in page.locator(f"[id='{id_}']").inner_text() for id_ in described)
    assert size.input_value() == "99"
    assert phone.get_by_role("spinbutton", name="Font Size").input_value() == "14"
    assert laptop.locator("[data-problem]").count() == 1

    tab_to(keep)
    page.keyboard.press("Enter")
    laptop.locator("[data-problem]").wait_for(state="detached")
    assert size.input_value() == "14"
    assert size.get_attribute("aria-invalid") is None


def test_open_namespace(page: Page, devices: tuple[Locator, Locator]) -> None:
    """Any JSON can be added under any name, and removed on another device."""
    laptop, phone = devices
    laptop.locator("[data-namespace=plugins] > summary").focus()
    page.keyboard.press("Enter")
    tab_to(laptop.get_by_role("textbox", name="Key"))
    page.keyboard.type("spelling")
    page.keyboard.press("Tab")
    page.keyboard.type('{"language": "en"}')
    page.keyboard.press("Enter")
    phone.locator("[data-namespace=plugins] > summary").focus()
    page.keyboard.press("Enter")
    remove = phone.get_by_role("button", name="Remove: spelling")
    remove.wait_for()
    tab_to(remove)
    page.keyboard.press("Enter")
    laptop.locator("[data-field='plugins.spelling']").wait_for(state="detached")


def test_another_user(page: Page, devices: tuple[Locator, Locator]) -> None:
    """Another user's window sees nothing of it."""
    laptop, _ = devices
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Window of bob").click()
    other = opened.value
    wait_for(other, "[data-device=phone][data-status=online] [data-field]")
    wait_for(other, "[data-device=laptop][data-status=online] [data-field]")
    laptop.get_by_role("radio", name="Dark").check()
    wait_for(page, "[data-device=phone] .screen[data-theme=dark]")
    device(other, "Phone").get_by_role("radio", name="Compact").check()
    wait_for(other, "[data-device=laptop] .screen[data-density=compact]")
    assert other.locator(".screen[data-theme=dark]").count() == 0
    assert page.locator(".screen[data-density=compact]").count() == 0

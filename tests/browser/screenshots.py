"""Take the pictures of the documentation anew: ``python -m tests.browser.screenshots``.

They go to ``docs/images``: the page light, dark, narrow and with a device offline, and a change on its way.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from PIL import Image
from playwright.sync_api import expect, sync_playwright

from tests.browser.stage import ROOT, demo_process, launch, sign_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Locator, Page

FOLDER: Final = ROOT / "docs" / "images"

LARGEST_ANIMATION: Final = 400_000
"""Bytes; a README must not take long to load."""

SCALE: Final = 1.5


def main() -> int:
    """Take all pictures; return the exit code."""
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright, launch(playwright.chromium) as browser:
        for number, take in enumerate((still, narrow, animation)):
            with (
                tempfile.TemporaryDirectory() as folder,
                demo_process(Path(folder) / f"{number}.sqlite3") as demo,
            ):
                take(browser, demo.url)
    for file in sorted(FOLDER.iterdir()):
        print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1000:.0f} kB")
    return (FOLDER / "change.webp").stat().st_size > LARGEST_ANIMATION


def still(browser: Browser, url: str) -> None:
    """Take the page in light, in dark, and with a device whose network is cut."""
    page = browser.new_page(viewport={"width": 1280, "height": 1110}, device_scale_factor=SCALE)
    laptop, phone = sign_in(page, url)
    laptop.get_by_role("radio", name="Light").check()
    laptop.get_by_role("radio", name="Compact").check()
    settle(page)
    phone.get_by_role("radio", name="Comfortable").check()
    laptop.locator("[data-field='appearance.density'][data-news]").wait_for()
    save(page, "light.png")

    settle(page)
    phone.get_by_role("radio", name="Dark").check()
    laptop.locator("[data-field='appearance.theme'][data-news]").wait_for()
    save(page, "dark.png")

    settle(page)
    laptop.get_by_role("radio", name="Light").check()
    settle(page)
    phone.get_by_role("switch", name="Network of the phone").uncheck()
    phone.get_by_role("radio", name="Dark").check()
    slide(phone.get_by_role("slider", name="Font Size"), 3)
    phone.get_by_text("Waiting", exact=True).nth(1).wait_for()
    save(page, "offline.png")
    page.close()


def narrow(browser: Browser, url: str) -> None:
    """Take the page as a phone shows it."""
    page = browser.new_page(viewport={"width": 390, "height": 844}, device_scale_factor=SCALE)
    laptop, phone = sign_in(page, url)
    laptop.get_by_role("radio", name="Light").check()
    phone.get_by_role("radio", name="Light").and_(page.locator(":checked")).wait_for()
    settle(page)
    save(page, "narrow.png")
    page.close()


def animation(browser: Browser, url: str) -> None:
    """Take changes on their way: there, back, and after a while offline."""
    page = browser.new_page(viewport={"width": 1180, "height": 1080}, device_scale_factor=1)
    laptop, phone = sign_in(page, url)
    laptop.get_by_role("radio", name="Compact").check()
    laptop.get_by_role("radio", name="Light").check()
    settle(page)
    frames = list(scenes(page, laptop, phone))
    page.close()
    images = [image for image, _ in frames]
    images[0].save(
        FOLDER / "change.webp",
        save_all=True,
        append_images=images[1:],
        duration=[milliseconds for _, milliseconds in frames],
        loop=0,
        lossless=False,
        quality=70,
        method=6,
        minimize_size=True,
    )


def scenes(page: Page, laptop: Locator, phone: Locator) -> Iterator[tuple[Image.Image, int]]:
    """Play the animation; yield its frames with the milliseconds that each is shown."""
    box = page.locator(".stage").bounding_box()
    assert box is not None
    clip = {"x": 0, "y": box["y"] - 16, "width": 1180, "height": 760}

    def shot(milliseconds: int) -> tuple[Image.Image, int]:
        return picture(page, clip=clip), milliseconds

    yield shot(1400)
    laptop.get_by_role("radio", name="Dark").check()
    phone.locator("[data-field='appearance.theme'][data-news]").wait_for()
    yield shot(1800)
    settle(page)
    slider = phone.get_by_role("slider", name="Font Size")
    for _ in range(3):
        slide(slider, 1)
        page.wait_for_timeout(250)
        yield shot(350)
    yield shot(1400)
    settle(page)
    phone.get_by_role("switch", name="Network of the phone").uncheck()
    page.wait_for_timeout(200)
    yield shot(1200)
    phone.get_by_role("radio", name="Light").check()
    phone.get_by_text("Waiting", exact=True).wait_for()
    yield shot(2000)
    phone.get_by_role("switch", name="Network of the phone").check()
    laptop.locator("[data-field='appearance.theme'][data-news]").wait_for(timeout=30_000)
    page.wait_for_timeout(200)
    yield shot(2400)
    settle(page)
    yield shot(1200)


def slide(slider: Locator, steps: int) -> None:
    """Move a slider by some steps, as the keyboard does."""
    for _ in range(steps):
        slider.press("ArrowRight")


def settle(page: Page) -> None:
    """Wait until no field is marked any more, and until nothing moves."""
    page.wait_for_timeout(400)
    expect(page.locator("[data-news], [data-pending]")).to_have_count(0)
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")


def picture(page: Page, **options: Any) -> Image.Image:
    """Return what a page shows."""
    return Image.open(io.BytesIO(page.screenshot(**options))).convert("RGB")


def save(page: Page, name: str) -> None:
    """Save a whole page as a picture of the documentation."""
    page.wait_for_timeout(300)  # a switch moves for a moment
    # Nobody sees the difference on surfaces so flat, and it takes a third of the bytes.
    image = picture(page, full_page=True).quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    image.save(FOLDER / name, optimize=True)


if __name__ == "__main__":
    sys.exit(main())

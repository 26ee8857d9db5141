"""A browser and the demo, for tests and for pictures."""

from __future__ import annotations

import contextlib
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prefsync.testing.mount.callers import KEY
from tests.conftest import refuse
from tests.servers import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserType, Locator, Page

ROOT: Final = Path(__file__).parents[2]

# What keeps it off the network by itself; without a sandbox it also runs as root, in containers.
FLAGS: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    """Return the path of the system's Chromium or Chrome, or nothing where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Give the system's Chromium; where it or Playwright is missing, skip, and with ``CI`` set fail.

    While it is given, no event loop can be run in this thread.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        refuse("there is no Playwright here, which drives browsers: pip install --group browser")
    if find_chromium() is None:
        refuse("there is no Chromium here: apt-get install chromium, or whatever this machine has it from")
    with sync_playwright() as playwright, launch(playwright.chromium) as browser:
        yield browser


def launch(chromium: BrowserType) -> Browser:
    """Start the system's browser, without a window."""
    return chromium.launch(executable_path=find_chromium(), args=FLAGS)


def demo_process(database: Path) -> ServerProcess:
    """Return the demo as a process, not started yet, with its preferences in a file."""
    demo = [sys.executable, str(ROOT / "examples" / "demo.py")]
    return ServerProcess([*demo, "--port", "{port}", "--database", str(database)])


def app_settings(folder: Path) -> dict[str, str]:
    """Return the settings of an example app that stores in a folder, and believes no token beyond its time."""
    return {
        "PREFSYNC_DATABASE_URL": f"sqlite:///{folder / 'prefsync.sqlite3'}",
        "PREFSYNC_JWT_KEY": KEY,
        "PREFSYNC_JWT_ALGORITHMS": "HS256",
        "PREFSYNC_JWT_LEEWAY": "0",
    }


def device(page: Page, name: str) -> Locator:
    """Return one of the page's devices: ``Laptop`` or ``Phone``."""
    return page.get_by_role("region", name=name, exact=True)


def sign_in(page: Page, url: str, user: str = "alice") -> tuple[Locator, Locator]:
    """Open the page as a user, and return laptop and phone when both are online."""
    page.goto(f"{url}/?user={user}")
    for name in ("laptop", "phone"):
        page.locator(f"[data-device={name}][data-status=online] [data-field]").first.wait_for()
    return device(page, "Laptop"), device(page, "Phone")

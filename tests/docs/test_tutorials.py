"""The tutorials end as they promise: two devices in step, in two browsers and in a test with the kit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.browser.stage import chromium
from tests.docs.pages import blocks
from tests.servers import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.once

PATIENCE = 30_000
"""ms, for what comes at once on a machine that is not busy."""

SERVERS = {
    "fastapi": ["uvicorn", "--port", "{port}", "--no-access-log", "app:app"],
    "flask": ["gunicorn", "--bind", "127.0.0.1:{port}", "--no-control-socket", "--threads", "20", "app:app"],
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    with chromium() as browser:
        yield browser


def write_down(tutorial: str, folder: Path) -> None:
    """Do what the tutorial's reader does: save the app, the page and the test."""
    page = f"docs/tutorials/{tutorial}.md"
    *app, test = [block.code for block in blocks(page, "python")]
    (html,) = [block.code for block in blocks(page, "html")]
    (folder / "app.py").write_text("\n".join(app), encoding="utf-8")
    (folder / "page.html").write_text(html, encoding="utf-8")
    assert test.startswith("# test_app.py\n")
    (folder / "test_app.py").write_text(test, encoding="utf-8")


@pytest.mark.parametrize("tutorial", ["fastapi", "flask"])
def test_two_devices_are_in_step(tutorial: str, browser: Browser, tmp_path: Path) -> None:
    """A theme that is chosen on one device shows on the other, a refusal is told, and another user sees none of it."""
    from playwright.sync_api import expect

    write_down(tutorial, tmp_path)
    command = [sys.executable, "-m", *SERVERS[tutorial]]
    with ServerProcess(command, path="/me", cwd=tmp_path) as server:

        def device(user: str) -> Page:
            page = browser.new_context().new_page()
            page.goto(server.url)
            page.locator("#sign-in input").fill(user)
            page.get_by_role("button", name="Sign in").click()
            expect(page.locator("#status")).to_have_text("online", timeout=PATIENCE)
            return page

        laptop, phone, stranger = device("alice"), device("alice"), device("bob")
        laptop.locator("[name=theme]").select_option("dark")
        expect(phone.locator("[name=theme]")).to_have_value("dark", timeout=PATIENCE)
        expect(phone.locator("html")).to_have_attribute("data-theme", "dark")
        phone.locator("[name=font_size]").fill("99")
        phone.locator("[name=font_size]").press("Enter")  # as people do, and nothing is lost by it
        expect(phone.locator("#problem")).to_contain_text("less than or equal to 72", timeout=PATIENCE)
        expect(phone.locator("[name=font_size]")).to_have_value("14")
        expect(stranger.locator("[name=theme]")).to_have_value("light")
        for page in (laptop, phone, stranger):
            page.context.close()


@pytest.mark.parametrize("tutorial", ["fastapi", "flask"])
def test_the_tutorials_test_passes(tutorial: str, tmp_path: Path) -> None:
    """The last step runs as it stands there; without the plugins that a reader does not have."""
    write_down(tutorial, tmp_path)
    options = ["-q", "-p", "prefsync_pytest", "-p", "no:cacheprovider", f"--rootdir={tmp_path}"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_app.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.findall(r"(\d+) passed", ran.stdout) == ["1"]

"""The examples with a page, in a real browser: what is changed in one window shows in the other."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.stage import chromium
from tests.examples.conftest import run
from tests.http.conftest import EXAMPLES, uvicorn_process
from tests.servers import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.once

LIMIT = 60_000
"""Milliseconds that bound a hang."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def window(browser: Browser) -> Iterator[Callable[[str], Page]]:
    """Open windows that share nothing; whatever one complains of fails the test."""
    contexts = []
    complaints: list[str] = []

    def window(url: str) -> Page:
        contexts.append(context := browser.new_context())
        context.set_default_timeout(LIMIT)
        context.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        context.on("requestfailed", lambda request: complaints.append(f"{request.url}: {request.failure}"))
        page = context.new_page()
        page.goto(url)
        return page

    yield window
    for context in contexts:
        context.close()
    assert complaints == []


def storage(folder: Path) -> dict[str, str]:
    """Return settings by which an app stores in a folder."""
    return {"PREFSYNC_DATABASE_URL": f"sqlite:///{(folder / 'prefsync.sqlite3').as_posix()}"}


def expect(page: Page, condition: str, argument: Any = None) -> None:
    """Wait until something is so in a page."""
    page.wait_for_function(condition, arg=argument)


def expect_theme(page: Page, theme: str) -> None:
    """Wait until a page looks as a theme says."""
    expect(page, "(theme) => document.documentElement.dataset.theme == theme", theme)


def test_plain_javascript(window: Callable[[str], Page], tmp_path: Path) -> None:
    """Whoever signs in has a form that is in step everywhere, and is told why a value is refused."""
    flask = [
        sys.executable,
        "-m",
        "flask",
        "--app",
        str(EXAMPLES / "plain_js_app.py"),
        "run",
        "--port",
        "{port}",
    ]
    with ServerProcess(flask, storage(tmp_path)) as server:
        one, other = window(server.url), window(server.url)
        for page in (one, other):
            page.get_by_label("Name").fill("alice")
            page.get_by_role("button", name="Sign in").click()
            expect(page, "() => document.querySelector('#status').textContent == 'online'")
        one.get_by_label("Theme").select_option("Dark")
        one.get_by_label("Wrap long lines").check()
        for page in (one, other):
            expect_theme(page, "dark")
            expect(page, "() => document.querySelector('[name=\"editor.word_wrap\"]').checked")
        other.get_by_label("Font size").fill("99")
        other.get_by_label("Font size").blur()
        other.get_by_text("should be less than or equal to 72").wait_for()
        expect(other, "() => document.querySelector('[type=number]').value == 14")
        other.get_by_role("button", name="Sign out").click()
        other.get_by_label("Name").wait_for()


def test_socket_io(window: Callable[[str], Page], installed: Callable[[str], Path], tmp_path: Path) -> None:
    """The official client writes and hears, and is sent what it missed when its connection comes back."""
    folder = installed("socketio_page")
    with uvicorn_process(storage(tmp_path), "socketio_app:app", folder) as server:
        one, other = window(f"{server.url}/?user=alice"), window(f"{server.url}/?user=alice")
        for page in (one, other):
            expect_theme(page, "system")
        one.get_by_role("button").click()
        for page in (one, other):
            expect_theme(page, "dark")
        other.get_by_role("button").click()
        for page in (one, other):
            expect_theme(page, "light")


def test_react(window: Callable[[str], Page], installed: Callable[[str], Path], tmp_path: Path) -> None:
    """It compiles with the types made of the models, and what the compiler let pass works in the browser."""
    folder = installed("react_page")
    run("npm", "run", "build", cwd=folder / "react_page")
    with uvicorn_process(storage(tmp_path), "react_app:app", folder) as server:
        one, other = window(f"{server.url}/?user=alice"), window(f"{server.url}/?user=alice")
        for page in (one, other):
            page.get_by_text("online", exact=True).wait_for()
        one.get_by_label("Theme").select_option("Dark")
        one.get_by_label("Notify by mail").uncheck()
        for page in (one, other):
            expect_theme(page, "dark")
            expect(page, "() => !document.querySelector('[type=checkbox]').checked")
        other.get_by_label("Font size").fill("99")
        other.get_by_label("Font size").blur()
        other.get_by_role("alert").get_by_text("should be less than or equal to 72").wait_for()
        expect(other, "() => document.querySelector('[type=number]').value == 14")
        other.get_by_label("Font size").fill("16")
        other.get_by_label("Font size").press("Tab")
        expect(one, "() => document.querySelector('[type=number]').value == 16")
        other.get_by_role("button", name="Reset").click()
        for page in (one, other):
            expect_theme(page, "system")


def test_types_of_the_react_page_are_fresh(load: Callable[..., Any], tmp_path: Path) -> None:
    """They are what ``python examples/react_app.py --types`` writes."""
    load("react_app").write_types(tmp_path)
    kept = EXAMPLES / "react_page" / "src" / "prefsync"
    found, made = ({file.name: file.read_text() for file in folder.iterdir()} for folder in (kept, tmp_path))
    assert found == made

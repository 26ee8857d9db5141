"""A real browser, the example app behind a gate, and the demo.

Where there is no Chromium, no npm or no Playwright, tests are skipped with a line that says what to install; with ``CI``
set they fail.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
from typing import TYPE_CHECKING

import httpx2
import pytest

from tests.browser.devices import Device, Elsewhere
from tests.browser.gate import Gate
from tests.browser.stage import ROOT, app_settings, chromium, demo_process
from tests.conftest import refuse
from tests.http.conftest import NO_TLS, uvicorn_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

    from tests.servers import ServerProcess

INSTALL_LIMIT = 180
"""Seconds that npm may take."""


# Not for longer than this folder's tests: while Playwright is on, no event loop can be run in this thread.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The example app under uvicorn, on SQLite and parts in memory, for tests that let it live."""
    with uvicorn_process(app_settings(tmp_path_factory.mktemp("server"))) as server:
        yield server


@pytest.fixture
def gate(server: ServerProcess) -> Iterator[Gate]:
    """The origin that pages come from."""
    with Gate(server.port) as gate:
        yield gate


@pytest.fixture
def device(browser: Browser, gate: Gate) -> Iterator[Callable[..., Device]]:
    """Take devices in hand; whatever a page complains of fails the test."""
    with contextlib.ExitStack() as stack:
        taken: list[Device] = []

        def take(script: str = "") -> Device:
            taken.append(Device(browser, gate, script))
            stack.callback(taken[-1].context.close)
            return taken[-1]

        yield take
        assert [complaint for one in taken for complaint in one.complaints] == []


@pytest.fixture
def user() -> str:
    """A user of whom nothing is stored."""
    return f"user-{secrets.token_hex(8)}"


@pytest.fixture
def elsewhere(server: ServerProcess, user: str) -> Iterator[Elsewhere]:
    """The same user, without a browser."""
    with contextlib.closing(Elsewhere(server.url, user)) as elsewhere:
        yield elsewhere


@pytest.fixture(scope="package")
def demo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The demo, for all tests."""
    with demo_process(tmp_path_factory.mktemp("demo") / "demo.sqlite3") as server:
        yield server


@pytest.fixture
def demo(demo_server: ServerProcess) -> ServerProcess:
    """The demo, with nothing stored."""
    with httpx2.Client(base_url=demo_server.url, verify=NO_TLS, trust_env=False) as client:
        for user in client.get("/demo/users").json()["users"]:
            token = client.post("/demo/token", json={"user": user}).json()["token"]
            headers = {"Authorization": f"Bearer {token}"}
            client.delete("/preferences", headers=headers).raise_for_status()
    return demo_server


@pytest.fixture
def complaints() -> list[str]:
    """What pages wrote to the console, or failed at."""
    return []


@pytest.fixture
def page(browser: Browser, complaints: list[str]) -> Iterator[Page]:
    """A page in a browser of its own, which notes what it complains of."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        context.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        yield context.new_page()


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core, as the lock file has it."""
    npm = shutil.which("npm")
    if npm is None:
        refuse("there is no npm here, which axe-core comes by")
    folder = tmp_path_factory.mktemp("axe")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / "tests" / "browser" / name, folder)
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=INSTALL_LIMIT)
    except subprocess.SubprocessError as error:
        refuse(f"axe-core could not be installed: {getattr(error, 'stderr', '') or error}")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")

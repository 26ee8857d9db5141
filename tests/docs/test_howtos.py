"""The how-tos run from top to bottom, and what each asks to be checked holds."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
from typing import TYPE_CHECKING

import pytest

from prefsync import Runtime, Subject
from tests.conftest import refuse
from tests.docs.pages import PAGES, ROOT, blocks, text_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

pytestmark = pytest.mark.once

HOWTOS = [page for page in PAGES if page.startswith("docs/howto/")]
INTEGRATIONS = ["fastapi-users", "authlib", "flask-login", "oidc", "tenants", "socketio", "mobile"]


@pytest.mark.parametrize("page", HOWTOS)
def test_howtos_have_one_shape(page: str) -> None:
    """A reader who knows one knows where to look in all."""
    sections = re.findall(r"^## (.*)$", text_of(page), re.MULTILINE)
    assert sections == ["What you need", "The code", "Check that it works", "What to mind"]


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_integrations_work(name: str, run: Callable[[str], ModuleType]) -> None:
    """The page's own checks pass; each but two needs something that only the reader has, and has asserts on the page."""
    page = run(f"docs/howto/{name}.md")
    if hasattr(page, "engine"):
        page.engine.sync_engine.dispose()
    if name not in {"oidc", "socketio"}:
        assert any("assert " in block.code for block in blocks(f"docs/howto/{name}.md", "python"))


async def test_tenants_erases_one_tenants_user(run: Callable[[str], ModuleType]) -> None:
    """The script of the page about tenants takes away what was written on it, and nobody else's."""
    page = run("docs/howto/tenants.md")
    async with Runtime([page.Appearance], authenticates=False) as runtime:
        await runtime.handle(Subject("alice", "globex")).update(page.Appearance, theme="light")
    await page.forget("alice", "acme")
    async with Runtime([page.Appearance], authenticates=False) as runtime:
        assert (await runtime.handle(Subject("alice", "acme")).get(page.Appearance)).theme == "system"
        assert (await runtime.handle(Subject("alice", "globex")).get(page.Appearance)).theme == "light"


async def test_operate(run: Callable[[str], ModuleType], tmp_path: Path) -> None:
    """The report tells what somebody has set, and the query how it came to be."""
    page = run("docs/howto/operate.md")
    async with Runtime([page.Appearance], authenticates=False) as runtime:
        await runtime.handle(Subject("alice")).update(page.Appearance, theme="dark")
    assert "'theme': 'dark'" in await page.report("alice")
    (query,) = blocks("docs/howto/operate.md", "sql")
    connection = sqlite3.connect(tmp_path / "docs.sqlite3")
    (row,) = connection.execute(query.code).fetchall()
    connection.close()
    assert '"theme":"dark"' in row[-1].replace(" ", "")


async def test_upgrade(run: Callable[[str], ModuleType]) -> None:
    """The script copies what was set under the old name, and takes the old one away."""
    page = run("docs/howto/upgrade.md")
    async with Runtime([page.Appearance], authenticates=False) as runtime:
        await runtime.handle(Subject("alice")).update(page.Appearance, theme="dark")
    await page.rename(["alice", "bob"])
    async with Runtime([page.Appearance], authenticates=False) as runtime:
        alice = await runtime.handle(Subject("alice")).get(page.Appearance)
        assert (alice.theme, alice.colors) == ("system", "dark")
        assert (await runtime.handle(Subject("bob")).get(page.Appearance)).colors == "system"


def test_oidc_quotes_what_is_answered() -> None:
    """What the page tells a reader to look for is what the verifiers say."""
    said = "".join(file.read_text() for file in (ROOT / "src" / "prefsync" / "adapters").rglob("*.py"))
    quoted = re.findall(r"^\| `401`, `([^`]+)`", text_of("docs/howto/oidc.md"), re.MULTILINE)
    assert len(quoted) == 5
    assert [words for words in quoted if f'"{words}"' not in said] == []


async def test_stores(run: Callable[[str], ModuleType]) -> None:
    """A host's own Redis client becomes cache and notifier."""
    page = run("docs/howto/stores.md")
    assert page.parts.cache is not None
    assert page.parts.notifier is not None
    await page.client.aclose()


@pytest.mark.parametrize("page", PAGES)
def test_javascript_is_javascript(page: str, tmp_path: Path) -> None:
    """Every JavaScript block parses as a module."""
    found = blocks(page, "js")
    node = shutil.which("node")
    if found and node is None:
        refuse("there is no Node.js here")
    for block in found:
        file = tmp_path / "block.mjs"
        file.write_text(block.code, encoding="utf-8")
        checked = subprocess.run(
            [str(node), "--check", str(file)], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, f"{page}:{block.line}: {checked.stderr}"

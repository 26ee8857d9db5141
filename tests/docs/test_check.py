"""docs/check.py finds what it is for."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

pytestmark = pytest.mark.once


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """docs/check.py, about a documentation of two pages without a fault."""
    spec = importlib.util.spec_from_file_location("docs_check", ROOT / "docs" / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "one.md").write_text("# One\n\n[two](two.md#second-part)\n")
    (tmp_path / "docs" / "two.md").write_text("# Two\n\n## Second part\n\n```python\nawait x\n```\n")
    nav = '[project]\nnav = [{ "One" = "one.md" }, { "More" = [{ "Two" = "two.md" }] }]\n'
    (tmp_path / "docs" / "zensical.toml").write_text(nav)
    return module


def found(check: ModuleType) -> list[str]:
    """Return all that it finds."""
    pages = sorted((check.ROOT / "docs").glob("*.md"))
    return [*(line for page in pages for line in check.problems(page)), *check.lost()]


def test_nothing_is_wrong(check: ModuleType) -> None:
    """Good pages have no problems."""
    assert found(check) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[gone](gone.md)", "no such file: gone.md"),
        ("![gone](images/gone.png)", "no such file: images/gone.png"),
        ("[two](two.md#third-part)", "no such heading: two.md#third-part"),
        ("```python\nif\n```", "invalid syntax"),
    ],
)
def test_a_page_is_wrong(check: ModuleType, text: str, problem: str) -> None:
    """A link without an end, and Python that is none, are told with their page."""
    (check.ROOT / "docs" / "one.md").write_text(f"# One\n\n{text}\n")
    (line,) = found(check)
    assert line.startswith("docs/one.md:")
    assert line.endswith(problem)


def test_a_page_is_in_no_navigation(check: ModuleType) -> None:
    """A page that nobody would find, one that is not there, and one that is there twice are told."""
    (check.ROOT / "docs" / "three.md").write_text("# Three\n")
    nav = '[project]\nnav = [{ "One" = "one.md" }, { "Two" = "two.md" }, { "Two" = "two.md" }, { "Four" = "4.md" }]\n'
    (check.ROOT / "docs" / "zensical.toml").write_text(nav)
    assert found(check) == [
        "docs/zensical.toml: nav names no page: 4.md",
        "docs/zensical.toml: nav has it twice: two.md",
        "docs/three.md is not in the nav of docs/zensical.toml",
    ]

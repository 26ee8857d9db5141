"""Check README.md, docs/ and the examples' page: links lead to files and headings that exist, Python compiles.

And that the site's navigation (``zensical.toml``) has each page of ``docs`` once.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>```+)(?P<language>\w*)[^\n]*\n(?P<code>.*?)^ *(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(r"\]\((?!\w+:)(?P<file>[^)#\s]*)(?:#(?P<heading>[^)\s]*))?[^)]*\)")
HEADING = re.compile(r"^#+ +(?P<text>.*?)[ #]*$", re.MULTILINE)


def headings(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: list[str] = []
    for match in HEADING.finditer(FENCE.sub("", text)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match["text"]).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return set(found)


def problems(page: Path) -> list[str]:
    """Return what is wrong with a page, a line each."""
    text = page.read_text()
    name = page.relative_to(ROOT)
    found = []
    for match in LINK.finditer(FENCE.sub("", text)):
        target = (page.parent / match["file"]) if match["file"] else page
        if not target.exists():
            found.append(f"{name}: no such file: {match['file']}")
        elif (
            match["heading"]
            and target.suffix == ".md"
            and match["heading"] not in headings(target.read_text())
        ):
            found.append(f"{name}: no such heading: {match['file']}#{match['heading']}")
    for match in FENCE.finditer(text):
        if match["language"] not in ("python", "py"):
            continue
        line = text.count("\n", 0, match.start("code"))
        code = re.sub(rf"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
        try:
            compile(code, str(name), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError as error:
            found.append(f"{name}:{line + (error.lineno or 0)}: {error.msg}")
    return found


def lost() -> list[str]:
    """Return what is wrong with the site's navigation, a line each."""
    nav = tomllib.loads((ROOT / "docs" / "zensical.toml").read_text())["project"]["nav"]
    named = list(_leaves(nav))
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    return [
        *(f"docs/zensical.toml: nav names no page: {name}" for name in named if name not in pages),
        *(f"docs/zensical.toml: nav has it twice: {name}" for name in set(named) if named.count(name) > 1),
        *(f"docs/{name} is not in the nav of docs/zensical.toml" for name in sorted(pages - set(named))),
    ]


def _leaves(nav: object) -> Iterator[str]:
    """Yield the pages in a navigation."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, list):
        for entry in nav:
            for below in entry.values():
                yield from _leaves(below)


def main() -> int:
    """Check all pages; return the exit code."""
    pages = [
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
        ROOT / "examples" / "README.md",
    ]
    found = [line for page in pages for line in problems(page)] + lost()
    print(*found, f"{len(pages)} pages, {len(found)} problems", sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())

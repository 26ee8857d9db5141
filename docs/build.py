"""Build the documentation's site into ``build/site``: strictly, so that a broken link or a name without a word fails it.

Zensical turns pages into HTML, mkdocstrings the docstrings. What neither looks at is checked here: that every public name
is described, that what the pages import is in the reference, and that every address in the HTML leads to a file.
"""

from __future__ import annotations

import ast
import html
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Final

import griffe

sys.path.insert(0, str(Path(__file__).parent))
from check import FENCE, LINK, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS: Final = ROOT / "docs"
WORK: Final = ROOT / "build" / "docs"
SITE: Final = ROOT / "build" / "site"

# Files that pages link to and that are no pages, the examples say, become pages of their own in this folder.
SOURCE: Final = "source"
LANGUAGES: Final = {".py": "python", ".js": "js", ".html": "html", ".json": "json", ".toml": "toml"}

OBJECTS: Final = re.compile(r"^::: (?P<name>[\w.]+)", re.MULTILINE)
OURS: Final = re.compile(r"prefsync(?:_\w+)?(?:\.|$)")
ADDRESS: Final = re.compile(
    r"<(?:a|img|script|link|source)\b[^>]*?\s(?:href|src)=[\"']?(?P<address>[^\"'\s>]+)"
)
ANCHOR: Final = re.compile(r"\bid=[\"']?(?P<id>[^\"'\s>]+)")


def lay_out() -> None:
    """Copy the pages to where they are built, and all files that they link to, as pages."""
    shutil.rmtree(WORK, ignore_errors=True)
    shutil.copytree(DOCS, WORK / "docs", ignore=shutil.ignore_patterns("*.py", "*.toml", "__pycache__"))
    shutil.copy(DOCS / "zensical.toml", WORK / "zensical.toml")
    waiting = sorted(DOCS.rglob("*.md"))
    seen = set(waiting)
    for file in waiting:  # which grows meanwhile
        page = WORK / "docs" / page_of(file)
        page.parent.mkdir(parents=True, exist_ok=True)
        text, linked = rewritten(file)
        page.write_text(text, encoding="utf-8")
        waiting += sorted(linked - seen)
        seen |= linked


def page_of(file: Path) -> Path:
    """Return where a file's page stands in the site's sources."""
    if file.is_relative_to(DOCS):
        return file.relative_to(DOCS)
    name = file.relative_to(ROOT).as_posix()
    return Path(SOURCE, name if name.endswith(".md") else f"{name}.md")


def rewritten(file: Path) -> tuple[str, set[Path]]:
    """Return a file's text as a page, its links made for the site, and the files outside of ``docs`` that it links to."""
    if file.suffix != ".md":
        return as_page(file), set()
    linked: set[Path] = set()

    def lead(match: re.Match[str]) -> str:
        target = (file.parent / match["file"]).resolve() if match["file"] else file
        if target == file or (file.is_relative_to(DOCS) and target.is_relative_to(DOCS)):
            return match[0]
        if not target.is_relative_to(DOCS):
            linked.add(target)
        address = os.path.relpath(page_of(target), page_of(file).parent)
        heading = f"#{match['heading']}" if match["heading"] else ""
        return f"]({Path(address).as_posix()}{heading})"

    text = file.read_text(encoding="utf-8")
    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [LINK.sub(lead, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, LINK.sub(lead, text[end:])]), linked


def as_page(file: Path) -> str:
    """Return a page that shows a file, or lists a folder."""
    name = file.relative_to(ROOT).as_posix()
    if file.is_dir():
        shown = "\n".join(sorted(one.name for one in file.iterdir() if one.name[0] not in "._"))
        language = "text"
    else:
        shown = file.read_text(encoding="utf-8").rstrip("\n")
        language = LANGUAGES.get(file.suffix, "text")
    return f"---\nsearch:\n  exclude: true\n---\n\n# {name}\n\n~~~~~~{language}\n{shown}\n~~~~~~\n"


def undescribed() -> Iterator[str]:
    """Yield what is wrong with the reference: public names without a docstring, and imports on pages that it lacks."""
    described: set[str] = set()
    loader = griffe.GriffeLoader(docstring_parser="google")
    pages = sorted(DOCS.rglob("*.md"))
    for match in (match for page in pages for match in OBJECTS.finditer(page.read_text(encoding="utf-8"))):
        package = match["name"].partition(".")[0]
        if package not in loader.modules_collection:
            loader.load(package)
        module = loader.modules_collection[match["name"]]
        for name in map(str, module.exports or ()):
            described.add(f"{module.path}.{name}")
            if name != "__version__" and not module[name].has_docstring:
                yield f"{module.path}.{name} has no docstring, so the reference leaves it out"
    for page in (ROOT / "README.md", *pages):
        for fence in FENCE.finditer(page.read_text(encoding="utf-8")):
            used = set(imported(fence["code"])) if fence["language"] == "python" else set()
            for name in sorted(used - described):
                yield f"{page.relative_to(ROOT)} uses {name}, which is not in the reference (docs/reference)"


def imported(code: str) -> Iterator[str]:
    """Yield the names of ours that a page's code imports."""
    tree = compile(code, "page", "exec", flags=ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and OURS.match(node.module or ""):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def dead_ends() -> Iterator[str]:
    """Yield addresses within the site that lead to no file, or to no anchor of one."""
    pages = {
        path: path.read_text(encoding="utf-8") for path in sorted(SITE.rglob("*.html")) if path.is_file()
    }
    anchors = {path: {html.unescape(one) for one in ANCHOR.findall(text)} for path, text in pages.items()}
    for path, text in pages.items():
        if path.name == "404.html":  # its addresses begin at the root of the site, wherever that is
            continue
        for address in sorted({html.unescape(one) for one in ADDRESS.findall(text)}):
            parts = urllib.parse.urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                yield f"{path.relative_to(SITE)}: no such file: {address}"
            elif (
                parts.fragment
                and target in anchors
                and urllib.parse.unquote(parts.fragment) not in anchors[target]
            ):
                yield f"{path.relative_to(SITE)}: no such anchor: {address}"


def main() -> int:
    """Build and check; return the exit code."""
    found = list(undescribed())
    lay_out()
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--clean", "--strict"],
        cwd=WORK,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
    )
    if built.returncode == 0:
        shutil.rmtree(SITE, ignore_errors=True)
        shutil.copytree(WORK / "site", SITE)
        found += dead_ends()
    print(*found, f"{SITE.relative_to(ROOT)}: {len(found)} problems of ours", sep="\n")
    return built.returncode or bool(found)


if __name__ == "__main__":
    sys.exit(main())

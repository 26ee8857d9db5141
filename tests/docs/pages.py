"""The pages of the documentation, and their code blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

__all__ = ["PAGES", "ROOT", "Block", "as_module", "blocks", "text_of"]

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ["README.md", *sorted(page.relative_to(ROOT).as_posix() for page in ROOT.glob("docs/**/*.md"))]


class Block(NamedTuple):
    """A code block.

    Attributes:
        line: Of the page, where its code begins, counted from 0.
        code: What is in it.
    """

    line: int
    code: str


def text_of(page: str) -> str:
    """Return a page's text."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[Block]:
    """Return a page's blocks in a language."""
    found: list[Block] = []

    def collect(example: Example) -> None:
        found.append(Block(example.line + example.parsed.line_offset, str(example.parsed)))

    for example in Sybil(parsers=[CodeBlockParser(language, collect)]).parse(ROOT / page).examples():
        example.evaluate()
    return found


def as_module(page: str) -> str:
    """Return a page's Python as the text of one module, each line with the number that it has on the page."""
    module = ""
    for line, code in blocks(page, "python"):
        module += "\n" * (line - module.count("\n")) + code
    return module

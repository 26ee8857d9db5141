"""What commands print: results on standard output, for people or as JSON; progress and errors on standard error."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Printer"]

# Written over by the next line of progress.
_CLEAR = "\r\x1b[K"


class Printer:
    """Prints for people, or for programs.

    Args:
        as_json: One JSON value on standard output instead of words.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def json(self, value: Any) -> None:
        """Print a value as JSON, whoever reads it."""
        _write(json.dumps(value, indent=2, ensure_ascii=False))

    def line(self, value: Any) -> None:
        """Print a value as one line of JSON."""
        _write(json.dumps(value, ensure_ascii=False))

    def result(self, value: Any, words: Iterable[str]) -> None:
        """Print a result: the value as JSON, or the words, a line each."""
        if self.as_json:
            self.json(value)
        else:
            _write("\n".join(words))

    def error(self, code: str, lines: Sequence[str]) -> None:
        """Print an error."""
        if self.as_json:
            sys.stderr.write(
                json.dumps({"error": code, "detail": "; ".join(lines)}, ensure_ascii=False) + "\n"
            )
        else:
            sys.stderr.writelines(f"prefsync: {line}\n" for line in lines)

    def note(self, text: str) -> None:
        """Say something beside the result."""
        sys.stderr.write(f"{text}\n")

    def progress(self, items: Sequence[Any], doing: str) -> Iterator[Any]:
        """Go through work, and show on a terminal how far it is."""
        shows = len(items) > 1 and sys.stderr.isatty()
        for number, item in enumerate(items):
            if shows:
                sys.stderr.write(f"{_CLEAR}{doing} {number} of {len(items)}")
                sys.stderr.flush()
            yield item
        if shows:
            sys.stderr.write(_CLEAR)


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()

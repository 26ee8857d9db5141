"""``schema``: what the app has declared, for other programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from prefsync.cli.ends import Exit, RefusedError
from prefsync.typescript import typescript

if TYPE_CHECKING:
    from argparse import Namespace

    from prefsync.cli.printing import Printer
    from prefsync.cli.target import Target

__all__ = ["schema"]


def schema(target: Target, given: Namespace, printer: Printer) -> Exit:
    """Print the JSON Schema or the TypeScript declarations, write them to a file, or compare them with one."""
    declared = target.runtime.schema
    if given.typescript:
        text = typescript([namespace.model for namespace in declared.namespaces.values()])
    else:
        text = json.dumps(declared.json_schema, indent=2, ensure_ascii=False) + "\n"
    if given.check is not None:
        return _compare(text, given, printer)
    if given.output is None:
        printer.result({"text": text} if given.typescript else declared.json_schema, [text.rstrip("\n")])
        return Exit.OK
    try:
        given.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"{given.output} cannot be written: {error.strerror}") from error
    return Exit.OK


def _compare(text: str, given: Namespace, printer: Printer) -> Exit:
    try:
        found = given.check.read_text(encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"{given.check} cannot be read: {error.strerror}") from error
    is_current = found == text
    kind = "--typescript" if given.typescript else "--json-schema"
    mend = (
        f"{given.check} is not what the models say: write it anew with schema {kind} --output {given.check}"
    )
    printer.result({"current": is_current}, [f"{given.check} is up to date" if is_current else mend])
    return Exit.OK if is_current else Exit.FAILED

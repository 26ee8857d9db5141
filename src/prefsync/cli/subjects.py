"""Commands about users: show, set, reset, erase, export."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prefsync.cli.ends import Exit, RefusedError
from prefsync.document import Document, Subject
from prefsync.http.bodies import mutation_from
from prefsync.ports import Kept

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from prefsync.cli.printing import Printer
    from prefsync.cli.target import Target
    from prefsync.document import Snapshot
    from prefsync.wiring import Runtime

__all__ = ["erase", "export", "reset", "set_fields", "show", "subject_of"]

_NOTHING: Final = Kept(Document())


def subject_of(user: str, tenant: str | None) -> Subject:
    """Return the subject that the command line names."""
    try:
        return Subject(user, tenant)
    except ValueError as error:
        raise RefusedError(str(error)) from error


def show(target: Target, given: Namespace, printer: Printer) -> Exit:
    """Print a user's preferences, defaults included."""
    subject = subject_of(given.user, given.tenant)
    snapshot = target.use(lambda runtime: runtime.service.read(subject))
    printer.json({"revision": snapshot.revision, "values": snapshot.values})
    return Exit.OK


def set_fields(target: Target, given: Namespace, printer: Printer) -> Exit:
    """Set fields of a namespace."""
    return _patch(target, given, {given.namespace: dict(map(_assignment, given.assignments))}, printer)


def reset(target: Target, given: Namespace, printer: Printer) -> Exit:
    """Take fields of a namespace, or all of it, back to their defaults."""
    fields = dict.fromkeys(given.fields) if given.fields else None
    return _patch(target, given, {given.namespace: fields}, printer)


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise RefusedError(f"{text!r}: write FIELD=VALUE, theme=dark say")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


def _patch(target: Target, given: Namespace, body: dict[str, Any], printer: Printer) -> Exit:
    subject = subject_of(given.user, given.tenant)

    async def write(runtime: Runtime) -> Snapshot:
        service = runtime.service
        mutation = mutation_from("PATCH", None, body, service.schema, service.limits)
        return await service.write(subject, mutation, origin="prefsync-cli")

    snapshot = target.use(write)
    printer.json({"revision": snapshot.revision, "values": {name: snapshot.values[name] for name in body}})
    return Exit.OK


def erase(target: Target, given: Namespace, printer: Printer) -> Exit:
    """Erase everything that is kept of users, after a question."""
    subjects = _subjects(given)
    whom = f"of {subjects[0].user}" if len(subjects) == 1 else f"of {len(subjects)} users"
    if not given.yes and not _confirmed(f"Erase everything that is kept {whom}? [y/N] "):
        raise RefusedError("nothing was erased; --yes asks no questions", Exit.FAILED)

    async def work(runtime: Runtime) -> list[str]:
        absent = []
        for subject in printer.progress(subjects, "erased"):
            if await runtime.repository.kept(subject) == _NOTHING:
                absent.append(subject.user)
            # All the same: an erase that could not be announced is to be called again.
            await runtime.service.erase(subject)
        return absent

    absent = target.use(work)
    erased = len(subjects) - len(absent)
    words = []
    if erased:
        words.append("erased" if len(subjects) == 1 else f"erased {erased}")
    if absent:
        whom = absent[0] if len(absent) == 1 else f"{len(absent)} of the users (--json lists them)"
        where = (
            f"in the tenant {given.tenant}"
            if given.tenant
            else "outside of tenants; for a tenant's: --tenant"
        )
        words.append(f"nothing was kept of {whom} {where}")
    printer.result({"erased": erased, "absent": absent}, words)
    return Exit.OK


def _confirmed(question: str) -> bool:
    try:
        return input(question).strip().lower() in {"y", "yes"}
    except EOFError:
        return False


def export(target: Target, given: Namespace, printer: Printer) -> Exit:
    """Print everything that is kept of users, as JSON: an object, or a list where several are named."""
    subjects = _subjects(given)

    async def work(runtime: Runtime) -> list[Mapping[str, Any]]:
        return [await runtime.service.export(subject) for subject in printer.progress(subjects, "exported")]

    found = target.use(work)
    result = found[0] if len(found) == 1 and given.file is None else found
    if given.output is None:
        printer.json(result)
        return Exit.OK
    try:
        given.output.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"{given.output} cannot be written: {error.strerror}") from error
    return Exit.OK


def _subjects(given: Namespace) -> list[Subject]:
    """Return whom a command is about: those on the command line, and a line each of a file."""
    users = list(given.users)
    if given.file is not None:
        try:
            text = sys.stdin.read() if str(given.file) == "-" else Path(given.file).read_text("utf-8")
        except OSError as error:
            raise RefusedError(f"{given.file} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise RefusedError(f"{given.file} is not UTF-8; write it so") from error
        # Some editors begin a file with a mark, which is no part of the first id. Lines end where files end them:
        # splitlines() would cut an id that holds U+2028, say, into two.
        users += [line for line in text.removeprefix("\ufeff").split("\n") if line.strip()]
    if not users:
        raise RefusedError("name a user, or a file that has one in each line (--file)")
    return [subject_of(user, given.tenant) for user in users]

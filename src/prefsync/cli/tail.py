"""``tail``: changes as they are made, for support."""

from __future__ import annotations

import time
from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import anyio

from prefsync.cli.ends import Exit
from prefsync.cli.subjects import subject_of
from prefsync.errors import UnavailableError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import AsyncIterator

    from prefsync.cli.printing import Printer
    from prefsync.cli.target import Target
    from prefsync.document import Change, Subject
    from prefsync.ports import PreferenceRepository
    from prefsync.wiring import Runtime

__all__ = ["tail"]

# Seconds between two looks at the log. It is the database that is asked, which has every change of every process.
_PAUSE: Final = 0.5

# ms that a look goes back: changes are committed in another order than their times say.
_OVERLAP: Final = 5_000

_PAGE: Final = 500

# Subjects of which it is remembered up to where they were shown.
_MOST: Final = 100_000


def tail(target: Target, given: Namespace, printer: Printer) -> Exit:
    """Print changes as they are made: who, when, which fields; values only where asked for."""
    subject = None if given.user is None else subject_of(given.user, given.tenant)

    async def work(runtime: Runtime) -> None:
        left = given.count
        with anyio.move_on_after(given.seconds):
            async for whose, change in _changes(runtime.repository, subject, printer):
                _show(printer, whose, change, values=given.values)
                if left is not None and (left := left - 1) == 0:
                    return

    target.use(work)
    return Exit.OK


async def _changes(
    repository: PreferenceRepository, subject: Subject | None, printer: Printer
) -> AsyncIterator[tuple[Subject, Change]]:
    shown: OrderedDict[Subject, int] = OrderedDict()
    since = time.time_ns() // 1_000_000
    began = since
    if subject is not None:
        (shown[subject],) = await repository.revisions([subject])
    if not printer.as_json:
        printer.note("waiting for changes; Ctrl-C ends it")
    is_away = False
    while True:
        now = time.time_ns() // 1_000_000
        try:
            if subject is not None:
                newest = {subject: (await repository.revisions([subject]))[0]}
            else:
                newest = await _newest_since(repository, since - _OVERLAP)
            for whose, revision in newest.items():
                async for change in _of(repository, whose, shown.get(whose, began - 1), revision):
                    yield whose, change
                shown[whose] = revision
            since = now
            while len(shown) > _MOST:
                shown.popitem(last=False)
            is_away = False
        except UnavailableError as error:
            if not is_away:
                printer.note(f"prefsync: {error}; trying again")
            is_away = True
        await anyio.sleep(_PAUSE)


async def _newest_since(repository: PreferenceRepository, at: int) -> dict[Subject, int]:
    newest: dict[Subject, int] = {}
    while True:
        page = await repository.logged_since(at, _PAGE)
        newest |= {logged.subject: logged.revision for logged in page}
        if len(page) < _PAGE:
            return newest
        at = page[-1].at + 1


async def _of(
    repository: PreferenceRepository, subject: Subject, since: int, newest: int
) -> AsyncIterator[Change]:
    """Yield a subject's changes after a revision, which need not be one of its own, up to the one that was found.

    What was written since then is the next round's, which would tell of it again.
    """
    if newest <= since:
        return
    for change in (await repository.kept(subject)).changes:
        if since < change.revision <= newest:
            yield change


def _show(printer: Printer, subject: Subject, change: Change, *, values: bool) -> None:
    fields = sorted(
        f"{namespace}.{field}"
        for part in (change.assigned, change.unset)
        for namespace, fields in part.items()
        for field in fields
    )
    at = (
        datetime.fromtimestamp(change.at / 1_000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
    if printer.as_json:
        told: dict[str, Any] = {
            "at": at,
            "user": subject.user,
            "tenant": subject.tenant,
            "revision": change.revision,
            "origin": change.origin,
            "fields": fields,
        }
        printer.line({**told, "assigned": change.assigned, "unset": change.unset} if values else told)
        return
    whose = subject.user if subject.tenant is None else f"{subject.user} ({subject.tenant})"
    by = f" by {change.origin}" if change.origin else ""
    words = [f"{at}  {whose}  {change.revision}{by}  {', '.join(fields)}"]
    if values:
        words.append(f"    set {change.assigned}, reset {change.unset}")
    printer.result(None, words)

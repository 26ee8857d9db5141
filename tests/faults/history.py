"""What clients did and were told, and whether it fits together: no I/O, no clock.

A history is judged by the change feed, which says in what order the writes of a user took effect (the idea of Elle: where
each write is of a value of its own, and a read shows the version, an order that fits can be looked up and need not be
searched for). What the feed itself says is judged by what was acknowledged and by what sessions were told.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Values: TypeAlias = Mapping[str, Mapping[str, Any]]


class HistoryError(AssertionError):
    """What was written, read and told does not fit together: however busy the machine was."""


def judge(faults: Sequence[str]) -> None:
    """Raise where something is wrong.

    Raises:
        HistoryError: There are faults.
    """
    if faults:
        raise HistoryError("\n".join(faults))


@dataclass(frozen=True, slots=True)
class Reset:
    """The whole state: what a session is told first, or where changes do not lead, and what ``GET /`` answers."""

    revision: int
    values: Values


@dataclass(frozen=True, slots=True)
class Change:
    """The way from one revision to another."""

    revision: int
    previous: int
    changed: Values
    removed: Mapping[str, Sequence[str]]


Event: TypeAlias = Reset | Change


@dataclass(frozen=True, slots=True)
class Write:
    """A write, whose values nobody else writes, from its first attempt to the last answer.

    Attributes:
        begin: When it was first sent, in seconds of one clock for all.
        end: When it was answered; infinite where that never came.
        values: The members it sets: what its change in the feed must be.
        revision: As acknowledged. ``None``: nobody knows whether it was done (a time-out, a cut, a 503), or it was
            refused.
        upon: The revision that it demanded (``If-Match``).
        is_refused: The server said for good that it did not do it (a 4xx).
    """

    begin: float
    end: float
    values: Values
    revision: int | None = None
    upon: int | None = None
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """An answered read of the whole document.

    Attributes:
        begin: When it was sent.
        end: When it was answered.
        revision: Of the answer.
        values: The answer.
        at_least: The revision that it demanded (``Prefsync-Min-Revision``).
        is_marked: The answer said that it may be old (``Prefsync-Stale``).
    """

    begin: float
    end: float
    revision: int
    values: Values
    at_least: int = 0
    is_marked: bool = False


def event_of(message: Mapping[str, Any]) -> Event:
    """Read a reset or a change as the protocol has it, over whichever transport."""
    if "values" in message:
        return Reset(message["revision"], message["values"])
    return Change(message["revision"], message["previous"], message["changed"], message["removed"])


# --- One session ------------------------------------------------------------------------------------------------------


def faults_of_session(events: Sequence[Event], final: Reset) -> list[str]:
    """Return what is wrong with what one session was told, over all of its connections; nothing, if all is well.

    It must be told a state first, then never go backwards, see no revision twice and no gap, and what it was told,
    applied, must be the final state.
    """
    found: list[str] = []
    position: int | None = None
    values: dict[str, dict[str, Any]] = {}
    for event in events:
        if isinstance(event, Reset):
            if position is not None and event.revision < position:
                found.append(f"a reset goes back from {position} to {event.revision}")
            values = copy.deepcopy({name: dict(fields) for name, fields in event.values.items()})
        else:
            if position is None:
                found.append(f"change {event.revision} comes before any state")
            elif event.revision == position:
                found.append(f"change {event.revision} comes twice")
            elif event.revision < position:
                found.append(f"change {event.revision} comes after {position}")
            elif event.previous != position:
                found.append(
                    f"change {event.revision} follows {event.previous}, but the session has {position}"
                )
            _apply(event, values)
        position = event.revision
    if position != final.revision:
        found.append(f"ends at {position}, not at {final.revision}")
    if values != final.values:
        found.append(f"ends with {_differences(values, final.values)}")
    return found


def count_folded(events: Sequence[Event], log: Sequence[Change]) -> int:
    """Count the changes that stand for more than one of the log."""
    previous = {change.revision: change.previous for change in log}
    return sum(
        isinstance(event, Change) and previous.get(event.revision) != event.previous for event in events
    )


# --- All clients of one user ------------------------------------------------------------------------------------------


def faults_of_history(
    writes: Sequence[Write],
    reads: Sequence[Read],
    start: Reset,
    log: Sequence[Change],
    final: Reset,
    *,
    lag: float = 0.0,
) -> list[str]:
    """Return what is wrong with a user's history; nothing, if all is well.

    The feed has each acknowledged write once, whole, and in an order that fits the times; of the others it has any, but
    whole and at most once, and none that was refused. No write that demanded a revision hides another. Each read shows
    the state of one revision, which is no older than what had been acknowledged or read before it began, and of no
    write that began after it.

    Args:
        writes: All that was tried.
        reads: All that was answered.
        start: The state before the first write.
        log: The feed from there.
        final: The state after the last one.
        lag: Seconds that an unmarked read without a demand may be behind.
    """
    return [
        *_faults_of_feed(start, log, final),
        *_faults_of_writes(writes, log),
        *_faults_of_authors(writes, log),
        *_faults_of_order(writes, reads),
        *_faults_of_reads(writes, reads, _states(start, log)),
        *(
            f"read {read.revision} {behind:.2f} s after something newer was known"
            for read, behind in lags(writes, reads)
            if behind > lag
        ),
    ]


def lags(writes: Sequence[Write], reads: Sequence[Read]) -> list[tuple[Read, float]]:
    """Return for each read that may not be old how long something newer had been acknowledged, or read, before it began."""
    unmarked = [read for read in reads if not read.is_marked]
    known = [(write.revision, write.end) for write in writes if write.revision is not None]
    known = sorted(known + [(read.revision, read.end) for read in unmarked])
    revisions = [revision for revision, _ in known]
    # For each place, when the first of what is at least that new was known.
    first = [math.inf, *itertools.accumulate((end for _, end in reversed(known)), min)][::-1]
    return [(read, max(0.0, read.begin - first[bisect_right(revisions, read.revision)])) for read in unmarked]


def _faults_of_feed(start: Reset, log: Sequence[Change], final: Reset) -> Iterable[str]:
    position = start.revision
    for change in log:
        if change.previous != position or change.revision <= position:
            yield f"{change.revision} follows {change.previous}, but {position} is before it"
        position = change.revision
    if position != final.revision:
        yield f"the feed ends at {position}, the state is of {final.revision}"
    states = _states(start, log)
    if states.get(final.revision, final.values) != final.values:
        yield f"the feed ends with {_differences(states[final.revision], final.values)}"


def _faults_of_writes(writes: Sequence[Write], log: Sequence[Change]) -> Iterable[str]:
    by_revision = {change.revision: change for change in log}
    acknowledged = [write for write in writes if write.revision is not None]
    for revision, times in Counter(write.revision for write in acknowledged).items():
        if times > 1:
            yield f"{times} writes were acknowledged with {revision}"
    for write in acknowledged:
        change = by_revision.get(write.revision or 0)
        if change is None:
            yield f"missing: {write}"
        elif not _is(change, write):
            yield f"not as acknowledged: {write} is {change}"


def _faults_of_authors(writes: Sequence[Write], log: Sequence[Change]) -> Iterable[str]:
    by_content = {_content(write.values): write for write in writes}
    seen: set[str] = set()
    for change in log:
        content = _content(change.changed)
        author = by_content.get(content)
        if author is None or change.removed:
            is_part = any(_is_part(change.changed, write.values) for write in writes)
            yield f"{'a part of a write' if is_part else 'nobody wrote'}: {change}"
            continue
        if content in seen:
            yield f"written twice: {author}"
        seen.add(content)
        if author.is_refused:
            yield f"refused, and written all the same: {author}"
        if author.upon is not None and author.upon != change.previous:
            yield f"lost update: {change.revision} was to be upon {author.upon}, and hides {change.previous}"


def _faults_of_order(writes: Sequence[Write], reads: Sequence[Read]) -> Iterable[str]:
    """Yield the acknowledged writes that took effect before something that was over when they began."""
    over = sorted(
        (operation.end, operation.revision)
        for operation in (*writes, *reads)
        if operation.revision is not None
    )
    ended = [end for end, _ in over]
    newest = [0, *itertools.accumulate((revision for _, revision in over), max)]
    for write in writes:
        before = newest[bisect_right(ended, math.nextafter(write.begin, -math.inf))]
        if write.revision is not None and write.revision <= before:
            yield f"out of order: {before} was known before {write} began"


def _faults_of_reads(
    writes: Sequence[Write], reads: Sequence[Read], states: Mapping[int, Values]
) -> Iterable[str]:
    begun = {write.revision: write.begin for write in writes}
    for read in reads:
        if read.revision < read.at_least:
            yield f"read {read.revision} instead of {read.at_least} or later"
        if read.revision not in states:
            yield f"read {read.revision}, which never was"
        elif read.values != states[read.revision]:
            yield f"read at {read.revision} {_differences(read.values, states[read.revision])}"
        if begun.get(read.revision, -math.inf) > read.end:
            yield f"read {read.revision} before it was written"


def _states(start: Reset, log: Sequence[Change]) -> dict[int, Values]:
    """Return the state at each revision."""
    values = {name: dict(fields) for name, fields in start.values.items()}
    states: dict[int, Values] = {start.revision: values}
    for change in log:
        touched = {*change.changed, *change.removed}
        values = {**values, **{name: dict(values.get(name, {})) for name in touched}}
        _apply(change, values)
        states[change.revision] = values
    return states


def _is(change: Change, write: Write) -> bool:
    return _content(change.changed) == _content(write.values) and not change.removed


def _is_part(some: Values, of: Values) -> bool:
    return any(
        of.get(name, {}).get(field) == value
        for name, fields in some.items()
        for field, value in fields.items()
    )


def _content(values: Values) -> str:
    return json.dumps(values, sort_keys=True)


def _apply(change: Change, values: dict[str, dict[str, Any]]) -> None:
    for name, fields in change.changed.items():
        values.setdefault(name, {}).update(fields)
    for name, members in change.removed.items():
        for member in members:
            values.get(name, {}).pop(member, None)


def _differences(mine: Values, theirs: Values) -> str:
    names = sorted({*mine, *theirs})
    return ", ".join(
        f"{name}/{field}: {mine.get(name, {}).get(field)!r} for {theirs.get(name, {}).get(field)!r}"
        for name in names
        for field in sorted({*mine.get(name, {}), *theirs.get(name, {})})
        if mine.get(name, {}).get(field) != theirs.get(name, {}).get(field)
    )

"""What sessions were told and what writers were answered, and whether the two fit: no I/O, no clock."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Values: TypeAlias = Mapping[str, Mapping[str, Any]]


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
class Ack:
    """An acknowledged write of one member of a namespace."""

    revision: int
    namespace: str
    field: str
    value: Any


def event_of(message: Mapping[str, Any]) -> Event:
    """Read a reset or a change as the protocol has it, over whichever transport."""
    if "values" in message:
        return Reset(message["revision"], message["values"])
    return Change(message["revision"], message["previous"], message["changed"], message["removed"])


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


def faults_of_log(log: Sequence[Change], acks: Sequence[Ack], final: Reset) -> list[str]:
    """Return what is wrong with the log, given the acknowledged writes, each of a member or value of its own."""
    found = [
        f"{change.revision} follows {change.previous}, but {before.revision} is before it"
        for before, change in itertools.pairwise(log)
        if change.previous != before.revision or change.revision <= before.revision
    ]
    by_revision = {change.revision: change for change in log}
    revisions = [ack.revision for ack in acks]
    if len(set(revisions)) != len(revisions):
        found.append("two writes were acknowledged with one revision")
    for ack in acks:
        change = by_revision.get(ack.revision)
        if change is None or change.changed.get(ack.namespace, {}).get(ack.field) != ack.value:
            found.append(f"missing: {ack}")
    if unknown := sorted(set(by_revision) - set(revisions)):
        found.append(f"nobody was acknowledged {unknown}")
    if log and log[-1].revision != final.revision:
        found.append(f"the log ends at {log[-1].revision}, the state is of {final.revision}")
    return found


def count_folded(events: Sequence[Event], log: Sequence[Change]) -> int:
    """Count the changes that stand for more than one of the log."""
    previous = {change.revision: change.previous for change in log}
    return sum(
        isinstance(event, Change) and previous.get(event.revision) != event.previous for event in events
    )


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

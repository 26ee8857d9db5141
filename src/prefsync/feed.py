"""The change feed: what a client that has seen one revision needs in order to have seen the newest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from prefsync.clock import Clock
    from prefsync.document import Change, Snapshot, Subject, Values
    from prefsync.hub import Hub, Waiter
    from prefsync.ports import PreferenceRepository
    from prefsync.resilience import Guard
    from prefsync.schema import Schema
    from prefsync.service import PreferenceService

__all__ = ["ChangeFeed", "EffectiveChange", "Page"]

# Announcements can be lost; a waiting client looks for itself this often (protocol.md section 4, promise 2).
_LONGEST_UNCHECKED: Final = 30.0


@dataclass(frozen=True, slots=True)
class EffectiveChange:
    """A change as clients see it.

    Attributes:
        change: As it was logged.
        changed: Whole fields with their new effective values.
        removed: Names that are gone from open namespaces.
    """

    change: Change
    changed: Values = field(default_factory=dict)
    removed: Mapping[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of the feed.

    Attributes:
        revision: Where to go on from.
        newest: The subject's newest revision.
        changes: Oldest first.
        has_more: Whether there are more than fitted.
        reset: Replaces all that the client has; set where its revision is not in the log or its schema is another.
    """

    revision: int
    newest: int
    changes: tuple[EffectiveChange, ...] = ()
    has_more: bool = False
    reset: Snapshot | None = None


class ChangeFeed:
    """Pages of changes, at once or as soon as there is one.

    Args:
        service: Who knows the state.
        repository: Where the log is.
        hub: Who hears of changes.
        guard: Bounds the calls to the repository.
        clock: For the time that a wait may take.
    """

    def __init__(
        self,
        service: PreferenceService,
        repository: PreferenceRepository,
        hub: Hub,
        guard: Guard,
        clock: Clock,
    ) -> None:
        self._service = service
        self._repository = repository
        self._hub = hub
        self._guard = guard
        self._clock = clock

    async def page(
        self, subject: Subject, since: int, *, limit: int = 100, schema: str | None = None
    ) -> Page:
        """Return the changes after a revision.

        Args:
            subject: Whose.
            since: The newest revision that the client has.
            limit: The most changes to return.
            schema: The schema tag that the client has, if it knows one.

        Raises:
            UnavailableError: The database is out of reach.
        """
        tag = self._service.schema.tag
        log = await self._guard(self._repository.changes(subject, since, limit))
        if not log.complete or schema not in {None, tag}:
            document = await self._service.documents.load(subject)
            snapshot = self._service.show_document(subject, document)
            return Page(snapshot.revision, snapshot.revision, reset=snapshot)
        changes = tuple(present(self._service.schema, change) for change in log.changes)
        revision = log.changes[-1].revision if log.changes else since
        return Page(revision, log.newest, changes, log.has_more)

    async def poll(
        self, subject: Subject, since: int, *, wait: float, limit: int = 100, schema: str | None = None
    ) -> Page:
        """Return the changes after a revision as soon as there is one, or after ``wait`` seconds none.

        Args:
            subject: Whose.
            since: The newest revision that the client has.
            wait: Seconds.
            limit: The most changes to return.
            schema: The schema tag that the client has, if it knows one.

        Raises:
            UnavailableError: The database is out of reach when the call comes or when a change is announced.
        """
        if wait <= 0:
            return await self.page(subject, since, limit=limit, schema=schema)
        end = self._clock.monotonic() + wait
        with self._hub.waiter(
            subject
        ) as waiter:  # before the first look: what is written after it wakes the waiter
            while True:
                page = await self.page(subject, since, limit=limit, schema=schema)
                if page.changes or page.reset is not None:
                    return page
                if not await self._woken(waiter, end):
                    return page

    async def _woken(self, waiter: Waiter, end: float) -> bool:
        """Wait until it is worth looking again; False where the time is up."""
        left = end - self._clock.monotonic()
        if left <= 0:
            return False
        await waiter.wait(min(left, _LONGEST_UNCHECKED))
        return True


def present(schema: Schema, change: Change) -> EffectiveChange:
    """Show a logged change in the effective values of a schema; what it does not declare is left out."""
    changed: dict[str, dict[str, JsonValue]] = {}
    removed: dict[str, list[str]] = {}
    for name, namespace in schema.namespaces.items():
        assigned, unset = change.assigned.get(name, {}), change.unset.get(name, [])
        if not assigned and not unset:
            continue
        if namespace.is_open:
            values = dict(assigned)
            if unset:
                removed[name] = sorted(unset)
        else:
            values = {field: namespace.defaults[field] for field in unset if field in namespace.defaults}
            values |= {
                field: namespace.shown(field, value)
                for field, value in assigned.items()
                if field in namespace.defaults
            }
        if values:
            changed[name] = values
    return EffectiveChange(change, changed, removed)

"""The change feed: what a client that has seen one revision needs in order to have seen the newest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefsync.effective import EffectiveChange, present

if TYPE_CHECKING:
    from prefsync.document import Snapshot, Subject
    from prefsync.ports import PreferenceRepository
    from prefsync.resilience import Guard
    from prefsync.service import PreferenceService

__all__ = ["ChangeFeed", "Page"]


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of the feed.

    Attributes:
        start: The revision that was asked about; that of the state where none was.
        revision: Where to go on from.
        newest: The subject's newest revision.
        version: What orders the newest state among all, an erased one included (``Document.version``).
        changes: Oldest first.
        has_more: Whether there are more than fitted.
        reset: Replaces all that the client has; set where its revision is not in the log or its schema is another.
    """

    start: int
    revision: int
    newest: int
    version: int
    changes: tuple[EffectiveChange, ...] = ()
    has_more: bool = False
    reset: Snapshot | None = None


class ChangeFeed:
    """Pages of the change log, as of now.

    Args:
        service: Who knows the state.
        repository: Where the log is.
        guard: Bounds the calls to the repository.
    """

    def __init__(self, service: PreferenceService, repository: PreferenceRepository, guard: Guard) -> None:
        self._service = service
        self._repository = repository
        self._guard = guard

    async def page(
        self, subject: Subject, since: int | None, *, limit: int = 100, schema: str | None = None
    ) -> Page:
        """Return the changes after a revision.

        Args:
            subject: Whose.
            since: The newest revision that the client has; ``None`` where it has none.
            limit: The most changes to return.
            schema: The schema tag that the client has, if it knows one.

        Raises:
            UnavailableError: The database is out of reach.
        """
        if since is None or schema not in {None, self._service.schema.tag}:
            return await self._state(subject)
        log = await self._guard(self._repository.changes(subject, since, limit))
        if not log.complete:
            return await self._state(subject)
        changes = tuple(present(self._service.schema, change) for change in log.changes)
        revision = log.changes[-1].revision if log.changes else since
        return Page(since, revision, log.newest, log.newest, changes, log.has_more)

    async def _state(self, subject: Subject) -> Page:
        document = await self._service.documents.load(subject)
        snapshot = self._service.show_document(subject, document)
        revision = snapshot.revision
        return Page(revision, revision, revision, document.version, reset=snapshot)

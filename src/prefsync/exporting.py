"""What is kept of a subject, as JSON that its user can be given."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prefsync.document import Snapshot

if TYPE_CHECKING:
    from prefsync.document import Subject
    from prefsync.ports import Kept

__all__ = ["export_of"]


def export_of(subject: Subject, kept: Kept) -> dict[str, Any]:
    """Return all that is kept of a subject as one JSON object.

    Args:
        subject: Whose.
        kept: As the repository has it. Stored values only: defaults are not kept.
    """
    return {
        "user": subject.user,
        "tenant": subject.tenant,
        "revision": kept.document.revision,
        "created_at": _time(kept.created_at),
        "updated_at": _time(kept.updated_at),
        "values": kept.document.values,
        "revisions": kept.document.revisions,
        "changes": [
            {
                "revision": change.revision,
                "previous": change.previous,
                "at": _time(change.at),
                "origin": change.origin,
                "assigned": change.assigned,
                "unset": change.unset,
                "replaced": change.replaced,
            }
            for change in kept.changes
        ],
        "requests": [
            {
                "idempotency_key": request.key,
                "digest": request.digest.hex(),
                "at": _time(request.at),
                "answered": {"revision": answer.revision, "values": answer.values},
            }
            for request in kept.requests
            for answer in [Snapshot.decode(subject, request.answer)]
        ],
    }


def _time(at: int | None) -> str | None:
    """Write ms since 1970 as RFC 3339 has it."""
    if at is None:
        return None
    return datetime.fromtimestamp(at / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

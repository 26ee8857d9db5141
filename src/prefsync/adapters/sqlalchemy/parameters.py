"""What statements are given: subjects, documents, changes and claimed keys as columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefsync.strictjson import encode

if TYPE_CHECKING:
    from prefsync.document import Change, Subject
    from prefsync.ports import RequestRecord, Write

__all__ = ["change_parameters", "document_parameters", "key_of", "request_parameters"]


def key_of(subject: Subject) -> dict[str, Any]:
    """Return the parameters that name a subject."""
    return {"tenant": subject.tenant or "", "user": subject.user}


def document_parameters(subject: Subject, write: Write) -> dict[str, Any]:
    """Return the parameters of a document's row."""
    document = write.document
    return {
        **key_of(subject),
        "document": document.values_json.decode(),
        "revision": document.revision,
        "revisions": document.revisions_json.decode(),
        "expected": write.expected.revision,
        "at": write.change.at if write.change else 0,
    }


def change_parameters(subject: Subject, change: Change) -> dict[str, Any]:
    """Return the parameters of a change's row."""
    return {
        **key_of(subject),
        "revision": change.revision,
        "previous": change.previous,
        "patch": encode({"assigned": change.assigned, "unset": change.unset}).decode(),
        "replaced": encode(change.replaced).decode(),
        "origin": change.origin,
        "at": change.at,
    }


def request_parameters(subject: Subject, record: RequestRecord) -> dict[str, Any]:
    """Return the parameters of a claimed key's row."""
    return {
        **key_of(subject),
        "key": record.key,
        "digest": record.digest,
        "answer": record.answer,
        "at": record.at,
    }

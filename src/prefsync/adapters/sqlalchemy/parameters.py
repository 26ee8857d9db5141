"""What statements are given: subjects, documents, changes and claimed keys as columns."""

from __future__ import annotations

from binascii import b2a_base64
from typing import TYPE_CHECKING, Any

from prefsync.strictjson import encode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefsync.document import Change, Subject
    from prefsync.ports import RequestRecord, Write

__all__ = ["change_parameters", "document_parameters", "key_of", "request_parameters", "writes_parameters"]


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
        "patch": _patch_json(change).decode(),
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


def writes_parameters(writes: Iterable[tuple[Subject, Write]]) -> dict[str, Any]:
    """Return the parameters of changes that are stored together: one text, put together from JSON that is there."""
    rows = [_row_json(number, subject, write) for number, (subject, write) in enumerate(writes)]
    return {"writes": (b"[%b]" % b",".join(rows)).decode()}


def _row_json(number: int, subject: Subject, write: Write) -> bytes:
    document, changes = write.document, write.changes
    return (
        b'{"number":%d,"tenant":%b,"username":%b,"expected":%d,"revision":%d,"at":%d,"document":%b,"revisions":%b,'
        b'"changes":[%b]%b}'
    ) % (
        number,
        encode(subject.tenant or ""),
        encode(subject.user),
        write.expected.revision,
        document.revision,
        changes[-1].at,
        document.values_json,
        document.revisions_json,
        b",".join(map(_change_json, changes)),
        b"" if write.request is None else _claim_json(write.request),
    )


def _change_json(change: Change) -> bytes:
    return b'{"revision":%d,"previous":%d,"patch":%b,"replaced":%b,"origin":%b,"at":%d}' % (
        change.revision,
        change.previous,
        _patch_json(change),
        encode(change.replaced),
        encode(change.origin),
        change.at,
    )


def _claim_json(record: RequestRecord) -> bytes:
    return b',"key":%b,"digest":"%b","answer":"%b","claimed_at":%d' % (
        encode(record.key),
        b2a_base64(record.digest, newline=False),
        b2a_base64(record.answer, newline=False),
        record.at,
    )


def _patch_json(change: Change) -> bytes:
    return encode({"assigned": change.assigned, "unset": change.unset})

"""What is kept in memory takes about as much of it as its bound reckons with."""

from __future__ import annotations

import gc
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from prefsync.adapters.memory import MemoryCache
from prefsync.document import Document, Snapshot, Subject, footprint
from prefsync.http import HttpRequest
from prefsync.http.reading import answer_bytes
from prefsync.http.rendering import render_snapshot
from prefsync.models import OpenPreferences
from prefsync.ports import CacheEntry
from prefsync.schema import Schema
from prefsync.strictjson import encode

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = 3_000
"""So many that what other threads of the process allocate meanwhile is nothing beside them."""

FEW = 300
"""Of what is large."""


class Plugins(OpenPreferences, namespace="plugins"):
    """Anything."""


SCHEMA = Schema([Plugins])


def shown(subject: Subject, document: Document) -> Snapshot:
    """Return a document as a client sees it."""
    return Snapshot(subject, document.revision, SCHEMA.tag, SCHEMA.show(document), {"plugins": 7})


def bytes_of(make: Callable[[int], Any], count: int = COUNT) -> float:
    """Return the bytes that one of many objects takes."""
    make(0)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = [make(number) for number in range(count)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / len(kept)


@pytest.mark.parametrize("fields", [0, 5, 30, 300])
def test_documents(fields: int) -> None:
    """A document with all that is worked out of it takes what its bound reckons with, or less."""
    values = {"plugins": {f"field{n}": {"on": True, "size": n, "name": f"name {n}"} for n in range(fields)}}
    stored = Document(7, values, {"plugins": 7}).encode()

    def make(_: int) -> Document:
        document = Document.decode(stored)
        document.encode()
        SCHEMA.namespaces["plugins"].shown_of(document)
        document.has("plugins", {**values["plugins"]})
        return document

    taken, reckoned = bytes_of(make, FEW if fields > 5 else COUNT), footprint(len(encode(values)))
    assert reckoned / 3 < taken < reckoned * 1.1


@pytest.mark.parametrize("size", [10, 600, 6_000])
def test_rendered_answers(size: int) -> None:
    """So does an answer."""
    document = Document(7, {"plugins": {"text": size * "a"}}, {"plugins": 7})

    def make(number: int) -> Any:
        subject = Subject(f"user-{number}")
        rendered = render_snapshot(shown(subject, document), None)
        rendered.answer(HttpRequest("GET", "", b"", {}, "", None, None))  # type: ignore[arg-type]  # it has no body
        return subject.key, rendered

    subject = Subject("user")
    body = render_snapshot(shown(subject, document), None).body
    reckoned = answer_bytes(len(body))
    assert reckoned / 3 < bytes_of(make) < reckoned * 1.1


@pytest.mark.parametrize("size", [30, 600, 6_000])
def test_cached_entries(size: int) -> None:
    """So does an entry of the cache in memory: most users have stored nothing, and are many."""
    cache = MemoryCache()

    def make(number: int) -> None:
        cache.keep(Subject(f"user-{number}"), CacheEntry(1_795_412_345_123 + number, bytes(size)))

    taken = bytes_of(make)
    reckoned = cache._entries._bytes / len(cache._entries)
    assert reckoned / 3 < taken < reckoned * 1.1

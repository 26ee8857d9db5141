"""States as bytes: rendered once, kept with their version, compressed once for each coding."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from hashlib import blake2b
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from prefsync.http.coding import COMPRESSED_FROM, chosen, compress
from prefsync.http.messages import NOSNIFF, HttpResponse
from prefsync.strictjson import encode

if TYPE_CHECKING:
    from prefsync.channel import Update
    from prefsync.document import Snapshot
    from prefsync.effective import EffectiveChange
    from prefsync.feed import Page
    from prefsync.http.messages import HttpRequest

__all__ = [
    "VARY",
    "Rendered",
    "render_change",
    "render_client",
    "render_page",
    "render_snapshot",
    "render_ticket",
    "render_update",
]

VARY: Final = (b"vary", b"Authorization, Accept-Encoding")
_JSON: Final = (b"content-type", b"application/json")
_JAVASCRIPT: Final = (b"content-type", b"text/javascript; charset=utf-8")
_REVALIDATE: Final = (b"cache-control", b"private, no-cache")


class Rendered:
    """A representation, ready to be sent.

    Args:
        body: In full.
        etag: Its strong entity tag; ``None`` where it has none.
        headers: More of its headers.
        media: Its ``Content-Type``.
        vary: What else it depends on.
    """

    __slots__ = ("_coded_forms", "_media", "body", "etag", "headers")

    def __init__(
        self,
        body: bytes,
        etag: str | None,
        *headers: tuple[bytes, bytes],
        media: tuple[bytes, bytes] = _JSON,
        vary: tuple[bytes, bytes] = VARY,
    ) -> None:
        self.body = body
        self.etag = etag
        self.headers = [*headers, vary]
        self._media = media
        if etag is not None:
            self.headers.append((b"etag", etag.encode()))
        self._coded_forms: dict[str | None, tuple[bytes, list[tuple[bytes, bytes]]]] = {}

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Answer a request with this representation, compressed if the client likes."""
        body, headers = self.coded(request.headers.get(b"accept-encoding"))
        return HttpResponse(200, headers.copy(), b"" if request.method == "HEAD" else body)

    def not_modified(self) -> HttpResponse:
        """Answer that the client's copy is still good (RFC 9110, section 15.4.5)."""
        return HttpResponse(304, self.headers.copy())

    def coded(self, accepted: bytes | None) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """Return body and headers, compressed if the client likes.

        Args:
            accepted: Its ``Accept-Encoding``.
        """
        coding = chosen(accepted.decode("latin-1")) if accepted and len(self.body) > COMPRESSED_FROM else None
        held = self._coded_forms.get(coding)
        if held is None:
            body = compress(coding, self.body) if coding else self.body
            headers = [self._media, (b"content-length", b"%d" % len(body)), NOSNIFF, *self.headers]
            if coding:
                headers.append((b"content-encoding", coding.encode()))
            held = self._coded_forms[coding] = (body, headers)
        return held


def render_snapshot(snapshot: Snapshot, namespace: str | None) -> Rendered:
    """Render a state as ``GET`` of its path shows it.

    Args:
        snapshot: The state.
        namespace: Which namespace; ``None`` for all of them.
    """
    if namespace is None:
        shown: Any = {"revision": snapshot.revision, "schema": snapshot.schema, "values": snapshot.values}
        revision = snapshot.revision
    else:
        shown = snapshot.values[namespace]
        revision = snapshot.revisions[namespace]
    body = encode(shown)
    # The body is part of the digest, so that different bodies have different tags whatever else is forgotten here; the
    # revision, so that a namespace that was changed and changed back has moved.
    basis = f"{snapshot.subject.key}\n{namespace or ''}\n{revision}\n{snapshot.schema}\n".encode()
    tag = urlsafe_b64encode(blake2b(basis + body, digest_size=15).digest()).decode()
    return Rendered(body, f'"{tag}"', (b"prefsync-revision", b"%d" % snapshot.revision), _REVALIDATE)


def render_schema(schema: dict[str, Any]) -> Rendered:
    """Render the JSON Schema."""
    body = encode(schema)
    tag = urlsafe_b64encode(blake2b(body, digest_size=15).digest()).decode()
    return Rendered(body, f'"{tag}"', _REVALIDATE)


def render_client() -> Rendered:
    """Render the browser client, the same for everybody."""
    body = (files("prefsync") / "web" / "client.js").read_bytes()
    tag = urlsafe_b64encode(blake2b(body, digest_size=15).digest()).decode()
    # Pages that import it ask again after a release, and not at each visit.
    caching = (b"cache-control", b"public, max-age=600")
    return Rendered(body, f'"{tag}"', caching, media=_JAVASCRIPT, vary=(b"vary", b"Accept-Encoding"))


def render_page(page: Page, schema: str) -> Rendered:
    """Render a page of the change feed."""
    shown: dict[str, Any] = {
        "revision": page.revision,
        "schema": schema,
        "reset": page.reset is not None,
        "has_more": page.has_more,
        "changes": [render_change(change) for change in page.changes],
    }
    if page.reset is not None:
        shown["values"] = page.reset.values
    newest = (b"prefsync-revision", b"%d" % page.newest)
    return Rendered(encode(shown), None, newest, (b"cache-control", b"no-store"))


def render_change(change: EffectiveChange) -> dict[str, Any]:
    """Render one change."""
    logged = change.change
    return {
        "revision": logged.revision,
        "previous": logged.previous,
        "at": _timestamp(logged.at),
        "origin": logged.origin,
        "changed": change.changed,
        "removed": change.removed,
    }


def render_ticket(ticket: str, life: int) -> HttpResponse:
    """Answer with a ticket.

    Args:
        ticket: The ticket.
        life: Seconds that it is good for.
    """
    body = encode({"ticket": ticket, "expires_in": life})
    length = (b"content-length", b"%d" % len(body))
    return HttpResponse(200, [_JSON, length, NOSNIFF, (b"cache-control", b"no-store"), VARY], body)


def render_update(update: Update) -> bytes:
    """Render what a session is told: a change, or the state that replaces everything."""
    if update.change is not None:
        return encode(render_change(update.change))
    snapshot = update.snapshot
    if snapshot is None:
        raise TypeError("an update holds a change or a snapshot")
    return encode({"revision": snapshot.revision, "schema": snapshot.schema, "values": snapshot.values})


def _timestamp(milliseconds: int) -> str:
    """Write a time as RFC 3339 does, in UTC, with milliseconds."""
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"

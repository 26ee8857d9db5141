"""Reading documents over HTTP: rendered once, and answered at once where nobody has to be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prefsync.errors import InsufficientScopeError
from prefsync.http.conditions import Conditions
from prefsync.http.messages import HttpResponse
from prefsync.http.parameters import minimum_revision
from prefsync.http.rendering import Rendered, render_snapshot
from prefsync.recent import Recent

if TYPE_CHECKING:
    from prefsync.caching import Found, Lookup
    from prefsync.document import Document, Identity, Subject
    from prefsync.http.admission import Admission
    from prefsync.http.https import HttpsOnly
    from prefsync.http.messages import HttpRequest
    from prefsync.service import PreferenceService

__all__ = ["RENDERED_BYTES", "Reader", "answer_bytes"]

RENDERED_BYTES: Final = 16 * 1024 * 1024
"""Rendered answers are kept as long as nothing newer was seen, within this many bytes."""

# What has to be looked at before a read can be answered.
_MORE_WISHES: Final = frozenset({b"if-match", b"prefsync-min-revision"})


class Reader:
    """Answers reads.

    Args:
        service: Reads.
        admission: Finds out who calls, and counts.
        scope: What a token must allow.
        https_only: Refuses plain HTTP, where the host wants that.
        rendered_bytes: How much of what was rendered is kept for those who ask again.

    Attributes:
        answers_at_once: Whether there is anything that :meth:`answer_at_once` could answer.
    """

    def __init__(
        self,
        service: PreferenceService,
        admission: Admission,
        scope: str,
        https_only: HttpsOnly | None,
        rendered_bytes: int,
    ) -> None:
        self._service = service
        self._admission = admission
        self._scope = scope
        self._https_only = https_only
        is_ready = service.documents.is_near and admission.quotas.reads.is_ready
        self._at_hand = service.documents.at_hand if is_ready else None
        self.answers_at_once = is_ready
        self._paths: dict[str, str | None] = {"": None, "/": None}
        self._paths |= {f"/{name}": name for name in service.schema.namespaces}
        self._rendered: Recent[tuple[int, Rendered]] = Recent(rendered_bytes)
        service.documents.on_forgotten.append(self._forget)

    async def read(
        self, request: HttpRequest, identity: Identity, lookup: Lookup | None = None
    ) -> HttpResponse:
        """Answer a read.

        Args:
            request: The request, counted already.
            identity: Who calls.
            lookup: What the cache was asked, where it was.

        Raises:
            InsufficientScopeError: The caller may not read.
            MalformedError: A condition or a minimum revision is none.
            PreconditionFailedError: The state is another than was asked for.
            UnavailableError: Neither cache nor database can answer.
        """
        if not identity.may(self._scope):
            raise InsufficientScopeError(self._scope)
        headers = request.headers
        conditions = Conditions(headers) if b"if-none-match" in headers or b"if-match" in headers else None
        at_least = minimum_revision(request)
        found = await self._service.find(identity.subject, at_least=at_least, lookup=lookup)
        return self._show(request, identity, found, conditions)

    def ready(self, request: HttpRequest) -> HttpResponse | None:
        """Return the answer to a read for which nobody has to be asked, or ``None``: see :meth:`answer_at_once`."""
        return self.answer_at_once(
            request.method, request.path, request.query, request.headers, is_encrypted=request.is_encrypted
        )

    def answer_at_once(
        self, method: str, path: str, query: bytes, headers: dict[bytes, bytes], *, is_encrypted: bool
    ) -> HttpResponse | None:
        """Return the answer to a read for which nobody has to be asked, which nothing of what follows would change.

        Its token is known, a permit is at hand, its document is near, and it wishes no more than to be spared what it has
        (one tag in ``If-None-Match``). A mount asks before it makes a request of what has come, which costs as much as the
        answer.

        Args:
            method: As in ``HttpRequest``.
            path: The same.
            query: The same.
            headers: The same.
            is_encrypted: The same.
        """
        at_hand, https_only = self._at_hand, self._https_only
        if at_hand is None or method != "GET" or query or path not in self._paths:
            return None
        if not _MORE_WISHES.isdisjoint(headers) or (https_only is not None and not is_encrypted):
            return None
        identity = self._admission.recall(headers)
        document = at_hand(identity.subject) if identity and identity.may(self._scope) else None
        if identity is None or document is None:
            return None
        rendered = self._render(identity.subject, self._paths[path], document)
        seen = headers.get(b"if-none-match")
        is_seen = seen is not None and seen.decode("latin-1") == rendered.etag
        told = self._admission.quotas.reads.take(identity.subject.key) if is_seen or seen is None else None
        if told is None:
            return None
        self._admission.telemetry.cache_read("near")
        if https_only is not None:
            told += https_only.told(is_encrypted=True)
        if is_seen:
            return HttpResponse(304, rendered.headers + told)
        body, shown = rendered.coded(headers.get(b"accept-encoding"))
        return HttpResponse(200, shown + told, body)

    def _show(
        self, request: HttpRequest, identity: Identity, found: Found, conditions: Conditions | None
    ) -> HttpResponse:
        rendered = self._render(identity.subject, request.path.removeprefix("/") or None, found.document)
        if conditions is not None and rendered.etag is not None:
            conditions.check_match(rendered.etag)
        if conditions is not None and rendered.etag is not None and conditions.names(rendered.etag):
            response = rendered.not_modified()
        else:
            response = rendered.answer(request)
        if found.stale:
            response.headers.append((b"prefsync-stale", b"true"))
        return response

    def _render(self, subject: Subject, namespace: str | None, document: Document) -> Rendered:
        key = (subject.key, namespace)
        held = self._rendered.get(key)
        if held is not None and held[0] == document.version:
            return held[1]
        rendered = render_snapshot(self._service.show_document(subject, document), namespace)
        # What was erased while this reader was on its way must not come back into memory.
        is_outdated = self._service.documents.is_outdated(subject, document)
        if (held is None or held[0] < document.version) and not is_outdated:
            self._rendered.put(key, (document.version, rendered), answer_bytes(len(rendered.body)))
        return rendered

    def _forget(self, subject: Subject) -> None:
        for namespace in (None, *self._service.schema.namespaces):
            self._rendered.drop((subject.key, namespace))


def answer_bytes(length: int) -> int:
    """Return how many bytes a rendered answer takes in memory, about.

    Args:
        length: Of its body, in bytes.
    """
    return 1_250 + length

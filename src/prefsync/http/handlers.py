"""The protocol's operations over HTTP (protocol.md section 2)."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Final, TypeVar

import anyio

from prefsync.caching import Recent
from prefsync.errors import (
    InsufficientScopeError,
    MalformedError,
    PreconditionRequiredError,
    PrefsyncError,
    UnauthenticatedError,
    UndeclaredNamespaceError,
)
from prefsync.http.admission import TICKET_LIFE, Admission
from prefsync.http.bodies import mutation_from, read_json
from prefsync.http.conditions import Conditions
from prefsync.http.events import EventStreams
from prefsync.http.messages import ClientGoneError, HttpRequest, HttpResponse
from prefsync.http.parameters import (
    KEY,
    ORIGIN,
    matching,
    minimum_revision,
    number,
    query_of,
    refuse_token_in,
    seconds,
)
from prefsync.http.problems import ForbiddenMethodError, answer
from prefsync.http.rendering import Rendered, render_page, render_schema, render_snapshot, render_ticket
from prefsync.http.sockets import WebSockets
from prefsync.http.writing import Writer, digest
from prefsync.merge import Mutation, Reset
from prefsync.service import IdempotentRequest
from prefsync.strictjson import MAX_INTEGER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from prefsync.clock import Clock
    from prefsync.document import Document, Identity, Snapshot, Subject
    from prefsync.http.messages import PushTransport, Socket
    from prefsync.http.options import ApiOptions
    from prefsync.polling import LongPolls
    from prefsync.ports import CacheEntry
    from prefsync.service import PreferenceService
    from prefsync.session import Sessions

__all__ = ["DOCUMENT_METHODS", "SOCKET_IO_PATHS", "PreferencesApi"]

T = TypeVar("T")

DOCUMENT_METHODS: Final = ("GET", "HEAD", "PUT", "PATCH", "DELETE")
_READ_METHODS: Final = ("GET", "HEAD")

# Its clients can be told to leave out the slash at the end.
SOCKET_IO_PATHS: Final = frozenset({"/socket.io/", "/socket.io"})

LONGEST_WAIT: Final = 60.0
MOST_CHANGES: Final = 1_000
USUAL_CHANGES: Final = 100

# Rendered answers are kept as long as nothing newer was seen, within this many bytes.
_RENDERED_BYTES: Final = 16 * 1024 * 1024


class PreferencesApi:
    """Answers requests; every mount has one.

    Args:
        service: Reads and writes.
        polls: Tells changes.
        sessions: Whoever is told them as they come.
        admission: Finds out who calls, and counts.
        clock: For expiry.
        options: What the host has settled.
        allowed_origins: Whose pages may open a WebSocket, besides the app's own.

    Attributes:
        options: What the host has settled.
        sockets: Serves WebSockets.
        socket_io: Serves Socket.IO, where the host asks for it.
    """

    def __init__(
        self,
        service: PreferenceService,
        polls: LongPolls,
        sessions: Sessions,
        admission: Admission,
        clock: Clock,
        options: ApiOptions,
        allowed_origins: Collection[str] = (),
    ) -> None:
        self.options = options
        self._service = service
        self._polls = polls
        self._admission = admission
        self._clock = clock
        self._schema_answer = render_schema(service.schema.json_schema)
        self._rendered: Recent[tuple[int, Rendered]] = Recent(_RENDERED_BYTES)
        self._events = EventStreams(sessions)
        writer = Writer(service, admission, options)
        self.sockets = WebSockets(sessions, admission, writer, options, clock, allowed_origins)
        self.socket_io: PushTransport | None = None

    async def handle(self, request: HttpRequest, identity: Identity | None = None) -> HttpResponse:
        """Answer a request.

        Args:
            request: As the mount translated it.
            identity: Who calls, where the host's own authentication has found out.

        Raises:
            ClientGoneError: The client went away; there is nobody to answer.
        """
        if self.socket_io is not None and request.path in SOCKET_IO_PATHS:
            return await self.socket_io.handle(request)
        limit_headers: list[tuple[bytes, bytes]] = []
        try:
            response = await self._answer(request, identity, limit_headers)
        except PrefsyncError as error:
            response = answer(error)
            if request.method == "HEAD":
                response.body = b""
        response.headers += limit_headers
        return response

    async def connect(self, socket: Socket, identity: Identity | None = None) -> None:
        """Serve a WebSocket until it ends.

        Args:
            socket: As the mount hands it over.
            identity: Who calls, where the host's own authentication has found out.
        """
        path = socket.request.path
        if path == "/ws":
            await self.sockets.serve(socket, identity)
        elif self.socket_io is not None and path in SOCKET_IO_PATHS:
            await self.socket_io.connect(socket)
        else:
            await socket.refuse(answer(UndeclaredNamespaceError("this path does not speak WebSocket")))

    async def authenticate(self, request: HttpRequest) -> Identity:
        """Return who calls, by the bearer token of a request.

        Raises:
            UnauthenticatedError: There is no token, or it is not good.
            RateLimitedError: Too many bad ones came from this address.
        """
        headers: list[tuple[bytes, bytes]] = []
        return await self._admission.identify(request, headers)

    async def _answer(
        self, request: HttpRequest, identity: Identity | None, limit_headers: list[tuple[bytes, bytes]]
    ) -> HttpResponse:
        if identity is None:
            try:
                identity = await self._identify(request, limit_headers)
            except UnauthenticatedError:
                refuse_token_in(request)
                raise
        operation = self._route(request)
        # Asked before the limiter is awaited: both questions then travel together.
        lookup = self._service.documents.lookup(identity.subject) if operation == self._read else None
        try:
            await self._admission.count(identity.subject, limit_headers)
            refuse_token_in(request)
            if lookup is not None:
                return await self._read(request, identity, lookup)
            return await operation(request, identity)
        finally:
            if inspect.iscoroutine(lookup):
                lookup.close()  # where it was never awaited; does nothing where it was

    async def _identify(self, request: HttpRequest, limit_headers: list[tuple[bytes, bytes]]) -> Identity:
        if (
            request.path == "/events"
            and b"authorization" not in request.headers
            and b"ticket=" in request.query
        ):
            ticket = query_of(request).get("ticket")
            if ticket is not None:
                return await self._admission.redeem(ticket, request.client, limit_headers)
        return await self._admission.identify(request, limit_headers)

    def has_documents_at(self, path: str) -> bool:
        """Tell whether a path below the prefix is that of the document or of a namespace."""
        name = path.removeprefix("/")
        return name == "" or name in self._service.schema.namespaces

    def _route(self, request: HttpRequest) -> Callable[[HttpRequest, Identity], Awaitable[HttpResponse]]:
        """Return what answers a request, an error included: one that is refused counts too."""
        name = request.path.removeprefix("/")
        if self.has_documents_at(request.path):
            if request.method in _READ_METHODS:
                return self._read
            if request.method in DOCUMENT_METHODS:
                return self._write
            return _refusing(ForbiddenMethodError(DOCUMENT_METHODS))
        found = {
            "schema": (self._read_schema, _READ_METHODS),
            "changes": (self._read_changes, _READ_METHODS),
            "events": (self._read_events, _READ_METHODS),
            "ticket": (self._issue_ticket, ("POST",)),
            "ws": (_upgrade, ("GET",)),
        }.get(name)
        if found is None:
            message = f"there is nothing at {request.path[:128]!r}"
            return _refusing(UndeclaredNamespaceError(message))
        operation, methods = found
        return operation if request.method in methods else _refusing(ForbiddenMethodError(methods))

    def _require(self, identity: Identity, scope: str) -> None:
        if not identity.may(scope):
            raise InsufficientScopeError(scope)

    # --- Documents ---------------------------------------------------------------------------------------------------

    async def _read(
        self, request: HttpRequest, identity: Identity, lookup: Awaitable[CacheEntry | None] | None = None
    ) -> HttpResponse:
        self._require(identity, self.options.read_scope)
        conditions = (
            Conditions(request)
            if b"if-none-match" in request.headers or b"if-match" in request.headers
            else None
        )
        at_least = minimum_revision(request)
        found = await self._service.find(identity.subject, at_least=at_least, lookup=lookup)
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
        if held is None or held[0] < document.version:
            self._rendered.put(key, (document.version, rendered), len(rendered.body))
        return rendered

    async def _write(self, request: HttpRequest, identity: Identity) -> HttpResponse:
        self._require(identity, self.options.write_scope)
        namespace = request.path.removeprefix("/") or None
        conditions = Conditions(request)
        if conditions.if_match is None and self.options.require_if_match:
            raise PreconditionRequiredError(
                "writes need If-Match here: send the ETag of the state that the change was made upon"
            )
        origin = matching(request, b"prefsync-client", ORIGIN, "1 to 64 of A-Z a-z 0-9 . _ -")
        key = matching(request, b"idempotency-key", KEY, "1 to 128 visible ASCII characters; use a UUID")
        mutation, idempotent = await self._requested(request, identity, namespace, key)

        def condition(snapshot: Snapshot) -> None:
            tag = render_snapshot(snapshot, namespace).etag
            conditions.check(tag or "")

        snapshot = await self._service.write(
            identity.subject,
            mutation,
            condition=condition if conditions else None,
            request=idempotent,
            origin=origin,
        )
        return render_snapshot(snapshot, namespace).answer(request)

    async def _requested(
        self, request: HttpRequest, identity: Identity, namespace: str | None, key: str | None
    ) -> tuple[Mutation, IdempotentRequest | None]:
        """Return what a request is to do. The body ends here: most of it need not be kept while others are waited for."""
        schema, limits = self._service.schema, self._service.limits
        method, body = request.method, None
        if method == "DELETE":
            mutation = Mutation.reset_all(schema) if namespace is None else Mutation({namespace: Reset()})
        else:
            body = await read_json(request, limits)
            known = self._service.documents.recall(identity.subject)
            mutation = mutation_from(method, namespace, body, schema, limits, known)
        return mutation, None if key is None else IdempotentRequest(key, digest(method, namespace, body))

    # --- Schema and changes ------------------------------------------------------------------------------------------

    async def _read_schema(self, request: HttpRequest, identity: Identity) -> HttpResponse:
        self._require(identity, self.options.read_scope)
        etag = self._schema_answer.etag
        conditions = Conditions(request)
        if etag is not None and conditions:
            conditions.check_match(etag)
            if conditions.names(etag):
                return self._schema_answer.not_modified()
        return self._schema_answer.answer(request)

    async def _read_changes(self, request: HttpRequest, identity: Identity) -> HttpResponse:
        self._require(identity, self.options.read_scope)
        query = query_of(request)
        since = number(query, "since", 0, MAX_INTEGER)
        limit = number(query, "limit", 1, MOST_CHANGES, USUAL_CHANGES)
        wait = seconds(query, "wait", LONGEST_WAIT)
        if identity.expires_at is not None:
            wait = min(wait, max(0.0, identity.expires_at - self._clock.now() / 1000))
        poll = self._polls.page(
            identity.subject,
            since,
            wait=0 if request.method == "HEAD" else wait,
            limit=limit,
            schema=query.get("schema"),
        )
        page = await (_unless_gone(request, poll) if wait else poll)
        return render_page(page, self._service.schema.tag).answer(request)

    async def _read_events(self, request: HttpRequest, identity: Identity) -> HttpResponse:
        self._require(identity, self.options.read_scope)
        return self._events.answer(request, identity)

    async def _issue_ticket(self, request: HttpRequest, identity: Identity) -> HttpResponse:
        del request  # whatever its body says
        self._require(identity, self.options.read_scope)
        return render_ticket(await self._admission.issue_ticket(identity), TICKET_LIFE)


async def _upgrade(_request: HttpRequest, _identity: Identity) -> HttpResponse:
    raise MalformedError("this path speaks WebSocket: send an upgrade (RFC 6455)")


async def _unless_gone(request: HttpRequest, work: Awaitable[T]) -> T:
    """Return what something that takes long returns, but stop it when nobody waits for it any more.

    Raises:
        ClientGoneError: The client went away.
    """
    results: list[T] = []
    refusals: list[PrefsyncError] = []

    async def run() -> None:
        try:
            results.append(await work)
        except PrefsyncError as error:
            refusals.append(error)  # carried out by hand: a task group would wrap it in an exception group
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await request.gone()
        tasks.cancel_scope.cancel()
    if refusals:
        raise refusals[0]
    if not results:
        raise ClientGoneError
    return results[0]


def _refusing(error: PrefsyncError) -> Callable[[HttpRequest, Identity], Awaitable[HttpResponse]]:
    async def refuse(_request: HttpRequest, _identity: Identity) -> HttpResponse:
        raise error

    return refuse

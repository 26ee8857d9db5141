"""The protocol's operations over HTTP (protocol.md section 2)."""

from __future__ import annotations

from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Final

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
from prefsync.http.conditions import Conditions, conditionally
from prefsync.http.events import EventStreams
from prefsync.http.leaving import unless_gone
from prefsync.http.origins import check_origin_of_credentials
from prefsync.http.parameters import (
    KEY,
    ORIGIN,
    matching,
    number,
    query_of,
    refuse_token_in,
    seconds,
)
from prefsync.http.problems import ForbiddenMethodError
from prefsync.http.reading import RENDERED_BYTES, Reader
from prefsync.http.rendering import (
    render_client,
    render_page,
    render_schema,
    render_snapshot,
    render_ticket,
)
from prefsync.http.sockets import WebSockets
from prefsync.http.writing import Writer, digest
from prefsync.merge import Mutation, Reset
from prefsync.service import IdempotentRequest
from prefsync.strictjson import MAX_INTEGER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from prefsync.clock import Clock
    from prefsync.document import Identity, Snapshot
    from prefsync.http.https import HttpsOnly
    from prefsync.http.messages import HttpRequest, HttpResponse, PushTransport, Socket
    from prefsync.http.options import ApiOptions
    from prefsync.http.quotas import Headers
    from prefsync.polling import LongPolls
    from prefsync.service import PreferenceService
    from prefsync.sessions import Sessions

__all__ = ["CLIENT_PATH", "DOCUMENT_METHODS", "SOCKET_IO_PATHS", "PreferencesApi"]

DOCUMENT_METHODS: Final = ("GET", "HEAD", "PUT", "PATCH", "DELETE")
_READ_METHODS: Final = ("GET", "HEAD")

# Its clients can be told to leave out the slash at the end.
_EVENTS_PATH: Final = "/events"
_SOCKET_PATH: Final = "/ws"
SOCKET_IO_PATHS: Final = frozenset({"/socket.io/", "/socket.io"})

# Where the browser client is, for whoever asks.
CLIENT_PATH: Final = "/client.js"

LONGEST_WAIT: Final = 60.0
# Letters of a path that are compared with the names of namespaces, which have 64 at most.
_LONGEST_NAME: Final = 64

MOST_CHANGES: Final = 1_000
USUAL_CHANGES: Final = 100


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
        https_only: Refuses plain HTTP, where the host wants that.
        rendered_bytes: How much of what was rendered is kept for those who ask again.

    Attributes:
        options: What the host has settled.
        admission: Finds out who calls, and answers whoever may not.
        https_only: The same.
        reader: Reads, at once where that can be.
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
        https_only: HttpsOnly | None = None,
        rendered_bytes: int = RENDERED_BYTES,
    ) -> None:
        self.options = options
        self.https_only = https_only
        self._service = service
        self._polls = polls
        self.admission = admission
        self._clock = clock
        self._namespaces = tuple(service.schema.namespaces)
        self._schema_answer = render_schema(service.schema.json_schema)
        self._client_answer = render_client()
        self.reader = Reader(service, admission, options.read_scope, https_only, rendered_bytes)
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
        if identity is None and (ready := self.reader.ready(request)) is not None:
            return ready
        headers: Headers = []
        try:
            if self.https_only is not None:
                headers += self.https_only.check(request)
            if self.socket_io is not None and request.path in SOCKET_IO_PATHS:
                response = await self.socket_io.handle(request)
            else:
                response = await self._answer(request, identity, headers)
        except PrefsyncError as error:
            response = self.admission.refuse(error)
            if request.method == "HEAD":
                response.body = b""
        response.headers += headers
        return response

    def connect(self, socket: Socket, identity: Identity | None = None) -> Awaitable[None]:
        """Serve a WebSocket; what is returned lasts until it ends.

        Args:
            socket: As the mount hands it over.
            identity: Who calls, where the host's own authentication has found out.
        """
        if (refusal := self.refusal(socket.request)) is not None:
            return socket.refuse(refusal)
        path, told = socket.request.path, self.told(is_encrypted=socket.request.is_encrypted)
        if path == _SOCKET_PATH:
            return self.sockets.serve(socket, identity, told)
        if self.socket_io is not None and path in SOCKET_IO_PATHS:
            return self.socket_io.connect(socket, told)
        nothing = self.admission.refuse(UndeclaredNamespaceError("this path does not speak WebSocket"))
        nothing.headers += told
        return socket.refuse(nothing)

    async def authenticate(self, request: HttpRequest) -> Identity:
        """Return who calls, by the bearer token of a request.

        Raises:
            HttpsRequiredError: It came over plain HTTP, which the host refuses.
            UnauthenticatedError: There is no token, or it is not good.
            RateLimitedError: Too many bad ones came from this address.
        """
        if self.https_only is not None:
            self.https_only.check(request)
        return await self.admission.identify(request, [])

    def refusal(self, request: HttpRequest) -> HttpResponse | None:
        """Return the answer to a request that is refused for how it came, before anybody asks from whom."""
        if self.https_only is None:
            return None
        try:
            self.https_only.check(request)
        except PrefsyncError as error:
            return self.admission.refuse(error)
        return None

    def told(self, *, is_encrypted: bool) -> Headers:
        """Return what every answer tells to a request that came so."""
        return [] if self.https_only is None else self.https_only.told(is_encrypted=is_encrypted)

    async def _answer(
        self, request: HttpRequest, identity: Identity | None, limit_headers: Headers
    ) -> HttpResponse:
        if request.path == CLIENT_PATH:
            refuse_token_in(request)
            return self._read_client(request)
        identity = identity or self.admission.recall(request.headers)
        if identity is None:
            try:
                identity = await self._identify(request, limit_headers)
            except UnauthenticatedError:
                refuse_token_in(request)
                raise
        operation = self._route(request)
        is_read, quotas = operation == self.reader.read, self.admission.quotas
        quota = quotas.reads if is_read else quotas.of_request(request.method, request.path)
        # Asked before the limiter is awaited: both questions then travel together.
        lookup = None
        if is_read and self._service.documents.near(identity.subject) is None:
            lookup = self._service.documents.lookup(identity.subject)
        try:
            if (told := quota.take(identity.subject.key)) is None:
                await quota.count(identity.subject.key, limit_headers)
            else:
                limit_headers += told
            refuse_token_in(request)
            if lookup is not None:
                return await self.reader.read(request, identity, lookup)
            return await operation(request, identity)
        finally:
            if lookup is not None:
                lookup.close()

    async def _identify(self, request: HttpRequest, limit_headers: Headers) -> Identity:
        if (
            request.path == _EVENTS_PATH
            and b"authorization" not in request.headers
            and b"ticket=" in request.query
        ):
            ticket = query_of(request).get("ticket")
            if ticket is not None:
                return await self.admission.redeem(ticket, request.client, limit_headers)
        return await self.admission.identify(request, limit_headers)

    def goes_by_path(self, method: str, path: str) -> bool:
        """Tell whether requests at a path below the prefix are many: for documents, or for the stream of events."""
        return self.has_documents_at(method, path) or (method == "GET" and path == _EVENTS_PATH)

    def has_documents_at(self, method: str, path: str) -> bool:
        """Tell whether a request at a path below the prefix is for the document or a namespace."""
        return method in DOCUMENT_METHODS and self._has_documents_at(path)

    def _has_documents_at(self, path: str) -> bool:
        """Tell whether a path below the prefix is that of the document or of a namespace."""
        name = path.removeprefix("/")
        return name == "" or name in self._service.schema.namespaces

    def has_sockets_at(self, path: str) -> bool:
        """Tell whether WebSockets are served at a path below the prefix."""
        return path == _SOCKET_PATH or (self.socket_io is not None and path in SOCKET_IO_PATHS)

    def _route(self, request: HttpRequest) -> Callable[[HttpRequest, Identity], Awaitable[HttpResponse]]:
        """Return what answers a request, an error included: one that is refused counts too."""
        name = request.path.removeprefix("/")
        if self._has_documents_at(request.path):
            if request.method in _READ_METHODS:
                return self.reader.read
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
            return self._find_nothing
        operation, methods = found
        return operation if request.method in methods else _refusing(ForbiddenMethodError(methods))

    async def _find_nothing(self, request: HttpRequest, identity: Identity) -> HttpResponse:
        """Refuse, and name the namespace that was probably meant to whoever may read the schema."""
        message = f"there is nothing at {request.path[:128]!r}"
        if identity.may(self.options.read_scope):
            name = request.path.removeprefix("/")[:_LONGEST_NAME].lower()
            close = get_close_matches(name, self._namespaces, n=1)
            message += f"; did you mean '/{close[0]}'?" if close else ""
        raise UndeclaredNamespaceError(message)

    def _require(self, identity: Identity, scope: str) -> None:
        if not identity.may(scope):
            raise InsufficientScopeError(scope)

    # --- Documents ---------------------------------------------------------------------------------------------------

    async def _write(self, request: HttpRequest, identity: Identity) -> HttpResponse:
        self._require(identity, self.options.write_scope)
        namespace = request.path.removeprefix("/") or None
        conditions = Conditions(request.headers)
        if conditions.if_match is None and self.options.require_if_match:
            raise PreconditionRequiredError(
                "writes need If-Match here: send the ETag of the state that the change was made upon"
            )
        origin = matching(request, b"prefsync-client", ORIGIN, "1 to 64 of A-Z a-z 0-9 . _ -")
        key = matching(request, b"idempotency-key", KEY, "1 to 128 visible ASCII characters; use a UUID")
        mutation, idempotent = await self._requested(request, identity, namespace, key)

        snapshot = await self._service.write(
            identity.subject,
            mutation,
            condition=partial(_check, conditions, namespace) if conditions else None,
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

    # --- Client, schema and changes ----------------------------------------------------------------------------------

    def _read_client(self, request: HttpRequest) -> HttpResponse:
        if request.method not in _READ_METHODS:
            raise ForbiddenMethodError(_READ_METHODS)
        return conditionally(self._client_answer, request)

    async def _read_schema(self, request: HttpRequest, identity: Identity) -> HttpResponse:
        self._require(identity, self.options.read_scope)
        return conditionally(self._schema_answer, request)

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
        page = await (unless_gone(request, poll) if wait else poll)
        return render_page(page, self._service.schema.tag).answer(request)

    async def _read_events(self, request: HttpRequest, identity: Identity) -> HttpResponse:
        self._require(identity, self.options.read_scope)
        return self._events.answer(request, identity)

    async def _issue_ticket(self, request: HttpRequest, identity: Identity) -> HttpResponse:
        check_origin_of_credentials(request, self.sockets.allowed_origins)
        self._require(identity, self.options.read_scope)
        return render_ticket(await self.admission.issue_ticket(identity), TICKET_LIFE)


async def _upgrade(_request: HttpRequest, _identity: Identity) -> HttpResponse:
    raise MalformedError("this path speaks WebSocket: send an upgrade (RFC 6455)")


def _check(conditions: Conditions, namespace: str | None, snapshot: Snapshot) -> None:
    conditions.check(render_snapshot(snapshot, namespace).etag or "")


def _refusing(error: PrefsyncError) -> Callable[[HttpRequest, Identity], Awaitable[HttpResponse]]:
    async def refuse(_request: HttpRequest, _identity: Identity) -> HttpResponse:
        raise error

    return refuse

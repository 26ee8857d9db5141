"""The protocol's operations over HTTP (protocol.md section 2)."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import parse_qsl

import anyio

from prefsync.caching import Recent
from prefsync.errors import (
    InsufficientScopeError,
    MalformedError,
    PreconditionRequiredError,
    PrefsyncError,
    RateLimitedError,
    UnauthenticatedError,
    UndeclaredNamespaceError,
)
from prefsync.http.bodies import mutation_from, read_json
from prefsync.http.conditions import Conditions
from prefsync.http.messages import ClientGoneError, HttpRequest, HttpResponse
from prefsync.http.problems import ForbiddenMethodError, answer
from prefsync.http.rendering import Rendered, render_page, render_schema, render_snapshot
from prefsync.merge import Mutation, Reset
from prefsync.service import IdempotentRequest
from prefsync.strictjson import MAX_INTEGER, digestible

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prefsync.clock import Clock
    from prefsync.document import Document, Identity, Snapshot, Subject
    from prefsync.feed import ChangeFeed
    from prefsync.ports import CacheEntry, Permit, RateLimiter, TokenVerifier
    from prefsync.service import PreferenceService

__all__ = ["ApiOptions", "PreferencesApi"]

T = TypeVar("T")

_DOCUMENT_METHODS: Final = ("GET", "HEAD", "PUT", "PATCH", "DELETE")
_READ_METHODS: Final = ("GET", "HEAD")

_ORIGIN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEY: Final = re.compile(r"[\x21-\x7e]{1,128}")
_REVISION: Final = re.compile(r"[0-9]{1,16}")
_SECONDS: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,9})?")

LONGEST_WAIT: Final = 60.0
MOST_CHANGES: Final = 1_000
USUAL_CHANGES: Final = 100

# Rendered answers are kept as long as nothing newer was seen, within this many bytes.
_RENDERED_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """What a host can settle about the protocol.

    Attributes:
        read_scope: The scope that reading needs.
        write_scope: The scope that writing needs.
        require_if_match: Whether a write without ``If-Match`` is refused.
    """

    read_scope: str = "preferences:read"
    write_scope: str = "preferences:write"
    require_if_match: bool = False


class PreferencesApi:
    """Answers requests; every mount has one.

    Args:
        service: Reads and writes.
        feed: Tells changes.
        limiter: Counts requests.
        verifier: Verifies tokens; ``None`` where the host authenticates by its own means.
        clock: For expiry.
        options: What the host has settled.
    """

    def __init__(
        self,
        service: PreferenceService,
        feed: ChangeFeed,
        limiter: RateLimiter,
        verifier: TokenVerifier | None,
        clock: Clock,
        options: ApiOptions | None = None,
    ) -> None:
        self.options = options or ApiOptions()
        self._service = service
        self._feed = feed
        self._limiter = limiter
        self._verifier = verifier
        self._clock = clock
        self._schema_answer = render_schema(service.schema.json_schema)
        self._rendered: Recent[tuple[int, Rendered]] = Recent(_RENDERED_BYTES)
        rate = limiter.rate
        self._policies = {
            name: (b"ratelimit-policy", f'"{name}";q={rate.limit};w={rate.window}'.encode())
            for name in ("user", "address")
        }

    async def handle(self, request: HttpRequest, identity: Identity | None = None) -> HttpResponse:
        """Answer a request.

        Args:
            request: As the mount translated it.
            identity: Who calls, where the host's own authentication has found out.

        Raises:
            ClientGoneError: The client went away; there is nobody to answer.
        """
        limit_headers: list[tuple[bytes, bytes]] = []
        try:
            response = await self._answer(request, identity, limit_headers)
        except PrefsyncError as error:
            response = answer(error)
            if request.method == "HEAD":
                response.body = b""
        response.headers += limit_headers
        return response

    async def authenticate(self, request: HttpRequest) -> Identity:
        """Return who calls, by the bearer token of a request.

        Raises:
            UnauthenticatedError: There is no token, or it is not good.
            RateLimitedError: Too many bad ones came from this address.
        """
        headers: list[tuple[bytes, bytes]] = []
        return await self._authenticate(request, headers)

    async def _answer(
        self, request: HttpRequest, identity: Identity | None, limit_headers: list[tuple[bytes, bytes]]
    ) -> HttpResponse:
        if identity is None:
            try:
                identity = await self._authenticate(request, limit_headers)
            except UnauthenticatedError:
                _refuse_token_in(request)
                raise
        operation = self._route(request)
        # Asked before the limiter is awaited: both questions then travel together.
        lookup = self._service.documents.lookup(identity.subject) if operation == self._read else None
        try:
            permit = await self._limiter.acquire("user:" + identity.subject.key)
            self._tell_limit("user", permit, limit_headers)
            if not permit.allowed:
                raise RateLimitedError(permit.reset_after)
            if request.query:
                _refuse_token_in(request)
            if lookup is not None:
                return await self._read(request, identity, lookup)
            return await operation(request, identity)
        finally:
            if inspect.iscoroutine(lookup):
                lookup.close()  # where it was never awaited; does nothing where it was

    async def _authenticate(self, request: HttpRequest, limit_headers: list[tuple[bytes, bytes]]) -> Identity:
        if self._verifier is None:
            raise UnauthenticatedError("the host authenticates by its own means, and named nobody", "missing")
        scheme, _, token = (request.header(b"authorization") or "").partition(" ")
        token = token.strip(" ")
        if scheme.lower() != "bearer" or not token:
            raise UnauthenticatedError("send the token in a header: Authorization: Bearer ...", "missing")
        try:
            return await self._verifier.verify(token)
        except UnauthenticatedError:
            permit = await self._limiter.acquire("address:" + request.client)
            self._tell_limit("address", permit, limit_headers)
            if not permit.allowed:
                raise RateLimitedError(permit.reset_after) from None
            raise

    def _tell_limit(self, policy: str, permit: Permit, headers: list[tuple[bytes, bytes]]) -> None:
        """Tell the quota as draft-ietf-httpapi-ratelimit-headers does."""
        headers.append(self._policies[policy])
        headers.append(
            (b"ratelimit", b'"%b";r=%d;t=%d' % (policy.encode(), permit.remaining, permit.reset_after))
        )

    def _route(self, request: HttpRequest) -> Callable[[HttpRequest, Identity], Awaitable[HttpResponse]]:
        """Return what answers a request, an error included: one that is refused counts too."""
        name = request.path.removeprefix("/")
        if name == "" or name in self._service.schema.namespaces:
            if request.method in _READ_METHODS:
                return self._read
            if request.method in _DOCUMENT_METHODS:
                return self._write
            return _refusing(ForbiddenMethodError(_DOCUMENT_METHODS))
        operation = {"schema": self._read_schema, "changes": self._read_changes}.get(name)
        if operation is None:
            message = f"there is nothing at {request.path[:128]!r}"
            return _refusing(UndeclaredNamespaceError(message))
        if request.method in _READ_METHODS:
            return operation
        return _refusing(ForbiddenMethodError(_READ_METHODS))

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
        at_least = _minimum_revision(request)
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
        origin = _matching(request, b"prefsync-client", _ORIGIN, "1 to 64 of A-Z a-z 0-9 . _ -")
        key = _matching(request, b"idempotency-key", _KEY, "1 to 128 visible ASCII characters; use a UUID")
        schema = self._service.schema
        body: Any = None
        if request.method == "DELETE":
            mutation = Mutation.reset_all(schema) if namespace is None else Mutation({namespace: Reset()})
        else:
            body = await read_json(request, self._service.limits)
            mutation = mutation_from(request.method, namespace, body, schema, self._service.limits)

        def condition(snapshot: Snapshot) -> None:
            tag = render_snapshot(snapshot, namespace).etag
            conditions.check(tag or "")

        snapshot = await self._service.write(
            identity.subject,
            mutation,
            condition=condition if conditions else None,
            request=None if key is None else IdempotentRequest(key, _digest(request.method, namespace, body)),
            origin=origin,
        )
        return render_snapshot(snapshot, namespace).answer(request)

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
        query = _query(request)
        since = _number(query, "since", 0, MAX_INTEGER)
        limit = _number(query, "limit", 1, MOST_CHANGES, USUAL_CHANGES)
        wait = _wait(query)
        if identity.expires_at is not None:
            wait = min(wait, max(0.0, identity.expires_at - self._clock.now() / 1000))
        schema = query.get("schema")
        if wait <= 0 or request.method == "HEAD":
            page = await self._feed.page(identity.subject, since, limit=limit, schema=schema)
        else:
            poll = self._feed.poll(identity.subject, since, wait=wait, limit=limit, schema=schema)
            page = await _unless_gone(request, poll)
        return render_page(page, self._service.schema.tag).answer(request)


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


def _refuse_token_in(request: HttpRequest) -> None:
    """Refuse a token in a URL, where logs and histories keep it (RFC 9700, section 4.3.2)."""
    # Whatever bytes a query holds, Latin-1 reads them.
    query = parse_qsl(request.query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    if any(name in {"token", "access_token"} for name, _ in query):
        raise MalformedError(
            "a token does not belong in a URL: send it in a header, and take this one for leaked"
        )


def _minimum_revision(request: HttpRequest) -> int:
    value = request.header(b"prefsync-min-revision")
    if value is None:
        return 0
    if not _REVISION.fullmatch(value) or int(value) > MAX_INTEGER:
        raise MalformedError("Prefsync-Min-Revision must be a revision, an integer from 0 to 2^53 - 1")
    return int(value)


def _matching(request: HttpRequest, name: bytes, pattern: re.Pattern[str], rule: str) -> str | None:
    value = request.header(name)
    if value is not None and not pattern.fullmatch(value):
        raise MalformedError(f"{name.decode().title()} must have {rule}")
    return value


def _digest(method: str, namespace: str | None, body: Any) -> bytes:
    basis = f"{method}\n{namespace or ''}\n".encode()
    return blake2b(basis + (b"" if body is None else digestible(body)), digest_size=32).digest()


def _query(request: HttpRequest) -> dict[str, str]:
    try:
        pairs = parse_qsl(request.query.decode("ascii"), keep_blank_values=True, errors="strict")
    except (UnicodeDecodeError, ValueError):
        raise MalformedError("the query cannot be read: percent-encode it as UTF-8") from None
    query = dict(pairs)
    if len(query) != len(pairs):
        raise MalformedError("a query parameter is given twice")
    return query


def _number(query: dict[str, str], name: str, least: int, most: int, default: int | None = None) -> int:
    value = query.get(name)
    if value is None and default is not None:
        return default
    if value is None or not _REVISION.fullmatch(value) or not least <= int(value) <= most:
        raise MalformedError(f"the query parameter {name} must be an integer from {least} to {most}")
    return int(value)


def _wait(query: dict[str, str]) -> float:
    value = query.get("wait", "0")
    if not _SECONDS.fullmatch(value) or float(value) > LONGEST_WAIT:
        raise MalformedError(f"the query parameter wait must be seconds from 0 to {LONGEST_WAIT:.0f}")
    return float(value)

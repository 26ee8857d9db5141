"""Who may come in: bearer tokens, one-time tickets, and the rate limit (protocol.md, "Tokens" and "Rate limit")."""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from prefsync.document import Identity, Subject
from prefsync.errors import UnauthenticatedError
from prefsync.http.problems import answer
from prefsync.ports import RememberingVerifier
from prefsync.ports.part import short_way
from prefsync.strictjson import decode, encode
from prefsync.telemetry import OFF

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefsync.clock import Clock
    from prefsync.errors import PrefsyncError
    from prefsync.http.messages import HttpRequest, HttpResponse
    from prefsync.http.quotas import Headers, Quotas
    from prefsync.ports import TicketStore, TokenVerifier
    from prefsync.telemetry import Telemetry

__all__ = ["TICKET_LIFE", "Admission"]

# Seconds that a ticket is good for (protocol.md section 3).
TICKET_LIFE: Final = 60

# More than any ticket has; the rest is not worth hashing.
_LONGEST_TICKET: Final = 128


class Admission:
    """Finds out who calls, and counts how often.

    Args:
        verifier: Verifies tokens; ``None`` where the host authenticates by its own means.
        quotas: Count requests, and what fails.
        tickets: Keeps tickets until they are spent.
        clock: For expiry.
        resource_metadata: The URL at which clients find out where to get a token.
        telemetry: Is told of refusals.

    Attributes:
        quotas: Count requests, and what fails.
        telemetry: Is told of refusals.
    """

    def __init__(
        self,
        verifier: TokenVerifier | None,
        quotas: Quotas,
        tickets: TicketStore,
        clock: Clock,
        resource_metadata: str | None = None,
        telemetry: Telemetry = OFF,
    ) -> None:
        self.telemetry = telemetry
        self._resource_metadata = resource_metadata
        self._verifier = verifier
        self._recall: Callable[[str], Identity | None] | None = short_way(
            verifier, RememberingVerifier, "recall", past="verify"
        )
        self.quotas = quotas
        self._tickets = tickets
        self._clock = clock

    def refuse(self, error: PrefsyncError) -> HttpResponse:
        """Answer with an error."""
        self.telemetry.refused(error.code)
        return answer(error, self._resource_metadata)

    async def identify(self, request: HttpRequest, headers: Headers) -> Identity:
        """Return who calls, by the bearer token of a request.

        Args:
            request: The request.
            headers: Where to tell the quota of the address, if it was charged.

        Raises:
            UnauthenticatedError: There is no token, or it is not good.
            RateLimitedError: Too many bad ones came from this address.
        """
        if self._verifier is None:
            raise UnauthenticatedError("the host authenticates by its own means, and named nobody", "missing")
        scheme, _, token = (request.header(b"authorization") or "").partition(" ")
        token = token.strip(" ")
        if scheme.lower() != "bearer" or not token:
            raise UnauthenticatedError("send the token in a header: Authorization: Bearer ...", "missing")
        return await self.verify(token, request.client, headers)

    def recall(self, headers: dict[bytes, bytes]) -> Identity | None:
        """Return who calls, where the bearer token among a request's headers is known; ``None``: ask :meth:`identify`."""
        given = headers.get(b"authorization")
        if self._recall is None or given is None or not given.startswith(b"Bearer "):
            return None
        return self._recall(given[7:].decode("latin-1"))

    async def verify(self, token: str, client: str, headers: Headers) -> Identity:
        """Return for whom a token speaks; one that is not good counts for the address that sent it.

        Raises:
            UnauthenticatedError: It is not good.
            RateLimitedError: Too many bad ones came from this address.
        """
        if self._verifier is None:
            raise UnauthenticatedError(
                "the host authenticates by its own means; open the stream with a ticket"
            )
        try:
            return await self._verifier.verify(token)
        except UnauthenticatedError:
            await self.quotas.failures.count(client, headers)
            raise

    async def issue_ticket(self, identity: Identity) -> str:
        """Return a ticket that carries a subject, its scopes and its expiry.

        Raises:
            UnavailableError: Where tickets are kept is out of reach.
        """
        ticket = secrets.token_urlsafe(32)
        scopes = None if identity.scopes is None else sorted(identity.scopes)
        subject, proof = identity.subject, [identity.expires_at, *identity.revoked_by]
        content = encode([subject.tenant, subject.user, scopes, *proof])
        await self._tickets.put(_name(ticket), content, TICKET_LIFE)
        return ticket

    async def redeem(self, ticket: str, client: str, headers: Headers) -> Identity:
        """Return whom a ticket speaks for, and spend it.

        Raises:
            UnauthenticatedError: It was spent, has expired, or is none.
            RateLimitedError: Too many bad ones came from this address.
            UnavailableError: Where tickets are kept is out of reach.
        """
        content = await self._tickets.take(_name(ticket)) if 0 < len(ticket) <= _LONGEST_TICKET else None
        if content is not None:
            parts: Any = decode(content)
            tenant, user, scopes, expires_at, *revoked_by = parts
            if expires_at is None or expires_at > self._clock.now() / 1000:
                held = None if scopes is None else frozenset(scopes)
                return Identity(Subject(user, tenant), held, expires_at, tuple(revoked_by))
        await self.quotas.failures.count(client, headers)
        raise UnauthenticatedError("the ticket is spent or has expired: get a new one with POST /ticket")


def _name(ticket: str) -> str:
    """Return what a ticket is kept under: whoever can read the store cannot use what is in it."""
    return sha256(ticket.encode()).hexdigest()

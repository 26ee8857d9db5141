"""Who may come in: bearer tokens, one-time tickets, and the rate limit (protocol.md, "Tokens" and "Rate limit")."""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from prefsync.document import Identity, Subject
from prefsync.errors import RateLimitedError, UnauthenticatedError
from prefsync.strictjson import decode, encode

if TYPE_CHECKING:
    from prefsync.clock import Clock
    from prefsync.http.messages import HttpRequest
    from prefsync.ports import Permit, RateLimiter, TicketStore, TokenVerifier

__all__ = ["TICKET_LIFE", "Admission", "Headers"]

Headers: TypeAlias = list[tuple[bytes, bytes]]

# Seconds that a ticket is good for (protocol.md section 3).
TICKET_LIFE: Final = 60

# More than any ticket has; the rest is not worth hashing.
_LONGEST_TICKET: Final = 128


class Admission:
    """Finds out who calls, and counts how often.

    Args:
        verifier: Verifies tokens; ``None`` where the host authenticates by its own means.
        limiter: Counts requests.
        tickets: Keeps tickets until they are spent.
        clock: For expiry.
    """

    def __init__(
        self, verifier: TokenVerifier | None, limiter: RateLimiter, tickets: TicketStore, clock: Clock
    ) -> None:
        self._verifier = verifier
        self._limiter = limiter
        self._tickets = tickets
        self._clock = clock
        rate = limiter.rate
        self._policies = {
            name: (b"ratelimit-policy", f'"{name}";q={rate.limit};w={rate.window}'.encode())
            for name in ("user", "address")
        }

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
            await self._count_failure(client, headers)
            raise

    async def count(self, subject: Subject, headers: Headers) -> None:
        """Count a request of a subject's.

        Raises:
            RateLimitedError: There were too many.
        """
        permit = await self._limiter.acquire("user:" + subject.key)
        self._tell("user", permit, headers)
        if not permit.allowed:
            raise RateLimitedError(permit.reset_after)

    async def issue_ticket(self, identity: Identity) -> str:
        """Return a ticket that carries a subject, its scopes and its expiry.

        Raises:
            UnavailableError: Where tickets are kept is out of reach.
        """
        ticket = secrets.token_urlsafe(32)
        scopes = None if identity.scopes is None else sorted(identity.scopes)
        content = encode([identity.subject.tenant, identity.subject.user, scopes, identity.expires_at])
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
            tenant, user, scopes, expires_at = parts
            if expires_at is None or expires_at > self._clock.now() / 1000:
                held = None if scopes is None else frozenset(scopes)
                return Identity(Subject(user, tenant), held, expires_at)
        await self._count_failure(client, headers)
        raise UnauthenticatedError("the ticket is spent or has expired: get a new one with POST /ticket")

    async def _count_failure(self, client: str, headers: Headers) -> None:
        permit = await self._limiter.acquire("address:" + client)
        self._tell("address", permit, headers)
        if not permit.allowed:
            raise RateLimitedError(permit.reset_after) from None

    def _tell(self, policy: str, permit: Permit, headers: Headers) -> None:
        """Tell the quota as draft-ietf-httpapi-ratelimit-headers does."""
        headers.append(self._policies[policy])
        headers.append(
            (b"ratelimit", b'"%b";r=%d;t=%d' % (policy.encode(), permit.remaining, permit.reset_after))
        )


def _name(ticket: str) -> str:
    """Return what a ticket is kept under: whoever can read the store cannot use what is in it."""
    return sha256(ticket.encode()).hexdigest()

"""Tokens that only their issuer can read, verified by asking it (RFC 7662)."""

from __future__ import annotations

import logging
import re
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self

from prefsync.adapters.oauth.claims import ClaimRules
from prefsync.adapters.oauth.flights import Flights
from prefsync.adapters.oauth.http import IssuerError, IssuerHttp
from prefsync.adapters.oauth.memory import TokenMemory
from prefsync.clock import Clock, SystemClock
from prefsync.errors import ConfigurationError, UnauthenticatedError, UnavailableError
from prefsync.ports import RevokingVerifier
from prefsync.recent import Recent
from prefsync.resilience import Breaker
from prefsync.urls import check_secure

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import TracebackType

    from prefsync.document import Identity, Subject

__all__ = ["IntrospectionVerifier"]

logger = logging.getLogger("prefsync")

# protocol.md section 2, "Tokens".
_MOST_BYTES: Final = 8 * 1024

# RFC 6750, section 2.1: what can be a bearer token at all.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")

# Seconds for which a verdict holds. What the issuer revokes is refused that much later (RFC 7662, section 4).
_VERDICT_LIFE: Final = 30.0

# What an issuer says to whoever may not ask it.
_DENIED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})

# About this many refused tokens are remembered, apart from the good ones, which they cannot push out.
_REFUSALS: Final = 5_000


class IntrospectionVerifier(RevokingVerifier):
    """Asks the issuer about each token, and remembers the verdict for 30 s at most.

    Args:
        url: The issuer's introspection endpoint.
        client_id: Who asks, as the issuer knows it.
        client_secret: Proves it.
        issuer: What ``iss`` must be, if anything.
        audience: What ``aud`` must name, if anything.
        leeway: Seconds by which clocks may differ, at most 60.
        tenant_claim: Where the tenant is; a token without it is then refused.
        verdict_life: Seconds for which a verdict holds.
        http: Asks the issuer.
        clock: For tests.

    Attributes:
        issuer: What ``iss`` must be.

    Raises:
        ConfigurationError: The URL is none that can be trusted with tokens.
    """

    def __init__(
        self,
        url: str,
        *,
        client_id: str,
        client_secret: str,
        issuer: str | None = None,
        audience: str | None = None,
        leeway: int = 30,
        tenant_claim: str | None = None,
        verdict_life: float = _VERDICT_LIFE,
        http: IssuerHttp | None = None,
        clock: Clock | None = None,
    ) -> None:
        try:
            check_secure(url)
        except ValueError as error:
            raise ConfigurationError(f"PREFSYNC_INTROSPECTION_URL cannot be used: {error}") from None
        self._url = url
        self._client_id = client_id
        self._client_secret = client_secret
        self._rules = ClaimRules(issuer=issuer, audience=audience, leeway=leeway, tenant_claim=tenant_claim)
        self._verdict_life = verdict_life
        self._http = http or IssuerHttp()
        self._clock = clock or SystemClock()
        self._breaker = Breaker("issuer", self._clock)
        self._flights: Flights[Identity] = Flights()
        self._memory = TokenMemory(self._clock)
        self._refusals: Recent[tuple[float, str]] = Recent(_REFUSALS)
        self.issuer = issuer

    async def __aenter__(self) -> Self:
        self._flights = Flights()  # a forked process would wait for its parent's for ever
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._flights.aclose()

    async def verify(self, token: str) -> Identity:
        if len(token) > _MOST_BYTES:
            raise UnauthenticatedError(f"the token is longer than {_MOST_BYTES} bytes")
        if not token.isascii():
            raise UnauthenticatedError("the token holds characters that no token has")
        digest = sha256(token.encode()).digest()
        identity = self._memory.recall(digest)
        if identity is not None:
            return identity
        if not _TOKEN.fullmatch(token):
            raise UnauthenticatedError("the token holds characters that no token has")
        refused_until, reason = self._refusals.get(digest) or (0.0, "")
        if refused_until > self._clock.monotonic():
            raise UnauthenticatedError(reason)
        return await self._flights.share(digest, lambda: self._ask(token, digest))

    def revoke(
        self,
        *,
        token: str | None = None,
        token_id: str | None = None,
        subject: Subject | None = None,
        until: float | None = None,
    ) -> Collection[str]:
        name = None if token is None else sha256(token.encode("utf-8", "replace")).digest()
        return self._memory.revoke(name=name, token_id=token_id, subject=subject, until=until)

    async def _ask(self, token: str, digest: bytes) -> Identity:
        self._breaker.check()
        asked_at = self._clock.monotonic()
        try:
            claims = await self._http.post(
                self._url,
                {"token": token, "token_type_hint": "access_token"},
                user=self._client_id,
                password=self._client_secret,
            )
            is_active = _verdict(claims)
        except IssuerError as error:
            if not self._breaker.is_failing:
                hint = (
                    "; check PREFSYNC_INTROSPECTION_CLIENT_ID and its secret"
                    if error.status in _DENIED
                    else ""
                )
                logger.warning("the issuer does not say whether tokens are good: %s%s", error.reason, hint)
            self._breaker.failed()
            raise UnavailableError("issuer", error.retry_after) from error
        self._breaker.succeeded()
        # The verdict is as old as the question.
        seconds = self._verdict_life - (self._clock.monotonic() - asked_at)
        try:
            _check_active(claims, is_active=is_active)
            verified = self._rules.read(claims, self._clock.now() / 1000)
            return self._memory.keep(digest, verified, name=digest, seconds=seconds)
        except UnauthenticatedError as error:
            self._refusals.put(digest, (self._clock.monotonic() + seconds, str(error)), 1)
            raise


def _verdict(claims: dict[str, Any]) -> bool:
    """Return whether the issuer says that a token is active.

    Raises:
        IssuerError: It says nothing.
    """
    is_active = claims.get("active")
    if not isinstance(is_active, bool):
        raise IssuerError("the introspection endpoint answered without a verdict (active)")
    return is_active


def _check_active(claims: dict[str, Any], *, is_active: bool) -> None:
    """Raise for a token that is not active, or that does not speak for whoever bears it (RFC 6749, section 7.1)."""
    if not is_active:
        raise UnauthenticatedError("the token is not active")
    kind = claims.get("token_type", "Bearer")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise UnauthenticatedError("the token is no bearer token (token_type)")

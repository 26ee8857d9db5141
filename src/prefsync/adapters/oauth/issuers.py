"""Several issuers beside one another: what is the same user to one of them is nobody to the others."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from contextlib import AsyncExitStack
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Protocol, Self

from prefsync.document import Identity, Subject
from prefsync.errors import ConfigurationError, PrefsyncError, UnauthenticatedError
from prefsync.ports import RevokingVerifier
from prefsync.recent import Recent
from prefsync.strictjson import parse

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from types import TracebackType

__all__ = ["IssuersVerifier"]

_NAME: Final = re.compile(r"(?:[a-z0-9][a-z0-9-]{0,31})?")

# Stands between an issuer's name and its own tenant, and in no name.
_SEPARATOR: Final = ":"

# About this many identities are remembered with what they are called here.
_REMEMBERED: Final = 20_000

_MOST_BYTES: Final = 8 * 1024


class IssuerVerifier(RevokingVerifier, Protocol):
    """A verifier that is settled to one issuer.

    Attributes:
        issuer: What ``iss`` must be.
    """

    issuer: str | None


@dataclass(frozen=True, slots=True)
class _Called:
    """Whose a token is, and for whom it speaks in our words: the same as long as it is good at all."""

    issuer: str | None
    here: Identity


class IssuersVerifier(RevokingVerifier):
    """Takes tokens of several issuers, and keeps their users apart (by issuer *and* ``sub``).

    A user of the issuer that is named ``partners`` has the tenant ``partners``; where that issuer has tenants of its own,
    ``partners:`` and that. The issuer that is named ``""`` keeps its tenants as they are: for a host that had one issuer
    first. No tenant of it can look like one of the others': such tokens are refused.

    Args:
        verifiers: By the issuer's name: ``a-z 0-9 -``, at most 32 characters. All take JSON Web Tokens.

    Raises:
        ConfigurationError: A name cannot be used, a verifier is not settled to an issuer, or two are to the same.
    """

    def __init__(self, verifiers: Mapping[str, IssuerVerifier]) -> None:
        self._names = {verifier.issuer: name for name, verifier in verifiers.items()}
        self._verifiers = {verifier.issuer: verifier for verifier in verifiers.values()}
        for name in verifiers:
            if not _NAME.fullmatch(name):
                raise ConfigurationError(
                    f"an issuer cannot be named {name!r}; use up to 32 of a-z, 0-9 and -"
                )
        if None in self._verifiers or len(self._verifiers) != len(verifiers) or not verifiers:
            raise ConfigurationError("give each verifier an issuer of its own, so that users cannot mix")
        self._called: Recent[_Called] = Recent(_REMEMBERED)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for verifier in self._verifiers.values():
                await stack.enter_async_context(verifier)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def verify(self, token: str) -> Identity:
        if len(token) > _MOST_BYTES or not token.isascii():
            raise UnauthenticatedError("the token is not three parts of unpadded base64url")
        digest = sha256(token.encode()).digest()
        called = self._called.get(digest)
        issuer = _issuer_of(token) if called is None else called.issuer
        verifier = self._verifiers.get(issuer)
        if verifier is None:
            raise UnauthenticatedError("the token is not from an issuer that is trusted here (iss)")
        identity = await verifier.verify(token)
        if called is None:
            called = _Called(issuer, self._call(identity, self._names[issuer]))
            self._called.put(digest, called, 1)
        return called.here

    def revoke(
        self,
        *,
        token: str | None = None,
        token_id: str | None = None,
        subject: Subject | None = None,
        until: float | None = None,
    ) -> Collection[str]:
        marks: set[str] = set()
        for issuer, verifier in self._verifiers.items():
            own = None if subject is None else self._own(subject, self._names[issuer])
            if token is not None or token_id is not None or own is not None:
                marks.update(verifier.revoke(token=token, token_id=token_id, subject=own, until=until))
        return marks

    def _call(self, identity: Identity, name: str) -> Identity:
        """Return an issuer's identity as it is called here."""
        tenant = identity.subject.tenant
        if name:
            tenant = name if tenant is None else f"{name}{_SEPARATOR}{tenant}"
        elif tenant is not None and self._is_others(tenant):
            raise UnauthenticatedError("the token's tenant is called like another issuer")
        try:
            subject = Subject(identity.subject.user, tenant)
        except ValueError as error:
            raise UnauthenticatedError(f"the token does not name its user: {error}") from None
        return Identity(subject, identity.scopes, identity.expires_at, identity.revoked_by)

    def _own(self, subject: Subject, name: str) -> Subject | None:
        """Return what an issuer calls a subject, where it is one of its."""
        tenant = subject.tenant
        first, _, rest = (tenant or "").partition(_SEPARATOR)
        if name and first == name:
            return Subject(subject.user, rest or None)
        if not name and (tenant is None or not self._is_others(tenant)):
            return subject
        return None

    def _is_others(self, tenant: str) -> bool:
        """Tell whether a tenant as it is called here is one of an issuer's that has a name."""
        first = tenant.partition(_SEPARATOR)[0]
        return first != "" and first in self._names.values()


def _issuer_of(token: str) -> str | None:
    """Return whom a token claims to be from: enough to choose who verifies it, and for nothing else."""
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004  # RFC 7515, section 7.1
        raise UnauthenticatedError("the token is not three parts of unpadded base64url")
    try:
        claims = parse(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, PrefsyncError):
        raise UnauthenticatedError("the token's payload is no JSON") from None
    issuer = claims.get("iss") if isinstance(claims, dict) else None
    return issuer if isinstance(issuer, str) else None

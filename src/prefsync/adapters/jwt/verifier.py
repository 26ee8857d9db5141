"""Bearer tokens as JSON Web Tokens. PyJWT verifies the signature; what a token must look like besides is here."""

from __future__ import annotations

import logging
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import jwt

from prefsync.adapters.jwt.keys import FixedKey, check_algorithms
from prefsync.adapters.oauth.claims import ACCESS_TYPE, ClaimRules
from prefsync.adapters.oauth.memory import TokenMemory
from prefsync.clock import Clock, SystemClock
from prefsync.errors import MalformedError, UnauthenticatedError, UnavailableError
from prefsync.ports import RememberingVerifier, RevokingVerifier
from prefsync.strictjson import parse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from types import TracebackType

    from prefsync.adapters.jwt.keys import KeySource
    from prefsync.adapters.oauth.claims import VerifiedToken
    from prefsync.document import Identity, Subject

    IsRevoked: TypeAlias = Callable[[VerifiedToken], Awaitable[bool]]

__all__ = ["JwtVerifier"]

logger = logging.getLogger("prefsync")

# protocol.md section 2, "Tokens": looked at before anything is decoded.
MAX_TOKEN_BYTES: Final = 8 * 1024

# RFC 7515, section 7.1, and section 2: base64url without padding.
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

# What makes a header mean something else to whoever understands it (RFC 7515, section 4.1.11; RFC 7516, section 4.1.3;
# RFC 7797, section 3).
_EXTENSIONS: Final = frozenset({"crit", "zip", "b64"})

# Seconds for which the host's word that a token is not revoked holds.
_NOT_REVOKED_FOR: Final = 10.0


class JwtVerifier(RevokingVerifier, RememberingVerifier):
    """Verifies signed tokens (RFC 7519, RFC 8725), and remembers those that are good until they expire.

    Args:
        key: A shared secret for the HS algorithms; else a public key in PEM, or an issuer's keys.
        algorithms: What may have signed a token; never taken from the token (RFC 8725, section 3.1).
        issuer: What ``iss`` must be, if anything.
        audience: What ``aud`` must name, if anything.
        leeway: Seconds by which clocks may differ, at most 60.
        tenant_claim: Where the tenant is; a token without it is then refused.
        profile: ``at+jwt`` takes access tokens by RFC 9068 only: those that say so in their header.
        is_revoked: Asked about a token that is otherwise good, and again after 10 s: for a list of revoked tokens that
            processes share. Where it fails, the token is neither taken nor refused (``UnavailableError``).
        clock: For tests.

    Attributes:
        issuer: What ``iss`` must be.

    Raises:
        ConfigurationError: Key and algorithms do not fit one another, or the secret is one that anybody can guess.
    """

    def __init__(
        self,
        key: str | KeySource,
        *,
        algorithms: Sequence[str] = ("HS256",),
        issuer: str | None = None,
        audience: str | None = None,
        leeway: int = 30,
        tenant_claim: str | None = None,
        profile: str | None = None,
        is_revoked: IsRevoked | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._algorithms = check_algorithms(algorithms)
        self._keys = FixedKey(key) if isinstance(key, str) else key
        self._keys.check(self._algorithms)
        self._rules = ClaimRules(
            issuer=issuer, audience=audience, leeway=leeway, tenant_claim=tenant_claim, profile=profile
        )
        self._types = _types(profile)
        self._signatures = jwt.PyJWS(algorithms=self._algorithms)
        self._is_revoked = is_revoked
        self._clock = clock or SystemClock()
        self._memory = TokenMemory(self._clock)
        self.issuer = issuer

    async def __aenter__(self) -> Self:
        await self._keys.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._keys.__aexit__(kind, error, trace)

    async def verify(self, token: str) -> Identity:
        if len(token) > MAX_TOKEN_BYTES:
            raise UnauthenticatedError(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
        if not token.isascii():
            raise UnauthenticatedError("the token is not three parts of unpadded base64url")
        if (identity := self.recall(token)) is not None:
            return identity
        try:
            return await self._verify(token, _digest(token))
        except (UnauthenticatedError, UnavailableError):
            raise
        except Exception as error:
            # Whatever a hostile token makes the libraries below raise is a token that fails, no error of this server.
            # Its words are not logged: they may repeat the token.
            logger.warning("a token made its verification raise %s", type(error).__name__)
            raise UnauthenticatedError("the token cannot be read") from error

    def recall(self, token: str) -> Identity | None:
        return self._memory.recall(_digest(token), self._keys.generation)

    def revoke(
        self,
        *,
        token: str | None = None,
        token_id: str | None = None,
        subject: Subject | None = None,
        until: float | None = None,
    ) -> Collection[str]:
        name = None if token is None else _name(token)
        return self._memory.revoke(name=name, token_id=token_id, subject=subject, until=until)

    async def _verify(self, token: str, digest: bytes) -> Identity:
        if not _COMPACT.fullmatch(token):
            raise UnauthenticatedError("the token is not three parts of unpadded base64url")
        head, body, _ = (_decoded(part) for part in token.split("."))
        algorithm, kid = self._settled(_object(head, "header"))
        claims = _object(body, "payload")
        generation = self._keys.generation  # before keys are looked for: they may be withdrawn meanwhile
        is_signed = self._is_signed(token, algorithm, await self._keys.find(algorithm, kid))
        if not is_signed:
            newer = await self._keys.look_again(algorithm, kid)
            is_signed = self._is_signed(token, algorithm, newer)
        if not is_signed:
            raise UnauthenticatedError("the token's signature is by no key that is trusted here")
        verified = self._rules.read(claims, self._clock.now() / 1000)
        await self._ask_host(verified)
        return self._memory.keep(
            digest,
            verified,
            name=_name(token),
            generation=generation,
            seconds=None if self._is_revoked is None else _NOT_REVOKED_FOR,
        )

    def _settled(self, header: dict[str, Any]) -> tuple[str, str | None]:
        """Return algorithm and key id of a header that asks for nothing that is not settled.

        A key that it brings along, or says where to fetch (``jwk``, ``jku``, ``x5c``, ``x5u``), is not looked at.
        """
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise UnauthenticatedError("the token is signed in a way that is not taken here (alg)")
        if not _EXTENSIONS.isdisjoint(header):
            raise UnauthenticatedError("the token's header asks for an extension that is not supported")
        if "kid" in header and not isinstance(kid, str):
            raise UnauthenticatedError("the token's kid is no string")
        if not _is_of(self._types, header):
            raise UnauthenticatedError("the token is of a kind that is not taken here (typ)")
        return algorithm, kid

    def _is_signed(self, token: str, algorithm: str, keys: Sequence[Any]) -> bool:
        for key in keys:
            try:
                self._signatures.decode_complete(token, key, algorithms=[algorithm])
            except jwt.InvalidTokenError:
                continue
            return True
        return False

    async def _ask_host(self, token: VerifiedToken) -> None:
        """Raise where the host says that a token is revoked, or cannot say that it is not."""
        if self._is_revoked is None:
            return
        try:
            is_revoked = await self._is_revoked(token)
        except Exception as error:
            logger.exception("whether a token is revoked cannot be found out")
            raise UnavailableError("issuer") from error
        if is_revoked:
            raise UnauthenticatedError("the token was revoked")


def _types(profile: str | None) -> frozenset[str | None]:
    """Return what ``typ`` may be. RFC 8725, section 3.11: a logout or DPoP token, say, is none of these."""
    return frozenset({ACCESS_TYPE} if profile is not None else {ACCESS_TYPE, "jwt", None})


def _is_of(types: frozenset[str | None], header: dict[str, Any]) -> bool:
    """Tell whether a header's ``typ`` is among types, as media types are compared (RFC 7515, section 4.1.9)."""
    if "typ" not in header:
        return None in types
    kind = header["typ"]
    return isinstance(kind, str) and kind.lower().removeprefix("application/") in types


def _decoded(part: str) -> bytes:
    """Return the bytes of a part. One token has one spelling: no stray bits at the end (RFC 4648, section 3.5)."""
    raw = urlsafe_b64decode(part + "=" * (-len(part) % 4)) if len(part) % 4 != 1 else b""
    if urlsafe_b64encode(raw).rstrip(b"=") != part.encode():
        raise UnauthenticatedError("the token is not three parts of unpadded base64url")
    return raw


def _object(text: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object in a part of a token: PyJWT also takes UTF-16, a BOM, ``NaN`` and repeated members."""
    try:
        value = parse(text)
    except MalformedError:
        raise UnauthenticatedError(f"the token's {what} is no JSON") from None
    if not isinstance(value, dict):
        raise UnauthenticatedError(f"the token's {what} is no JSON object")
    return value


def _name(token: str) -> bytes:
    """Return what a token is revoked by.

    The signature is no part of it: whoever has an ECDSA signature can write another that is as good.
    """
    return sha256(token.rpartition(".")[0].encode("utf-8", "replace")).digest()


def _digest(token: str) -> bytes:
    """Return what a token is remembered by, in this process alone: for each request, so by what takes no OpenSSL."""
    return blake2b(token.encode()).digest()

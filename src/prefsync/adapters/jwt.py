"""Bearer tokens as JSON Web Tokens, verified by PyJWT (extra ``jwt``)."""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, Self

from prefsync.caching import Recent
from prefsync.clock import Clock, SystemClock
from prefsync.document import Identity, Subject
from prefsync.errors import ConfigurationError, MissingExtraError, UnauthenticatedError
from prefsync.ports import TokenVerifier
from prefsync.strictjson import MAX_INTEGER

try:
    import jwt
except ImportError as error:
    raise MissingExtraError("verifying tokens (prefsync.adapters.jwt)", "jwt") from error

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["JwtVerifier"]

# protocol.md section 2, "Tokens": looked at before anything is decoded.
MAX_TOKEN_BYTES: Final = 8 * 1024
MAX_LEEWAY: Final = 60

# RFC 7518, section 3.2: a key of the size of the hash output or larger must be used.
_SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}

# "aaaa..." is as long as one likes and as good as none.
_DIFFERENT_CHARACTERS: Final = 8

# RFC 7515, section 7.1, and section 2: base64url without padding.
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

# Verified tokens are remembered by digest, never as such; about this many of them.
_REMEMBERED: Final = 20_000


class JwtVerifier(TokenVerifier):
    """Verifies signed tokens with one key.

    Args:
        key: A shared secret for the HS algorithms, else a public key in PEM.
        algorithms: What may have signed a token; never taken from the token (RFC 8725, section 3.1).
        issuer: What ``iss`` must be, if anything.
        audience: What ``aud`` must name, if anything.
        leeway: Seconds by which clocks may differ, at most 60.
        tenant_claim: Where the tenant is; a token without it is then refused.
        clock: For tests.

    Raises:
        ConfigurationError: Key and algorithms do not fit one another, or the secret is one that anybody can guess.
    """

    def __init__(
        self,
        key: str,
        *,
        algorithms: Sequence[str] = ("HS256",),
        issuer: str | None = None,
        audience: str | None = None,
        leeway: int = 30,
        tenant_claim: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._algorithms = _checked_algorithms(key, algorithms)
        if not 0 <= leeway <= MAX_LEEWAY:
            raise ConfigurationError(
                f"PREFSYNC_JWT_LEEWAY: the leeway is {leeway} s; it must lie between 0 and {MAX_LEEWAY}"
            )
        self._key: Any = _prepared(key, self._algorithms)
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway
        self._tenant_claim = tenant_claim
        self._clock = clock or SystemClock()
        self._remembered: Recent[Identity] = Recent(_REMEMBERED)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def verify(self, token: str) -> Identity:
        if len(token) > MAX_TOKEN_BYTES:
            raise UnauthenticatedError(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
        if not _COMPACT.fullmatch(token):
            raise UnauthenticatedError("the token is not three parts of unpadded base64url")
        digest = blake2b(token.encode(), digest_size=32).digest()
        identity = self._remembered.get(digest)
        if identity is None:
            identity = self._identity(self._claims(token))
            self._remembered.put(digest, identity, 1)
        if identity.expires_at is not None and identity.expires_at <= self._clock.now() / 1000:
            self._remembered.drop(digest)
            raise UnauthenticatedError("the token has expired")
        return identity

    def _claims(self, token: str) -> dict[str, Any]:
        """Return a verified token's claims.

        PyJWT says what is wrong with a signature or a registered claim; whatever else a hostile token makes it or the
        libraries below it raise is a token that fails, not an error of this server.
        """
        try:
            complete = jwt.decode_complete(
                token,
                self._key,
                algorithms=self._algorithms,
                issuer=self._issuer,
                audience=self._audience,
                leeway=self._leeway,
                # Time is checked below, against this verifier's own clock.
                options={
                    "require": [
                        "exp",
                        "sub",
                        *(["aud"] if self._audience else []),
                        *(["iss"] if self._issuer else []),
                    ],
                    "verify_aud": self._audience is not None,
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
            _refuse_extensions(complete["header"])
            _strict_json(token)
        except UnauthenticatedError:
            raise
        except jwt.InvalidTokenError as error:
            raise UnauthenticatedError(f"the token is not valid: {type(error).__name__}") from None
        except Exception as error:
            raise UnauthenticatedError("the token cannot be read") from error
        claims: dict[str, Any] = complete["payload"]
        return claims

    def _identity(self, claims: dict[str, Any]) -> Identity:
        now = self._clock.now() / 1000
        expires_at = _time(claims, "exp") + self._leeway
        for name in ("nbf", "iat"):
            if name in claims and _time(claims, name) > now + self._leeway:
                raise UnauthenticatedError(f"the token is not valid yet ({name})")
        tenant = None
        if self._tenant_claim is not None:
            tenant = claims.get(self._tenant_claim)
            if not isinstance(tenant, str):
                raise UnauthenticatedError(f"the token has no {self._tenant_claim}")
        try:
            subject = Subject(claims["sub"], tenant)
        except ValueError as error:
            raise UnauthenticatedError(f"the token does not name its user: {error}") from None
        return Identity(subject, _scopes(claims), expires_at)


def _checked_algorithms(key: str, algorithms: Sequence[str]) -> list[str]:
    chosen = list(algorithms)
    known = jwt.algorithms.get_default_algorithms()
    for name in chosen:
        if name not in known or name.lower() == "none":
            usable = ", ".join(sorted(set(known) - {"none"}))
            raise ConfigurationError(
                f"PREFSYNC_JWT_ALGORITHMS: the token algorithm {name!r} is not supported; choose of {usable}"
            )
    symmetric = [name for name in chosen if name.startswith("HS")]
    if not chosen or (symmetric and len(symmetric) != len(chosen)):
        # RFC 8725, section 3.1: a public key taken for a shared secret is the classic forgery.
        raise ConfigurationError(
            "PREFSYNC_JWT_ALGORITHMS must be of one kind: HS* with a shared secret, or the others with a public key"
        )
    is_pem = "-----BEGIN" in key
    if symmetric and is_pem:
        raise ConfigurationError(
            f"PREFSYNC_JWT_KEY is a PEM key, which {symmetric[0]} would take for a secret; name"
            f" its algorithm in PREFSYNC_JWT_ALGORITHMS, RS256 say"
        )
    if not symmetric and not is_pem:
        raise ConfigurationError(
            f"{chosen[0]} needs a public key in PREFSYNC_JWT_KEY, in PEM (-----BEGIN PUBLIC KEY-----)"
        )
    if symmetric:
        _check_secret(key, max(_SECRET_BYTES[name] for name in symmetric))
    elif "PRIVATE KEY" in key:
        raise ConfigurationError("PREFSYNC_JWT_KEY is a private key; tokens are verified with the public one")
    return chosen


def _check_secret(secret: str, needed: int) -> None:
    advice = 'make one with: python -c "import secrets; print(secrets.token_urlsafe(48))"'
    if len(secret.encode()) < needed:
        raise ConfigurationError(
            f"PREFSYNC_JWT_KEY: the token secret has {len(secret.encode())} bytes, RFC 7518 asks"
            f" for {needed} or more; {advice}"
        )
    if len(set(secret)) < _DIFFERENT_CHARACTERS:
        raise ConfigurationError(
            f"PREFSYNC_JWT_KEY: the token secret is one that anybody can guess; {advice}"
        )


def _prepared(key: str, algorithms: list[str]) -> Any:
    """Parse the key once; given as text, PyJWT would parse it for each token."""
    algorithm = jwt.algorithms.get_default_algorithms()[algorithms[0]]
    try:
        return algorithm.prepare_key(key)
    except (ValueError, TypeError, jwt.PyJWTError) as error:
        raise ConfigurationError(
            f"PREFSYNC_JWT_KEY cannot be read as one for {algorithms[0]}: {error}"
        ) from None


def _refuse_extensions(header: dict[str, Any]) -> None:
    """Refuse what a token demands to be understood (RFC 7515, section 4.1.11; RFC 7516, section 4.1.3)."""
    if "crit" in header or "zip" in header:
        raise UnauthenticatedError("the token's header asks for an extension that is not supported")


def _strict_json(token: str) -> None:
    """Refuse a header or payload that is no plain JSON: PyJWT also takes UTF-16, a BOM and ``NaN``."""

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON")

    for part in token.split(".")[:2]:
        json.loads(jwt.utils.base64url_decode(part).decode("utf-8"), parse_constant=refuse)


def _time(claims: dict[str, Any], name: str) -> float:
    value = claims.get(name)
    # RFC 7519, section 2: a NumericDate is a JSON number; PyJWT also takes digits in a string.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_INTEGER:
        raise UnauthenticatedError(f"the token's {name} is no time in seconds")
    return float(value)


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    """Return the scopes, from ``scope`` (RFC 8693, section 4.2) or ``scp``, as a string or a list."""
    found: set[str] = set()
    for name in ("scope", "scp"):
        value = claims.get(name)
        if isinstance(value, str):
            found.update(value.split(" "))
        elif isinstance(value, list):
            found.update(entry for entry in value if isinstance(entry, str))
    return frozenset(found - {""})

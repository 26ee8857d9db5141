"""What the claims of an access token must be, and whom they name: one rule for JWTs and for introspected tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from prefsync.document import Identity, Subject
from prefsync.errors import ConfigurationError, UnauthenticatedError
from prefsync.strictjson import MAX_INTEGER

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ACCESS_TYPE", "ClaimRules", "VerifiedToken"]

# protocol.md section 2, "Tokens".
MAX_LEEWAY: Final = 60

# The media type of JWT access tokens, without "application/" (RFC 9068, section 2.1).
ACCESS_TYPE: Final = "at+jwt"

# How issuers that give tokens of several kinds the same form name this kind (Amazon Cognito, Ory Hydra).
_ACCESS_USES: Final = frozenset({"access", "access_token"})


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """What is known of a token that was verified.

    Attributes:
        identity: For whom it speaks; the leeway is part of its expiry.
        token_id: Its ``jti``, where it has one.
        issued_at: Its ``iat``, in seconds since 1970, where it has one.
    """

    identity: Identity
    token_id: str | None = None
    issued_at: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimRules:
    """What a host asks of a token's claims.

    Attributes:
        issuer: What ``iss`` must be, if anything.
        audience: What ``aud`` must name, if anything.
        leeway: Seconds by which clocks may differ, at most 60.
        tenant_claim: Where the tenant is; a token without it is then refused.
        profile: ``at+jwt`` where tokens must keep RFC 9068.

    Raises:
        ConfigurationError: The rules cannot be kept.
    """

    issuer: str | None = None
    audience: str | None = None
    leeway: int = 30
    tenant_claim: str | None = None
    profile: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.leeway <= MAX_LEEWAY:
            raise ConfigurationError(
                f"PREFSYNC_JWT_LEEWAY: the leeway is {self.leeway} s; it must lie between 0 and {MAX_LEEWAY}"
            )
        if self.profile not in {None, ACCESS_TYPE}:
            raise ConfigurationError(
                f"PREFSYNC_JWT_PROFILE: there is no profile {self.profile!r}; write {ACCESS_TYPE},"
                " or leave it unset"
            )
        if self.profile is not None and (self.issuer is None or self.audience is None):
            # RFC 9068, section 4.
            raise ConfigurationError(
                f"PREFSYNC_JWT_PROFILE={self.profile} needs PREFSYNC_JWT_ISSUER and PREFSYNC_JWT_AUDIENCE"
            )

    def read(self, claims: Mapping[str, Any], now: float) -> VerifiedToken:
        """Return what claims say that an issuer vouches for.

        Args:
            claims: As JSON has them.
            now: Seconds since 1970.

        Raises:
            UnauthenticatedError: They break a rule; the message repeats none of them.
        """
        if self.issuer is not None and claims.get("iss") != self.issuer:
            raise UnauthenticatedError(
                "the token is not from the issuer that is trusted here (iss; PREFSYNC_JWT_ISSUER has to be equal to it)"
            )
        if self.audience is not None and not _names(claims.get("aud"), self.audience):
            raise UnauthenticatedError(
                "the token is not meant for this service (aud; PREFSYNC_JWT_AUDIENCE has to be among it)"
            )
        use = claims.get("token_use", "access")
        if not isinstance(use, str) or use not in _ACCESS_USES:
            # RFC 8725, section 3.12: a token of another kind must not pass for this one.
            raise UnauthenticatedError("the token is no access token (token_use)")
        if self.profile is not None:
            self._check_profile(claims)
        expires_at = _time(claims, "exp") + self.leeway
        if expires_at <= now:
            raise UnauthenticatedError(
                "the token has expired; if it is new, the clock here is ahead of that of who issued it"
            )
        for name in ("nbf", "iat"):
            if name in claims and _time(claims, name) > now + self.leeway:
                raise UnauthenticatedError(
                    f"the token is not valid yet ({name}): the clock here is behind that of who issued it"
                )
        identity = Identity(self._subject(claims), _scopes(claims), expires_at)
        token_id = claims.get("jti")
        return VerifiedToken(
            identity,
            token_id if isinstance(token_id, str) else None,
            _time(claims, "iat") if "iat" in claims else None,
        )

    def _check_profile(self, claims: Mapping[str, Any]) -> None:
        """Ask for what RFC 9068, section 2.2, requires, as far as it is not asked for anyway."""
        for name in ("client_id", "jti"):
            if not isinstance(claims.get(name), str) or not claims[name]:
                raise UnauthenticatedError(f"the token's {name} is missing, or no string")
        _time(claims, "iat")

    def _subject(self, claims: Mapping[str, Any]) -> Subject:
        tenant = None
        if self.tenant_claim is not None:
            tenant = claims.get(self.tenant_claim)
            if not isinstance(tenant, str):
                raise UnauthenticatedError(f"the token has no {self.tenant_claim}")
        try:
            return Subject(claims.get("sub"), tenant)  # type: ignore[arg-type]  # which it checks
        except ValueError as error:
            raise UnauthenticatedError(f"the token does not name its user: {error}") from None


def _names(claimed: object, audience: str) -> bool:
    """Tell whether ``aud`` names an audience (RFC 7519, section 4.1.3); one that is no string spoils the list."""
    if isinstance(claimed, list):
        return audience in claimed and all(isinstance(name, str) for name in claimed)
    return claimed == audience


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    # RFC 7519, section 2: a NumericDate is a JSON number; PyJWT also takes digits in a string.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_INTEGER:
        raise UnauthenticatedError(f"the token's {name} is no time in seconds")
    return float(value)


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """Return the scopes, from ``scope`` (RFC 8693, section 4.2) or ``scp``, as a string or a list."""
    found: set[str] = set()
    for name in ("scope", "scp"):
        value = claims.get(name)
        if isinstance(value, str):
            found.update(value.split(" "))
        elif isinstance(value, list):
            found.update(entry for entry in value if isinstance(entry, str))
    return frozenset(found - {""})

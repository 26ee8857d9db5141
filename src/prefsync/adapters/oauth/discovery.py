"""Finding out where an issuer has its keys (RFC 8414, OpenID Connect Discovery 1.0)."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from prefsync.adapters.oauth.http import IssuerError
from prefsync.urls import check_secure, is_loopback, shown, well_known

if TYPE_CHECKING:
    from prefsync.adapters.oauth.http import IssuerHttp

__all__ = ["discover_keys"]

# The issuer has no metadata in this place, and may have some in another one.
_NOT_HERE: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.METHOD_NOT_ALLOWED})


async def discover_keys(http: IssuerHttp, issuer: str) -> str:
    """Return the URL of an issuer's key set, by its metadata.

    Args:
        http: Asks it.
        issuer: Its identifier, a URL.

    Raises:
        IssuerError: It has no metadata that can be used, or cannot be asked.
    """
    places = (
        f"{issuer.removesuffix('/')}/.well-known/openid-configuration",  # OpenID Connect Discovery 1.0, section 4
        well_known(issuer, "oauth-authorization-server"),  # RFC 8414, section 3
    )
    for place in places:
        try:
            metadata = await http.get(place)
        except IssuerError as error:
            if error.status not in _NOT_HERE:
                raise
            continue
        # RFC 8414, section 3.3: identical, code point for code point, or somebody speaks for another.
        if metadata.get("issuer") != issuer:
            raise IssuerError(f"the metadata at {shown(place)} is of another issuer than {shown(issuer)}")
        return _key_set_url(metadata.get("jwks_uri"), issuer, shown(place))
    raise IssuerError(f"the issuer {shown(issuer)} has metadata in none of {', '.join(map(shown, places))}")


def _key_set_url(url: object, issuer: str, place: str) -> str:
    """Return where the keys are. A distant issuer must not make this machine ask itself."""
    try:
        host = check_secure(url).hostname if isinstance(url, str) else None
    except ValueError as error:
        raise IssuerError(f"the jwks_uri in the metadata at {place} cannot be used: {error}") from None
    if not isinstance(url, str) or host is None:
        raise IssuerError(f"the metadata at {place} has no jwks_uri")
    if is_loopback(host) and not is_loopback(urlsplit(issuer).hostname or ""):
        raise IssuerError(f"the jwks_uri in the metadata at {place} leads to this machine")
    return url

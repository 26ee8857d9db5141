"""What verifies tokens, as the settings name it: a key, an issuer's key set, or the issuer itself; and where one is got."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from prefsync.errors import ConfigurationError
from prefsync.http.resource import ProtectedResource

if TYPE_CHECKING:
    from prefsync.adapters.jwt import JwksKeys
    from prefsync.clock import Clock
    from prefsync.http.options import ApiOptions
    from prefsync.ports import TokenVerifier
    from prefsync.settings import Settings

__all__ = ["build_resource", "build_verifier"]

logger = logging.getLogger("prefsync")


def build_verifier(settings: Settings, clock: Clock) -> TokenVerifier:
    """Return what verifies tokens.

    Raises:
        ConfigurationError: The settings name nothing that could.
    """
    if settings.jwt_audience is None and settings.jwt_key is None:
        logger.warning(
            "PREFSYNC_JWT_AUDIENCE is not set: tokens that the issuer gave out for other services are taken too"
        )
    if settings.introspection_url is not None:
        from prefsync.adapters.oauth import IntrospectionVerifier

        return IntrospectionVerifier(
            settings.introspection_url,
            client_id=settings.introspection_client_id or "",
            client_secret=settings.introspection_client_secret or "",
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
            leeway=settings.jwt_leeway,
            tenant_claim=settings.jwt_tenant_claim,
            clock=clock,
        )
    key = _published_keys(settings, clock) or settings.jwt_key
    if key is None:
        raise ConfigurationError(
            "PREFSYNC_JWT_KEY is not set, so no token can be verified; set a shared secret"
            ' (python -c "import secrets; print(secrets.token_urlsafe(48))") or a public key,'
            " name your issuer (PREFSYNC_JWT_ISSUER with PREFSYNC_JWT_DISCOVERY=true, or PREFSYNC_JWKS_URL),"
            " or hand over your own authentication (authenticate=)"
        )
    from prefsync.adapters.jwt import JwtVerifier

    return JwtVerifier(
        key,
        algorithms=settings.jwt_algorithms,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        leeway=settings.jwt_leeway,
        tenant_claim=settings.jwt_tenant_claim,
        profile=settings.jwt_profile,
        clock=clock,
    )


def build_resource(settings: Settings, options: ApiOptions) -> ProtectedResource | None:
    """Return what clients are told about the mount, where the settings say what it is called."""
    if settings.resource_url is None:
        return None
    issuer = settings.jwt_issuer
    is_url = issuer is not None and issuer.startswith(("https://", "http://"))
    scopes = (options.read_scope, options.write_scope)
    return ProtectedResource(settings.resource_url, [issuer] if issuer and is_url else [], scopes)


def _published_keys(settings: Settings, clock: Clock) -> JwksKeys | None:
    """Return the issuer's key set, where the settings ask for that."""
    if settings.jwks_url is None and not settings.jwt_discovery:
        return None
    from prefsync.adapters.jwt import JwksKeys
    from prefsync.adapters.oauth.discovery import discover_keys
    from prefsync.adapters.oauth.http import IssuerHttp

    http = IssuerHttp()
    where = settings.jwks_url or partial(discover_keys, http, settings.jwt_issuer or "")
    return JwksKeys(where, http=http, clock=clock)

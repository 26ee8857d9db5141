"""``token``: a token for development."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

from prefsync.cli.ends import Exit, RefusedError
from prefsync.cli.subjects import subject_of
from prefsync.http.options import ApiOptions

if TYPE_CHECKING:
    from argparse import Namespace

    from prefsync.cli.printing import Printer
    from prefsync.cli.target import Target
    from prefsync.document import Subject
    from prefsync.settings import Settings

__all__ = ["token"]


def token(target: Target, given: Namespace, printer: Printer) -> Exit:
    """Print a token that the app takes, signed with PREFSYNC_JWT_KEY: where there is no issuer yet."""
    settings = target.settings
    algorithm = settings.jwt_algorithms[0] if settings.jwt_algorithms else ""
    if settings.jwt_key is None or not algorithm.startswith("HS"):
        raise RefusedError(
            "tokens can be made for a shared secret alone: set PREFSYNC_JWT_KEY to one (HS256), or ask your issuer for one"
        )
    from prefsync.adapters.jwt.minting import sign

    options = ApiOptions()
    scope = f"{options.read_scope} {options.write_scope}" if given.scope is None else given.scope
    life = given.minutes * 60
    claims = _claims(settings, subject_of(given.user, given.tenant), scope, life)
    made = sign(claims, settings.jwt_key, algorithm=algorithm, kind=settings.jwt_profile or "JWT")
    if not printer.as_json:
        printer.note(f"for development; good for {given.minutes} minutes, for {scope}")
    printer.result({"token": made, "expires_in": life, "scope": scope}, [made])
    return Exit.OK


def _claims(settings: Settings, subject: Subject, scope: str, life: int) -> dict[str, Any]:
    now = int(time.time())
    claims: dict[str, Any] = {"sub": subject.user, "scope": scope, "iat": now, "exp": now + life}
    if settings.jwt_issuer is not None:
        claims["iss"] = settings.jwt_issuer
    if settings.jwt_audience is not None:
        claims["aud"] = settings.jwt_audience
    if subject.tenant is not None and settings.jwt_tenant_claim is None:
        raise RefusedError("PREFSYNC_JWT_TENANT_CLAIM is not set: this app's tokens name no tenant")
    if settings.jwt_tenant_claim is not None:
        if subject.tenant is None:
            raise RefusedError("this app's tokens name a tenant: add --tenant")
        claims[settings.jwt_tenant_claim] = subject.tenant
    if settings.jwt_profile is not None:  # RFC 9068, section 2.2
        claims |= {"client_id": "prefsync-cli", "jti": secrets.token_hex(8)}
    return claims

"""What the example apps show in a browser: the demo page and, started by ``demo.py`` alone, users to sign in as.

No framework is named here. Every function returns ``(body, status, headers)``, which FastAPI's ``Response`` and Flask's
take in this order.
"""

from __future__ import annotations

import hmac
import json
import os
import time
from pathlib import Path
from typing import Final

USERS: Final = ("alice", "bob", "carol")

KEY_VARIABLE: Final = "DEMO_TOKEN_KEY"
"""Where ``demo.py`` puts the random key that it made: tokens are signed with this one and never with a host's."""

TOKEN_LIFE: Final = 120
"""Seconds; short, so that a page that is looked at for a while shows how a token is renewed."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""The page's Content-Security-Policy: its own files, and no script or style that is not a file."""

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# Looked up by name and never by path: what is not in the folder cannot be asked for.
_FILES: Final = {
    file.name: (file.read_bytes(), _TYPES[file.suffix])
    for file in (Path(__file__).parent / "demo_page").iterdir()
    if file.suffix in _TYPES
}

Reply = tuple[bytes, int, dict[str, str]]


def page_file(name: str) -> Reply:
    """Return one of the page's files, ``index.html`` for the page itself."""
    if name not in _FILES:
        return _json({"detail": "There is no such file."}, 404)
    body, content_type = _FILES[name]
    headers = {
        "Content-Type": content_type,
        "Cache-Control": "no-cache",
        "Content-Security-Policy": POLICY,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return body, 200, headers


def users() -> Reply:
    """Return who can sign in: nobody, where tokens come from elsewhere."""
    return _json({"users": USERS if signing_key() else ()})


def token(body: bytes) -> Reply:
    """Return a token for the user that a request names, where this is the demo."""
    key = signing_key()
    if key is None:
        return _json({"detail": "Tokens come from elsewhere."}, 404)
    try:
        user = json.loads(body)["user"]
    except (ValueError, KeyError, TypeError):
        user = None
    if user not in USERS:
        return _json({"detail": f"user must be one of {', '.join(USERS)}"}, 422)
    return _json({"token": mint(user, key, TOKEN_LIFE), "expires_in": TOKEN_LIFE})


def signing_key() -> str | None:
    """Return the demo's key, or nothing where this app was not started by ``demo.py``.

    It must be the very key that tokens are verified with: an app that has a host's key mints none.
    """
    key = os.environ.get(KEY_VARIABLE, "")
    verified_with = os.environ.get("PREFSYNC_JWT_KEY", "")
    return key if key and hmac.compare_digest(key.encode(), verified_with.encode()) else None


def mint(user: str, key: str, life: int) -> str:
    """Make an access token, as an authorization server would; ``life`` is in seconds."""
    import jwt

    now = int(time.time())
    claims = {"sub": user, "iat": now, "exp": now + life, "scope": "preferences:read preferences:write"}
    return jwt.encode(claims, key, algorithm="HS256")


def _json(value: object, status: int = 200) -> Reply:
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return json.dumps(value).encode(), status, headers

"""A tiny OpenID-Connect-like issuer of access tokens, for ``tenants_app.py`` and for tests of your own: never for the world.

It has what an API needs of an issuer: a discovery document, a key set, and tokens that name the user (``sub``) and the
tenant (``tid``). It signs for whomever it is asked, where a real one shows a log-in page.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

TENANTS = ("acme", "globex")

LIFE = 600
"""Seconds that a token is good for."""


class Issuer:
    """Serves on this machine, in a thread, as long as the context is open.

    Args:
        audience: What its tokens are for.
        port: 0 takes one that is free.

    Attributes:
        url: Its name, as it stands in ``iss``.
    """

    def __init__(self, audience: str, port: int = 0) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._audience = audience
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def token(self, user: str, tenant: str, scope: str = "preferences:read preferences:write") -> str:
        """Sign an access token as RFC 9068 has it."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": self._audience,
            "sub": user,
            "tid": tenant,
            "scope": scope,
            "iat": now,
            "exp": now + LIFE,
            "client_id": "demo",
            "jti": secrets.token_urlsafe(),
        }
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": "1", "typ": "at+jwt"})

    def documents(self) -> dict[str, Any]:
        """Return what it publishes, by path."""
        key = ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {
            "/.well-known/openid-configuration": {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/keys",
                "token_endpoint": f"{self.url}/token",
                "response_types_supported": ["token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            },
            "/keys": {"keys": [{**key, "kid": "1", "use": "sig", "alg": "ES256"}]},
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                document = issuer.documents().get(self.path)
                self._answer(200 if document else 404, document or {"error": "not_found"})

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                user, tenant = form.get("username", [""])[0], form.get("tenant", [""])[0]
                if self.path != "/token" or not user or tenant not in TENANTS:
                    self._answer(400, {"error": "invalid_request"})
                    return
                token = issuer.token(user, tenant)
                self._answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": LIFE})

            def _answer(self, status: int, document: object) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base names it
                """Say nothing: a token's request is nobody's to read."""

        return Handler

"""An issuer for tests: an authorization server in a thread, with real keys and real HTTP, that can be put to every test."""

from __future__ import annotations

import json
import threading
from collections import Counter
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from prefsync.testing import TokenMint

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

KEYS = "/keys"
METADATA = "/.well-known/openid-configuration"
INTROSPECTION = "/introspect"


@cache
def private_key(algorithm: str, name: str = "") -> Any:
    """Make a key once a run; other names have other keys."""
    del name
    match algorithm:
        case "RS256" | "PS256":
            return rsa.generate_private_key(65537, 2048)
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ES384":
            return ec.generate_private_key(ec.SECP384R1())
        case _:
            return ed25519.Ed25519PrivateKey.generate()


def public_jwk(algorithm: str, name: str, **changes: Any) -> dict[str, Any]:
    """Return a key as an issuer publishes it, with some members changed; those set to ``...`` are left out."""
    signer = jwt.algorithms.get_default_algorithms()[algorithm]
    members = signer.to_jwk(private_key(algorithm, name).public_key(), as_dict=True)
    members = {**members, "kid": name, "use": "sig", "alg": algorithm, **changes}
    return {member: value for member, value in members.items() if value is not ...}


def private_jwk(algorithm: str, name: str) -> dict[str, Any]:
    """Return a key as an issuer must never publish it: whoever reads it can sign."""
    signer = jwt.algorithms.get_default_algorithms()[algorithm]
    members = signer.to_jwk(private_key(algorithm, name), as_dict=True)
    return {**members, "kid": name, "use": "sig", "alg": algorithm}


class Issuer:
    """Answers as it is told, and counts how often it was asked.

    Args:
        tls: How it speaks TLS, if it does.

    Attributes:
        asked: How often each path was.
        forms: What was posted.
        authorizations: By whom.
        held: While this is clear, nobody is answered.
        answers: What is answered, by path: a value to be written as JSON, or a function of the connection.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.asked: Counter[str] = Counter()
        self.forms: list[dict[str, list[str]]] = []
        self.authorizations: list[str | None] = []
        self.held = threading.Event()
        self.held.set()
        self.answers: dict[str, Any] = {}
        self._server = self._listen(0)
        self.port: int = self._server.server_address[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self.publish(("ES256", "first"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.held.set()
        self.stop()

    def mint(self, algorithm: str = "ES256", name: str = "first", **header: Any) -> TokenMint:
        """Return what signs with one of the issuer's keys, and names it."""
        signer = jwt.algorithms.get_default_algorithms()[algorithm]
        key = private_key(algorithm, name)
        return NamingMint(algorithm, lambda text: signer.sign(text, key), {"kid": name, **header})

    def publish(self, *keys: tuple[str, str]) -> None:
        """Publish keys, and no others."""
        self.answers[KEYS] = {"keys": [public_jwk(algorithm, name) for algorithm, name in keys]}

    def stop(self) -> None:
        """Be out of reach."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def start(self) -> None:
        """Be in reach again, at the same address."""
        self._server = self._listen(self.port)

    def _listen(self, port: int) -> Any:
        server = _Server(("127.0.0.1", port), self)
        if self._tls is not None:
            server.socket = self._tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server


class NamingMint(TokenMint):
    """Names its key in each header."""

    def __init__(self, algorithm: str, sign: Callable[[bytes], bytes], naming: dict[str, Any]) -> None:
        super().__init__(algorithm, sign, "public")
        object.__setattr__(self, "naming", naming)

    def header(self, **changes: Any) -> dict[str, Any]:
        """Return a good header with some members changed."""
        members = super().header(**{**self.naming, **changes})  # type: ignore[attr-defined]
        return {name: value for name, value in members.items() if value is not ...}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 512

    def __init__(self, address: tuple[str, int], issuer: Issuer) -> None:
        self.issuer = issuer
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that have gone."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        """Answer what is at a path."""
        self._answer()

    def do_POST(self) -> None:
        """Note a form, and answer what is at a path."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.issuer.forms.append(parse_qs(body.decode()))
        self.server.issuer.authorizations.append(self.headers["Authorization"])
        self._answer()

    def _answer(self) -> None:
        issuer = self.server.issuer
        path = self.path.partition("?")[0]
        issuer.asked[path] += 1
        issuer.held.wait(20)
        answer = issuer.answers.get(path)
        if callable(answer):
            answer(self)
        elif answer is None:
            self.reply(404, b"{}")
        else:
            self.reply(200, json.dumps(answer).encode())

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        """Send an answer."""
        self.send_response(status)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {"Content-Length": str(len(body)), **named}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

"""Tokens good and hostile, made by hand: no library would make most of these."""

from __future__ import annotations

import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

__all__ = ["AUDIENCE", "HOSTILE_TOKENS", "ISSUER", "TENANT_CLAIM", "TokenMint", "hmac_sha256"]

Signer: TypeAlias = Callable[[bytes], bytes]

ISSUER: Final = "https://issuer.example"
AUDIENCE: Final = "https://preferences.example"
TENANT_CLAIM: Final = "org"


def hmac_sha256(secret: str | bytes) -> Signer:
    """Return a signer for ``HS256`` (RFC 7518, section 3.2)."""
    key = secret.encode() if isinstance(secret, str) else secret
    return lambda message: hmac.digest(key, message, "sha256")


def segment(data: bytes) -> str:
    """Encode a part of a token (RFC 7515, section 2)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class TokenMint:
    """Makes tokens that an issuer signs, well-formed or not.

    Args:
        algorithm: As the header names it.
        sign: The issuer's signature of a message.
        public_key: The verifier's key as text where it is public, for those who mistake it for a secret.
        now: Seconds since 1970, by the verifier's clock.
    """

    algorithm: str
    sign: Signer
    public_key: str | None = None
    now: Callable[[], float] = field(default=time.time)

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return good claims with some of them changed; those set to ``...`` are left out."""
        now = int(self.now())
        good = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "user-1",
            TENANT_CLAIM: "acme",
            "scope": "preferences:read preferences:write",
            "iat": now,
            "exp": now + 600,
        }
        return {name: value for name, value in {**good, **changes}.items() if value is not ...}

    def header(self, **changes: Any) -> dict[str, Any]:
        """Return a good header with some members changed."""
        return {"alg": self.algorithm, "typ": "JWT", **changes}

    def token(self, *, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
        """Return a token with good claims, some of them changed, well signed."""
        return self.raw(json.dumps(self.claims(**changes)).encode(), header=header)

    def raw(
        self,
        payload: bytes,
        *,
        header: Mapping[str, Any] | bytes | None = None,
        sign: Signer | None = None,
    ) -> str:
        """Return a token of any bytes.

        Args:
            payload: What to say, JSON or not.
            header: Changes to the good header, or the header's bytes.
            sign: Another signature than the issuer's.
        """
        head = header if isinstance(header, bytes) else json.dumps(self.header(**(header or {}))).encode()
        message = f"{segment(head)}.{segment(payload)}"
        return f"{message}.{segment((sign or self.sign)(message.encode()))}"

    def saying(self, old: str, new: str) -> str:
        """Return a well-signed token of good claims in whose text something was replaced, JSON or not."""
        text = json.dumps(self.claims(sub="SUB", exp="EXP"), separators=(",", ":"))
        text = text.replace('"EXP"', "EXP")
        assert old in text, f"{old} is not in {text}"
        text = text.replace(old, new)
        text = text.replace("EXP", str(int(self.now()) + 600)).replace("SUB", "user-1")
        return self.raw(text.encode("utf-8", "surrogatepass"))


def _resigned(mint: TokenMint, *, algorithm: str, sign: Signer, **header: Any) -> str:
    payload = json.dumps(mint.claims()).encode()
    return mint.raw(payload, header={"alg": algorithm, **header}, sign=sign)


def _public_key_as_secret(mint: TokenMint) -> str:
    return _resigned(mint, algorithm="HS256", sign=hmac_sha256(mint.public_key or "public"))


def _with_parts(mint: TokenMint, change: Callable[[list[str]], list[str]]) -> str:
    return ".".join(change(mint.token().split(".")))


def _another_payload(mint: TokenMint) -> str:
    return _with_parts(mint, lambda p: [p[0], mint.token(sub="somebody-else").split(".")[1], p[2]])


def _flipped(mint: TokenMint) -> str:
    def flip(parts: list[str]) -> list[str]:
        return [parts[0], parts[1], ("A" if parts[2][0] != "A" else "B") + parts[2][1:]]

    return _with_parts(mint, flip)


_UNSIGNED: Final[Signer] = lambda _message: b""  # noqa: E731  # a constant, not a helper

_JWK: Final = {"kty": "oct", "k": segment(b"x" * 32)}


def _registered_claims() -> dict[str, Callable[[TokenMint], str]]:
    """Return tokens whose claims are missing, of the wrong type or out of range."""
    cases: dict[str, Callable[[TokenMint], str]] = {}
    values: dict[str, list[tuple[str, Any]]] = {
        "sub": [
            ("missing", ...),
            ("null", None),
            ("empty", ""),
            ("number", 17),
            ("true", True),
            ("list", ["user-1"]),
            ("object", {"id": "user-1"}),
            ("256 characters", "x" * 256),
            ("NUL", "user\x00"),
            ("line break", "user\n1"),
            ("escape", "\x1b[31m"),
            ("C1 control", "user\x85"),
            ("half a pair", "\ud800"),
        ],
        "exp": [
            ("missing", ...),
            ("null", None),
            ("string", "9999999999"),
            ("word", "never"),
            ("true", True),
            ("list", [9999999999]),
            ("object", {}),
            ("zero", 0),
            ("negative", -1),
            ("long ago", 1_000_000_000),
            ("milliseconds beyond reason", 1e300),
            ("401 digits", 10**400),
            ("4,400 digits", "DIGITS"),
        ],
        "nbf": [
            ("in the future", 99_999_999_999),
            ("string", "0"),
            ("true", True),
            ("null", None),
            ("401 digits", 10**400),
        ],
        "iat": [("in the future", 99_999_999_999), ("string", "0"), ("list", []), ("401 digits", -(10**400))],
        "iss": [
            ("missing", ...),
            ("null", None),
            ("another", "https://other.example"),
            ("prefix", ISSUER[:-1]),
            ("longer", ISSUER + "/"),
            ("upper case", ISSUER.upper()),
            ("list", [ISSUER]),
            ("number", 1),
        ],
        "aud": [
            ("missing", ...),
            ("null", None),
            ("another", "https://other.example"),
            ("prefix", AUDIENCE[:-1]),
            ("empty list", []),
            ("list of others", ["https://other.example", 1]),
            ("number", 1),
            ("object", {AUDIENCE: True}),
        ],
        TENANT_CLAIM: [
            ("missing", ...),
            ("null", None),
            ("empty", ""),
            ("number", 1),
            ("list", ["acme"]),
            ("256 characters", "x" * 256),
            ("NUL", "acme\x00"),
        ],
    }
    for claim, wrong in values.items():
        for what, value in wrong:
            if value == "DIGITS":
                cases[f"{claim}: {what}"] = lambda mint: mint.saying('"exp":EXP', '"exp":1' + "0" * 4_400)
            else:
                cases[f"{claim}: {what}"] = lambda mint, claim=claim, value=value: mint.token(
                    **{claim: value}
                )  # type: ignore[misc]
    return cases


HOSTILE_TOKENS: Final[Mapping[str, Callable[[TokenMint], str]]] = {
    **_registered_claims(),
    # What JSON is not, or is not in UTF-8; all well signed.
    "payload: exp NaN": lambda mint: mint.saying("EXP", "NaN"),
    "payload: exp Infinity": lambda mint: mint.saying("EXP", "Infinity"),
    "payload: exp -Infinity": lambda mint: mint.saying("EXP", "-Infinity"),
    "payload: exp 1e999": lambda mint: mint.saying("EXP", "1e999"),
    "payload: NaN elsewhere": lambda mint: mint.saying('"scope":', '"x":NaN,"scope":'),
    "payload: UTF-16": lambda mint: mint.raw(json.dumps(mint.claims()).encode("utf-16")),
    "payload: UTF-16 without a BOM": lambda mint: mint.raw(json.dumps(mint.claims()).encode("utf-16-le")),
    "payload: UTF-32": lambda mint: mint.raw(json.dumps(mint.claims()).encode("utf-32")),
    "payload: a BOM": lambda mint: mint.raw(json.dumps(mint.claims()).encode("utf-8-sig")),
    "payload: Latin-1": lambda mint: mint.raw(
        json.dumps(mint.claims(sub="é"), ensure_ascii=False).encode("latin-1")
    ),
    "payload: a surrogate in bytes": lambda mint: mint.saying("SUB", "\ud800"),
    "payload: nothing": lambda mint: mint.raw(b""),
    "payload: null": lambda mint: mint.raw(b"null"),
    "payload: list": lambda mint: mint.raw(b"[]"),
    "payload: string": lambda mint: mint.raw(b'"sub"'),
    "payload: number": lambda mint: mint.raw(b"1"),
    "payload: broken": lambda mint: mint.raw(b'{"sub":"user-1"'),
    "payload: garbage": lambda mint: mint.raw(bytes(range(256))),
    "payload: trailing text": lambda mint: mint.raw(json.dumps(mint.claims()).encode() + b"{}"),
    "payload: deep": lambda mint: mint.raw(b'{"a":' + b"[" * 2_500 + b"]" * 2_500 + b"}"),
    # Headers that ask for something else.
    "alg: none": lambda mint: _resigned(mint, algorithm="none", sign=_UNSIGNED),
    "alg: None": lambda mint: _resigned(mint, algorithm="None", sign=_UNSIGNED),
    "alg: nOnE, signed": lambda mint: _resigned(mint, algorithm="nOnE", sign=mint.sign),
    "alg: none, signed": lambda mint: _resigned(mint, algorithm="none", sign=mint.sign),
    "alg: empty": lambda mint: _resigned(mint, algorithm="", sign=mint.sign),
    "alg: unknown": lambda mint: _resigned(mint, algorithm="XX256", sign=mint.sign),
    "alg: lower case": lambda mint: _resigned(mint, algorithm=mint.algorithm.lower(), sign=mint.sign),
    "alg: number": lambda mint: mint.token(header={"alg": 1}),
    "alg: list": lambda mint: mint.token(header={"alg": [mint.algorithm]}),
    "alg: null": lambda mint: mint.token(header={"alg": None}),
    "alg: missing": lambda mint: mint.raw(json.dumps(mint.claims()).encode(), header=b'{"typ":"JWT"}'),
    "alg: another of its kind": lambda mint: mint.token(header={"alg": mint.algorithm[:2] + "384"}),
    "alg: HS256 by the public key": _public_key_as_secret,
    "alg: HS256 by an empty secret": lambda mint: _resigned(mint, algorithm="HS256", sign=hmac_sha256("")),
    "alg: HS256 by another secret": lambda mint: _resigned(
        mint, algorithm="HS256", sign=hmac_sha256("s" * 32)
    ),
    "alg: RS256 by nonsense": lambda mint: _resigned(mint, algorithm="RS256", sign=lambda _: b"x" * 256),
    "alg: ES256 by zeros": lambda mint: _resigned(mint, algorithm="ES256", sign=lambda _: bytes(64)),
    "header: crit": lambda mint: mint.token(header={"crit": ["exp"]}),
    "header: crit of an unknown": lambda mint: mint.token(header={"crit": ["x"], "x": 1}),
    "header: crit empty": lambda mint: mint.token(header={"crit": []}),
    "header: crit null": lambda mint: mint.token(header={"crit": None}),
    "header: crit string": lambda mint: mint.token(header={"crit": "exp"}),
    "header: crit of lists": lambda mint: mint.token(header={"crit": [["x"]]}),
    "header: crit b64": lambda mint: mint.token(header={"crit": ["b64"], "b64": False}),
    "header: zip": lambda mint: mint.token(header={"zip": "DEF"}),
    "header: its own key": lambda mint: _resigned(
        mint, algorithm="HS256", sign=hmac_sha256("x" * 32), jwk=_JWK
    ),
    "header: an address of keys": lambda mint: _resigned(
        mint,
        algorithm="HS256",
        sign=hmac_sha256("x" * 32),
        jku="http://127.0.0.1:9/keys",
        kid="../../dev/null",
    ),
    "header: kid number": lambda mint: mint.token(header={"kid": 1}),
    "header: nothing": lambda mint: mint.raw(b"{}", header=b""),
    "header: list": lambda mint: mint.raw(json.dumps(mint.claims()).encode(), header=b"[]"),
    "header: garbage": lambda mint: mint.raw(json.dumps(mint.claims()).encode(), header=bytes(range(256))),
    "header: UTF-16": lambda mint: mint.raw(
        json.dumps(mint.claims()).encode(), header=json.dumps(mint.header()).encode("utf-16")
    ),
    # Signatures.
    "signature: missing": lambda mint: _with_parts(mint, lambda p: [p[0], p[1], ""]),
    "signature: cut": lambda mint: _with_parts(mint, lambda p: [p[0], p[1], p[2][:-2]]),
    "signature: changed": _flipped,
    "signature: longer": lambda mint: _with_parts(mint, lambda p: [p[0], p[1], p[2] + "AAAA"]),
    "signature: of another payload": _another_payload,
    "signature: padded": lambda mint: mint.token() + "=",
    "signature: with a stray character": lambda mint: _with_parts(
        mint, lambda p: [p[0], p[1], p[2][:4] + "!" + p[2][4:]]
    ),
    "signature: with a line break": lambda mint: mint.token() + "\n",
    # No tokens at all.
    "text: empty": lambda _: "",
    "text: one part": lambda _: "abc",
    "text: two parts": lambda mint: ".".join(mint.token().split(".")[:2]),
    "text: four parts": lambda mint: mint.token() + ".abc",
    "text: five parts": lambda mint: mint.token() + ".abc.def",
    "text: dots": lambda _: "..",
    "text: many dots": lambda _: "." * 5_000,
    "text: NUL": lambda mint: mint.token() + "\x00",
    "text: not ASCII": lambda mint: "é" + mint.token(),
    "text: astral": lambda _: "\U0001f600.\U0001f600.\U0001f600",
    "text: low surrogate": lambda _: "\udcff.\udcff.\udcff",
    "text: high surrogate": lambda _: "\ud800.\ud800.\ud800",
    "text: spaces": lambda mint: " " + mint.token(),
    "text: too long": lambda mint: mint.token(padding="x" * 9_000),
    "text: far too long": lambda _: "x" * 1_000_000,
    "text: basic credentials": lambda _: "dXNlcjpwYXNzd29yZA==",
    "text: JSON serialization": lambda mint: json.dumps(
        {"payload": mint.token().split(".")[1], "signatures": []}
    ),
}
"""Tokens that no verifier may take, by what is wrong with them: functions of a mint that make them when they are run."""

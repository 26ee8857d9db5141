"""Headers that ask for another algorithm, bring a key along, or demand to be understood."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from prefsync.testing.hostile_tokens.cases import HostileToken, resigned, with_header
from prefsync.testing.tokens import hmac_sha256, segment

if TYPE_CHECKING:
    from prefsync.testing.hostile_tokens.cases import Make
    from prefsync.testing.tokens import TokenMint

__all__ = ["HEADERS"]

_SECRET: Final = b"x" * 32
_JWK: Final = {"kty": "oct", "k": segment(_SECRET)}

_UNSIGNED: Final = "tokens without a signature (RFC 8725, section 2.1)"
_CHOSEN: Final = "whoever writes the token must not choose the algorithm (RFC 8725, section 3.1)"
_CONFUSED: Final = "the public key taken for a shared secret (RFC 8725, section 2.1; CVE-2022-29217)"
_OWN_KEY: Final = "a token that brings the key that it is verified with (RFC 8725, section 3.5)"
_FETCHED: Final = (
    "a token that says where to fetch its key, and so whom this server asks (RFC 8725, section 3.10)"
)
_CRITICAL: Final = (
    "what a token demands to be understood is refused (RFC 7515, section 4.1.11; CVE-2026-32597)"
)
_PACKED: Final = "nothing is decompressed (RFC 8725, section 3.6)"
_UNENCODED: Final = "another text than the one that was signed (RFC 7797, section 6)"
_TYPED: Final = "a token of another kind that the same key has signed (RFC 8725, section 3.11)"
_KEY_ID: Final = "a key id that is a path, a query or no text (RFC 8725, section 3.10)"
_NO_OBJECT: Final = "a header is a JSON object in UTF-8 (RFC 7515, section 4)"
_TWICE: Final = "two parsers, two algorithms (RFC 7515, section 4)"


def _nothing(_message: bytes) -> bytes:
    return b""


def _by_public_key(mint: TokenMint) -> str:
    return resigned("HS256", hmac_sha256(mint.public_key or "public"))(mint)


def _by_stripped_public_key(mint: TokenMint) -> str:
    return resigned("HS256", hmac_sha256((mint.public_key or "public").strip()))(mint)


def _sibling(mint: TokenMint) -> str:
    return mint.token(header={"alg": mint.algorithm[:2] + "384"})


def _own(**header: Any) -> Make:
    return resigned("HS256", hmac_sha256(_SECRET), **header)


def _bytes(header: bytes) -> Make:
    return lambda mint: mint.raw(json.dumps(mint.claims()).encode(), header=header)


def _in(encoding: str) -> Make:
    return lambda mint: _bytes(json.dumps(mint.header()).encode(encoding))(mint)


def _with(more: str) -> Make:
    """Return a maker of tokens whose header has more text before its end."""
    return lambda mint: _bytes((json.dumps(mint.header())[:-1] + more + "}").encode())(mint)


def _spelled(change: str) -> Make:
    return lambda mint: mint.token(
        header={"alg": getattr(mint.algorithm, change)() + "x" * (change == "strip")}
    )


HEADERS: Final = [
    HostileToken(name, purpose, make)
    for name, purpose, make in [
        ("alg: none", _UNSIGNED, resigned("none", _nothing)),
        ("alg: None", _UNSIGNED, resigned("None", _nothing)),
        ("alg: NONE", _UNSIGNED, resigned("NONE", _nothing)),
        ("alg: nOnE, signed", _UNSIGNED, with_header(alg="nOnE")),
        ("alg: none, signed", _UNSIGNED, with_header(alg="none")),
        ("alg: none with a space", _UNSIGNED, resigned("none ", _nothing)),
        ("alg: empty", _UNSIGNED, resigned("", _nothing)),
        ("alg: null", _UNSIGNED, with_header(alg=None)),
        ("alg: number", _CHOSEN, with_header(alg=256)),
        ("alg: true", _CHOSEN, with_header(alg=True)),
        ("alg: list", _CHOSEN, with_header(alg=["HS256", "RS256"])),
        ("alg: object", _CHOSEN, with_header(alg={})),
        ("alg: unknown", _CHOSEN, with_header(alg="XS256")),
        ("alg: in lower case", _CHOSEN, _spelled("swapcase")),
        ("alg: with a letter more", _CHOSEN, _spelled("strip")),
        ("alg: another of its kind", _CHOSEN, _sibling),
        ("alg: of encryption", _CHOSEN, with_header(alg="dir", enc="A256GCM")),
        ("alg: by a password", _CHOSEN, with_header(alg="PBES2-HS256+A128KW", p2c=2**31, p2s="AAAA")),
        ("alg: HS256 by the public key", _CONFUSED, _by_public_key),
        ("alg: HS256 by the public key, trimmed", _CONFUSED, _by_stripped_public_key),
        ("alg: HS256 by an empty secret", _CONFUSED, resigned("HS256", hmac_sha256(""))),
        ("alg: HS256 by a NUL", _CONFUSED, resigned("HS256", hmac_sha256(b"\x00"))),
        ("alg: HS256 by another secret", _CONFUSED, resigned("HS256", hmac_sha256("s" * 32))),
        ("alg: RS256 by nonsense", _CHOSEN, resigned("RS256", lambda _: b"x" * 256)),
        ("alg: RS256 by nothing", _CHOSEN, resigned("RS256", lambda _: b"\x00")),
        (
            "alg: ES256 by zeros",
            "the signature of zeros that Java took for any message (CVE-2022-21449)",
            resigned("ES256", lambda _: bytes(64)),
        ),
        ("alg: EdDSA by zeros", _CHOSEN, resigned("EdDSA", lambda _: bytes(64))),
        ("header: crit", _CRITICAL, with_header(crit=["exp"])),
        ("header: crit of an unknown", _CRITICAL, with_header(crit=["x"], x=1)),
        ("header: crit empty", _CRITICAL, with_header(crit=[])),
        ("header: crit null", _CRITICAL, with_header(crit=None)),
        ("header: crit string", _CRITICAL, with_header(crit="exp")),
        ("header: crit of lists", _CRITICAL, with_header(crit=[["x"]])),
        ("header: crit b64", _CRITICAL, with_header(crit=["b64"], b64=False)),
        ("header: b64 false", _UNENCODED, with_header(b64=False)),
        ("header: b64 true", _UNENCODED, with_header(b64=True)),
        ("header: zip", _PACKED, with_header(zip="DEF")),
        ("header: its own key", _OWN_KEY, _own(jwk=_JWK)),
        ("header: its own certificate", _OWN_KEY, _own(x5c=[segment(_SECRET)])),
        ("header: its own thumbprint", _OWN_KEY, _own(x5t=segment(_SECRET))),
        ("header: an address of keys", _FETCHED, _own(jku="http://127.0.0.1:9/keys", kid="../../dev/null")),
        ("header: an address of metadata", _FETCHED, _own(jku="http://169.254.169.254/latest/meta-data/")),
        ("header: an address of certificates", _FETCHED, _own(x5u="file:///etc/passwd")),
        ("header: kid number", _KEY_ID, with_header(kid=1)),
        ("header: kid null", _KEY_ID, with_header(kid=None)),
        ("header: kid list", _KEY_ID, with_header(kid=["k"])),
        ("header: kid is a path", _KEY_ID, resigned("HS256", hmac_sha256(""), kid="/dev/null")),
        ("header: kid is a query", _KEY_ID, _own(kid="x' UNION SELECT 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")),
        ("header: typ of a logout token", _TYPED, with_header(typ="logout+jwt")),
        ("header: typ of a DPoP proof", _TYPED, with_header(typ="dpop+jwt")),
        ("header: typ of a security event", _TYPED, with_header(typ="secevent+jwt")),
        ("header: typ of an introspection answer", _TYPED, with_header(typ="token-introspection+jwt")),
        ("header: typ of a request object", _TYPED, with_header(typ="oauth-authz-req+jwt")),
        ("header: typ of client authentication", _TYPED, with_header(typ="client-authentication+jwt")),
        ("header: typ of an encrypted token", _TYPED, with_header(typ="JOSE+JSON")),
        ("header: typ empty", _TYPED, with_header(typ="")),
        ("header: typ null", _TYPED, with_header(typ=None)),
        ("header: typ number", _TYPED, with_header(typ=1)),
        ("header: typ list", _TYPED, with_header(typ=["JWT"])),
        ("header: nothing", _NO_OBJECT, _bytes(b"{}")),
        ("header: list", _NO_OBJECT, _bytes(b"[]")),
        ("header: null", _NO_OBJECT, _bytes(b"null")),
        ("header: string", _NO_OBJECT, _bytes(b'"alg"')),
        ("header: garbage", _NO_OBJECT, _bytes(bytes(range(256)))),
        ("header: trailing text", _NO_OBJECT, _bytes(b'{"alg":"HS256"}{}')),
        ("header: deep", _NO_OBJECT, _bytes(b'{"alg":' + b"[" * 2_000 + b"]" * 2_000 + b"}")),
        ("header: NaN", _NO_OBJECT, _with(',"x":NaN')),
        ("header: UTF-16", _NO_OBJECT, _in("utf-16")),
        ("header: a BOM", _NO_OBJECT, _in("utf-8-sig")),
        ("header: alg twice", _TWICE, _with(',"alg":"none"')),
        ("header: alg twice, once escaped", _TWICE, _with(',"\\u0061lg":"none"')),
        ("header: kid twice", _TWICE, _with(',"kid":"a","kid":"b"')),
    ]
]

"""What is no token at all, or one with something around it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from prefsync.testing.hostile_tokens.cases import HostileToken

if TYPE_CHECKING:
    from prefsync.testing.tokens import TokenMint

__all__ = ["TEXTS"]

_PARTS: Final = "three parts (RFC 7515, section 7.1); others make an unpacking raise"
_ALPHABET: Final = "base64url and nothing else: lenient decoders skip what they do not know"
_TEXT: Final = "text that cannot be encoded raises where bytes are made of it"
_SIZE: Final = "size is looked at before anything is decoded (protocol: 8 KiB)"
_OTHER: Final = "a credential of another kind"
_SPELLED: Final = "what a careless client sends instead of a token"


def _flattened(mint: TokenMint) -> str:
    head, body, signature = mint.token().split(".")
    return json.dumps({"protected": head, "payload": body, "signature": signature})


TEXTS: Final = [
    HostileToken(f"text: {name}", purpose, make)
    for name, purpose, make in [
        ("empty", _PARTS, lambda _: ""),
        ("one part", _PARTS, lambda _: "abc"),
        ("two parts", _PARTS, lambda mint: ".".join(mint.token().split(".")[:2])),
        ("four parts", _PARTS, lambda mint: mint.token() + ".abc"),
        ("five parts", _PARTS, lambda mint: mint.token() + ".abc.def"),
        ("an empty part in front", _PARTS, lambda mint: "." + mint.token()),
        ("a dot at its end", _PARTS, lambda mint: mint.token() + "."),
        ("dots", _PARTS, lambda _: ".."),
        ("many dots", _PARTS, lambda _: "." * 5_000),
        ("parts of one letter", _PARTS, lambda _: "A.A.A"),
        ("two tokens", _PARTS, lambda mint: mint.token() + "," + mint.token()),
        ("NUL", _ALPHABET, lambda mint: mint.token() + "\x00"),
        ("a tab", _ALPHABET, lambda mint: mint.token() + "\t"),
        ("spaces", _ALPHABET, lambda mint: " " + mint.token()),
        ("a header in a line break", _ALPHABET, lambda mint: mint.token() + "\r\nX-User: admin"),
        ("percent-encoded dots", _ALPHABET, lambda mint: mint.token().replace(".", "%2E")),
        ("padding within", _ALPHABET, lambda mint: mint.token().replace(".", "=.", 1)),
        ("quoted", _ALPHABET, lambda mint: f'"{mint.token()}"'),
        ("not ASCII", _TEXT, lambda mint: "\u00e9" + mint.token()),
        ("fullwidth dots", _TEXT, lambda mint: mint.token().replace(".", "\uff0e")),
        ("a zero-width space", _TEXT, lambda mint: mint.token() + "\u200b"),
        ("a lookalike letter", _TEXT, lambda mint: mint.token().replace("e", "\u0435", 1)),
        ("astral", _TEXT, lambda _: "\U0001f600.\U0001f600.\U0001f600"),
        ("low surrogate", _TEXT, lambda _: "\udcff.\udcff.\udcff"),
        ("high surrogate", _TEXT, lambda _: "\ud800.\ud800.\ud800"),
        ("too long", _SIZE, lambda mint: mint.token(padding="x" * 9_000)),
        ("far too long", _SIZE, lambda _: "x" * 1_000_000),
        ("far too long, in parts", _SIZE, lambda _: ".".join(["x" * 400_000] * 3)),
        ("basic credentials", _OTHER, lambda _: "dXNlcjpwYXNzd29yZA=="),
        ("a PASETO", _OTHER, lambda _: "v4.public.AAAA"),
        ("an encrypted token", _OTHER, lambda _: "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AAAA.AAAA.AAAA"),
        ("an opaque token", _OTHER, lambda _: "2YotnFZFEjr1zCsicMWpAA"),
        ("XML", _OTHER, lambda _: "<saml:Assertion/>"),
        ("JSON serialization", _OTHER, _flattened),
        ("its claims alone", _OTHER, lambda mint: json.dumps(mint.claims())),
        ("its scheme again", _SPELLED, lambda mint: "Bearer " + mint.token()),
        ("undefined", _SPELLED, lambda _: "undefined"),
        ("null", _SPELLED, lambda _: "null"),
        ("an object", _SPELLED, lambda _: "[object Object]"),
        ("a placeholder", _SPELLED, lambda _: "${TOKEN}"),
    ]
]

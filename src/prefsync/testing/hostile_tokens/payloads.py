"""Well-signed payloads that are no JSON object in UTF-8, or that two parsers read differently."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING, Final

from prefsync.testing.hostile_tokens.cases import HostileToken

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefsync.testing.hostile_tokens.cases import Make
    from prefsync.testing.tokens import TokenMint

__all__ = ["PAYLOADS"]

_NO_JSON: Final = "what RFC 8259 does not allow, parsers read each in their own way"
_ENCODING: Final = "JSON is UTF-8 (RFC 8725, section 3.7); json.loads also guesses UTF-16 and UTF-32"
_TWICE: Final = (
    "of two members, one verifier checks the first and another uses the last (RFC 7519, section 4)"
)
_NO_OBJECT: Final = "claims are an object (RFC 7519, section 7.2); others make .get() or a subscript raise"
_NUMBER: Final = "numbers that JSON does not have compare as nobody expects: NaN is never over"
_DEEP: Final = "deep nesting makes a recursive parser raise, or takes the stack"
_PACKED: Final = "nothing is unpacked before or after verification: a bomb"


def _encoded(change: Callable[[bytes], bytes]) -> Make:
    return lambda mint: mint.raw(change(json.dumps(mint.claims()).encode()))


def _in(encoding: str) -> Make:
    return lambda mint: mint.raw(json.dumps(mint.claims()).encode(encoding))


def _saying(old: str, new: str) -> Make:
    return lambda mint: mint.saying(old, new)


def _bytes(payload: bytes) -> Make:
    return lambda mint: mint.raw(payload)


def _latin(mint: TokenMint) -> str:
    return mint.raw(json.dumps(mint.claims(sub="\u00e9"), ensure_ascii=False).encode("latin-1"))


def _nested(mint: TokenMint) -> str:
    return mint.raw(json.dumps(mint.token()).encode(), header={"cty": "JWT"})


PAYLOADS: Final = [
    HostileToken(f"payload: {name}", purpose, make)
    for name, purpose, make in [
        ("exp NaN", _NUMBER, _saying("EXP", "NaN")),
        ("exp Infinity", _NUMBER, _saying("EXP", "Infinity")),
        ("exp -Infinity", _NUMBER, _saying("EXP", "-Infinity")),
        ("exp 1e999", _NUMBER, _saying("EXP", "1e999")),
        ("exp in hexadecimal", _NUMBER, _saying("EXP", "0xFFFFFFFFF")),
        ("exp with a plus sign", _NUMBER, _saying("EXP", "+9999999999")),
        ("exp with a leading zero", _NUMBER, _saying("EXP", "09999999999")),
        ("exp with underscores", _NUMBER, _saying("EXP", "9_999_999_999")),
        ("exp without digits after the point", _NUMBER, _saying("EXP", "9999999999.")),
        ("exp in Arabic digits", _NUMBER, _saying("EXP", "\u0669" * 10)),
        ("NaN elsewhere", _NUMBER, _saying('"scope":', '"x":NaN,"scope":')),
        ("UTF-16", _ENCODING, _in("utf-16")),
        ("UTF-16 without a BOM", _ENCODING, _in("utf-16-le")),
        ("UTF-16, big end first", _ENCODING, _in("utf-16-be")),
        ("UTF-32", _ENCODING, _in("utf-32")),
        ("EBCDIC", _ENCODING, _in("cp037")),
        ("a BOM", _ENCODING, _in("utf-8-sig")),
        ("Latin-1", _ENCODING, _latin),
        ("a surrogate in bytes", _ENCODING, _saying("SUB", "\ud800")),
        (
            "an overlong slash",
            _ENCODING,
            _encoded(lambda text: text.replace(b"user-1", b"user\xc0\xaf1")),
        ),
        (
            "half of a character",
            _ENCODING,
            _encoded(lambda text: text.replace(b"user-1", b"user\xe2\x82")),
        ),
        ("sub twice", _TWICE, _saying('"sub":"SUB"', '"sub":"admin","sub":"SUB"')),
        ("sub twice, the same", _TWICE, _saying('"sub":"SUB"', '"sub":"SUB","sub":"SUB"')),
        ("sub twice, once escaped", _TWICE, _saying('"sub":"SUB"', '"sub":"SUB","s\\u0075b":"admin"')),
        ("exp twice", _TWICE, _saying('"exp":EXP', '"exp":1,"exp":EXP')),
        ("iss twice", _TWICE, _saying('"sub":', '"iss":"https://other.example","sub":')),
        ("a member twice within a claim", _TWICE, _saying('"scope":', '"x":{"a":1,"a":2},"scope":')),
        ("nothing", _NO_OBJECT, _bytes(b"")),
        ("null", _NO_OBJECT, _bytes(b"null")),
        ("true", _NO_OBJECT, _bytes(b"true")),
        ("list", _NO_OBJECT, _bytes(b"[]")),
        ("list of claims", _NO_OBJECT, _encoded(lambda text: b"[" + text + b"]")),
        ("string", _NO_OBJECT, _bytes(b'"sub"')),
        ("number", _NO_OBJECT, _bytes(b"1")),
        ("empty object", "no claim at all is no good claim", _bytes(b"{}")),
        ("a token within", "a nested token (RFC 7519, section 3) is not unwrapped", _nested),
        ("broken", _NO_JSON, _bytes(b'{"sub":"user-1"')),
        ("garbage", _NO_JSON, _bytes(bytes(range(256)))),
        ("NUL bytes", _NO_JSON, _bytes(bytes(64))),
        ("trailing text", _NO_JSON, _encoded(lambda text: text + b"{}")),
        ("a NUL at its end", _NO_JSON, _encoded(lambda text: text + b"\x00")),
        ("a trailing comma", _NO_JSON, _encoded(lambda text: text[:-1] + b",}")),
        ("single quotes", _NO_JSON, _encoded(lambda text: text.replace(b'"', b"'"))),
        ("a comment", _NO_JSON, _encoded(lambda text: text[:-1] + b"/* x */}")),
        ("names without quotes", _NO_JSON, _saying('"sub"', "sub")),
        ("a raw line break in a string", _NO_JSON, _saying("SUB", "us\ner")),
        ("a no-break space between", _NO_JSON, _saying('"sub":', '"sub":\u00a0')),
        ("form-encoded", _NO_JSON, _bytes(b"sub=user-1&exp=9999999999")),
        ("a pickle", "nothing but JSON is ever loaded", _bytes(b"\x80\x04N.")),
        ("XML", _NO_JSON, _bytes(b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>")),
        ("compressed with gzip", _PACKED, _encoded(gzip.compress)),
        ("compressed with zlib", _PACKED, _encoded(zlib.compress)),
        ("deep", _DEEP, _bytes(b'{"a":' + b"[" * 2_500 + b"]" * 2_500 + b"}")),
        ("deep and without an end", _DEEP, _bytes(b"[" * 5_000)),
        ("deep objects", _DEEP, _bytes(b'{"a":' * 900 + b"1" + b"}" * 900)),
    ]
]

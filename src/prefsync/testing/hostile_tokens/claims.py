"""Claims that are missing, of another type, or not those of a token that is meant for us now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from prefsync.testing.hostile_tokens.cases import HostileToken
from prefsync.testing.tokens import AUDIENCE, ISSUER, TENANT_CLAIM

if TYPE_CHECKING:
    from prefsync.testing.tokens import TokenMint

__all__ = ["CLAIMS"]

_NOBODY: Final = "a token that names nobody must not become somebody (RFC 7519, section 4.1.2)"
_STRING: Final = "what is no string must not be turned into one that is a user's (protocol: sub)"
_STORABLE: Final = "what no database or log can keep as it is must not name a user (protocol: sub)"
_NO_NUMBER: Final = "a NumericDate is a JSON number (RFC 7519, section 2); PyJWT takes more"
_OVER: Final = "nobody gets in when the time is over (RFC 7519, section 4.1.4)"
_REACH: Final = "numbers beyond reason make float() or date arithmetic raise"
_EARLY: Final = "nobody gets in before it is time (RFC 7519, section 4.1.5)"
_ISSUER: Final = "somebody else's token, compared code point for code point (RFC 8725, section 3.8)"
_AUDIENCE: Final = "a token that was given out for another service (RFC 8725, section 3.9)"
_TENANT: Final = "a user of no tenant, or of another one, reads this tenant's data"
_KIND: Final = "a token of another kind by the same issuer (RFC 8725, section 3.12)"

_VALUES: Final[dict[str, list[tuple[str, Any, str]]]] = {
    "sub": [
        ("missing", ..., _NOBODY),
        ("null", None, _NOBODY),
        ("empty", "", _NOBODY),
        ("number", 17, _STRING),
        ("zero", 0, _STRING),
        ("fraction", 1.5, _STRING),
        ("true", True, _STRING),
        ("false", False, _STRING),
        ("list", ["user-1"], _STRING),
        ("empty list", [], _STRING),
        ("object", {"id": "user-1"}, _STRING),
        ("query operator", {"$ne": None}, _STRING),
        ("256 characters", "x" * 256, _STORABLE),
        ("256 astral characters", "\U0001f600" * 256, _STORABLE),
        ("NUL", "user\x00", _STORABLE),
        ("NUL alone", "\x00", _STORABLE),
        ("line break", "user\n1", _STORABLE),
        ("carriage return", "user\r1", _STORABLE),
        ("tab", "user\t1", _STORABLE),
        ("escape", "\x1b[31m", _STORABLE),
        ("delete", "user\x7f", _STORABLE),
        ("C1 control", "user\x85", _STORABLE),
        ("half a pair", "\ud800", _STORABLE),
        ("the other half", "\udc00", _STORABLE),
    ],
    "exp": [
        ("missing", ..., "a token without an end is good for ever (protocol: exp is required)"),
        ("null", None, _NO_NUMBER),
        ("string", "9999999999", _NO_NUMBER),
        ("fraction in a string", "9999999999.5", _NO_NUMBER),
        ("ISO date", "2099-01-01T00:00:00Z", _NO_NUMBER),
        ("word", "never", _NO_NUMBER),
        ("empty string", "", _NO_NUMBER),
        ("Infinity in a string", "Infinity", _NO_NUMBER),
        ("true", True, _NO_NUMBER),
        ("list", [9999999999], _NO_NUMBER),
        ("object", {}, _NO_NUMBER),
        ("zero", 0, _OVER),
        ("negative", -1, _OVER),
        ("long ago", 1_000_000_000, _OVER),
        ("milliseconds beyond reason", 1e300, _REACH),
        ("more than a double counts", 2**53, _REACH),
        ("401 digits", 10**400, _REACH),
        ("4,400 digits", "DIGITS", _REACH),
    ],
    "nbf": [
        ("in the future", 99_999_999_999, _EARLY),
        ("string", "0", _NO_NUMBER),
        ("true", True, _NO_NUMBER),
        ("null", None, _NO_NUMBER),
        ("list", [0], _NO_NUMBER),
        ("401 digits", 10**400, _REACH),
    ],
    "iat": [
        ("in the future", 99_999_999_999, _EARLY),
        ("string", "0", _NO_NUMBER),
        ("null", None, _NO_NUMBER),
        ("list", [], _NO_NUMBER),
        ("401 digits", -(10**400), _REACH),
    ],
    "iss": [
        ("missing", ..., _ISSUER),
        ("null", None, _ISSUER),
        ("empty", "", _ISSUER),
        ("another", "https://other.example", _ISSUER),
        ("prefix", ISSUER[:-1], _ISSUER),
        ("one letter", ISSUER[0], _ISSUER),
        ("longer", ISSUER + "/", _ISSUER),
        ("a host that begins alike", ISSUER + ".evil.example", _ISSUER),
        ("as a user of another host", ISSUER + "@evil.example", _ISSUER),
        ("upper case", ISSUER.upper(), _ISSUER),
        ("with a space", ISSUER + " ", _ISSUER),
        ("lookalike letter", ISSUER.replace("e", "\u0435"), _ISSUER),
        ("plain HTTP", ISSUER.replace("https", "http"), _ISSUER),
        ("list", [ISSUER], _ISSUER),
        ("object", {ISSUER: True}, _ISSUER),
        ("number", 1, _ISSUER),
    ],
    "aud": [
        ("missing", ..., _AUDIENCE),
        ("null", None, _AUDIENCE),
        ("empty", "", _AUDIENCE),
        ("another", "https://other.example", _AUDIENCE),
        ("prefix", AUDIENCE[:-1], _AUDIENCE),
        ("longer", AUDIENCE + "/admin", _AUDIENCE),
        ("two in one string", f"https://other.example {AUDIENCE}", _AUDIENCE),
        ("any", "*", _AUDIENCE),
        ("empty list", [], _AUDIENCE),
        ("list of others", ["https://other.example", 1], _AUDIENCE),
        ("list within a list", [[AUDIENCE]], _AUDIENCE),
        ("number beside ours", [AUDIENCE, 1], "a list that is no list of strings (RFC 7519, section 4.1.3)"),
        ("number", 1, _AUDIENCE),
        ("true", True, _AUDIENCE),
        ("object", {AUDIENCE: True}, _AUDIENCE),
    ],
    TENANT_CLAIM: [
        ("missing", ..., _TENANT),
        ("null", None, _TENANT),
        ("empty", "", _TENANT),
        ("number", 1, _TENANT),
        ("list", ["acme"], _TENANT),
        ("object", {"id": "acme"}, _TENANT),
        ("256 characters", "x" * 256, _TENANT),
        ("NUL", "acme\x00", _TENANT),
        ("line break", "acme\nother", _TENANT),
    ],
    "token_use": [
        ("an ID token's", "id", _KIND),
        ("a refresh token's", "refresh_token", _KIND),
        ("null", None, _KIND),
        ("list", ["access"], _KIND),
    ],
}


def _case(claim: str, what: str, value: Any, purpose: str) -> HostileToken:
    def make(mint: TokenMint) -> str:
        if value == "DIGITS":
            return mint.saying('"exp":EXP', '"exp":1' + "0" * 4_400)
        return mint.token(**{claim: value})

    return HostileToken(f"{claim}: {what}", purpose, make)


CLAIMS: Final = [_case(claim, *case) for claim, cases in _VALUES.items() for case in cases]

"""Numbers: those that no double holds are refused, the others come back as the same double (protocol.md, "Bodies")."""

from __future__ import annotations

from typing import Final

from prefsync.testing.hostile_json.cases import HostileJson, refused, taken

__all__ = ["NUMBERS"]

_RANGE: Final = "an integer whose neighbours no double tells apart (RFC 7493, section 2.2)"
_LONG: Final = "digits enough to make int() slow, or refuse: quadratic time, and a limit of 4,300 digits"
_OVERFLOW: Final = "becomes infinity, which is no JSON: it could be stored and never be sent"
_EDGE: Final = "at the edge of what is allowed"
_ROUNDED: Final = "read and written by every store, and still the same double"
_ZERO: Final = "nothing, in several spellings"
_FORM: Final = "allowed, if unusual"
_TYPED: Final = "types are strict: what other libraries turn into an integer is refused"

_SAFE: Final = 2**53 - 1

NUMBERS: Final = [
    *refused(
        "integer",
        _RANGE,
        "integer_range",
        [
            ("2^53", str(_SAFE + 1)),
            ("-2^53", str(-_SAFE - 1)),
            ("2^53 + 1", str(_SAFE + 2)),
            ("2^63 - 1", str(2**63 - 1)),
            ("2^63", str(2**63)),
            ("-2^63", str(-(2**63))),
            ("-2^63 - 1", str(-(2**63) - 1)),
            ("2^64 - 1", str(2**64 - 1)),
            ("2^64", str(2**64)),
            ("2^127", str(2**127)),
            ("2^1024", str(2**1024)),
            ("19 digits", "9" * 19),
            ("20 digits", "9" * 20),
            ("21 digits", "1" + "0" * 20),
        ],
    ),
    *refused(
        "long",
        _LONG,
        "integer_range",
        [
            (f"{sign}{digits} digits", sign + "7" * digits)
            for digits in (400, 4_300, 4_301, 10_000, 200_000)
            for sign in ("", "-")[: 1 if digits > 10_000 else 2]
        ],
    ),
    *refused("in an array", _RANGE, "integer_range", [("the last", "[1,[2,9007199254740992]]")]),
    *refused("in an object", _RANGE, "integer_range", [("the deepest", '{"a":{"b":9007199254740992}}')]),
    *refused(
        "overflow",
        _OVERFLOW,
        "number_overflow",
        [
            ("1e309", "1e309"),
            ("-1e309", "-1e309"),
            ("just beyond the largest", "1.7976931348623159e308"),
            ("1e400", "1e400"),
            ("1e131071", "1e131071"),
            ("an enormous exponent", "1e999999999999"),
            ("an exponent of many digits", "1e" + "9" * 5_000),
            ("a capital E and a plus", "1E+400"),
            ("many digits and a point", "1" + "0" * 400 + ".0"),
            ("no exponent that small undoes it", "1" + "0" * 400 + "e-1"),
        ],
    ),
    *taken(
        "edge",
        _EDGE,
        [
            ("2^53 - 1", str(_SAFE)),
            ("-(2^53 - 1)", str(-_SAFE)),
            ("the largest", "1.7976931348623157e308"),
            ("what rounds to the largest", "1.7976931348623158e308"),
            ("the smallest", "5e-324"),
            ("minus the smallest", "-5e-324"),
            ("the smallest normal", "2.2250738585072014e-308"),
            ("what once hung PHP and Java", "2.2250738585072011e-308"),
            ("what rounds to the smallest", "3e-324"),
        ],
    ),
    *taken(
        "rounded",
        _ROUNDED,
        [
            ("a tenth", "0.1"),
            ("a sum", "0.30000000000000004"),
            ("one third", "0.3333333333333333"),
            ("4.35", "4.35"),
            ("a halfway case", "9007199254740993.0"),
            ("a halfway case, downwards", "9007199254740992.9999"),
            ("1e21, where JavaScript changes its spelling", "1e21"),
            ("1e22, the last exact power", "1e22"),
            ("1e23, the first inexact one", "1e23"),
            ("2^53 with a point", "9007199254740992.0"),
            ("2^63 with a point", "9223372036854775808.0"),
            ("1e308", "1e308"),
            ("1e-7", "1e-7"),
            ("pi to 60 digits", "3.14159265358979323846264338327950288419716939937510582097494"),
            ("17 digits", "0.12345678901234568"),
            ("a thousand digits", "0." + "3" * 1_000),
            ("a hundred thousand digits", "0." + "1" * 100_000),
        ],
    ),
    *taken(
        "zero",
        _ZERO,
        [
            ("0", "0"),
            ("minus zero", "-0"),
            ("minus zero with a point", "-0.0"),
            ("with an exponent", "0e0"),
            ("with a huge exponent", "0e99999"),
            ("minus zero with a huge exponent", "-0e99999"),
            ("with many places", "0." + "0" * 5_000),
            ("what underflows", "1e-400"),
            ("what underflows by far", "1e-999999999"),
            ("many places and a one", "0." + "0" * 400 + "1"),
        ],
    ),
    *taken(
        "form",
        _FORM,
        [
            ("a capital E", "1E5"),
            ("a plus in the exponent", "1e+5"),
            ("zeros in the exponent", "1e0005"),
            ("a fraction of zeros", "100.000"),
            ("an exponent that makes it an integer", "1.5e1"),
            ("a negative exponent that does", "1500e-2"),
        ],
    ),
    *(
        HostileJson(
            f"typed: {name}",
            _TYPED,
            b'{"font_size":%b}' % text,
            422,
            frozenset({code}),
            "/appearance",
        )
        for name, text, code in [
            ("a point", b"14.0", "int_type"),
            ("an exponent", b"14e0", "int_type"),
            ("a string", b'"14"', "int_type"),
            ("true", b"true", "int_type"),
            ("a list", b"[14]", "int_type"),
            ("an object", b'{"font_size":14}', "int_type"),
            ("a minus", b"-14", "greater_than_equal"),
            ("minus zero", b"-0", "greater_than_equal"),
            ("a fraction above", b"72.5", "int_type"),
            ("one too many", b"73", "less_than_equal"),
            ("2^53", b"9007199254740992", "integer_range"),
            ("2^64", b"18446744073709551616", "integer_range"),
            ("overflow", b"1e400", "number_overflow"),
        ]
    ),
]

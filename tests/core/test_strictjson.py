"""Strict JSON: what is malformed, what is too large, and where."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from prefsync.errors import MalformedError
from prefsync.strictjson import (
    MAX_ERRORS,
    MAX_INTEGER,
    Limits,
    canonical,
    decode,
    digestible,
    encode,
    equal,
    parse,
    pointer,
    problems_in,
)

MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "white space": b" \n",
    "a BOM": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "UTF-16 without a BOM": '{"a":1}'.encode("utf-16-le"),
    "UTF-32": '{"a":1}'.encode("utf-32"),
    "Latin-1": b'{"a":"\xe9"}',
    "a surrogate in UTF-8": b'{"a":"\xed\xa0\x80"}',
    "an overlong form": b'{"a":"\xc0\xaf"}',
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":Infinity}',
    "-Infinity": b"[-Infinity]",
    "a repeated name": b'{"a":1,"a":1}',
    "a name repeated by an escape": b'{"a":1,"\\u0061":2}',
    "a name repeated deep inside": b'{"a":[{"b":{"c":1,"c":2}}]}',
    "trailing text": b"{} {}",
    "a trailing comma": b'{"a":1,}',
    "a comment": b"{} // x",
    "single quotes": b"{'a':1}",
    "a raw control character": b'{"a":"\n"}',
    "a bad escape": b'{"a":"\\x41"}',
    "a half escape": b'{"a":"\\u00"}',
    "a leading zero": b"[01]",
    "a plus sign": b"[+1]",
    "a bare point": b"[1.]",
    "hexadecimal": b"[0x1]",
    "other digits": "[\u0661]".encode(),
    "an open array": b"[1",
    "an open string": b'"a',
    "a no-break space": b"\xc2\xa0{}",
    "a deep text that does not end": b"[" * 5_000,
    "a deep text whose brackets do not pair": b"[" * 300 + b"}" * 300,
    "a deep text with one bracket too many": b"[" * 300 + b"]" * 301,
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_no_json_is_malformed(case: str) -> None:
    """A text that is not JSON as the protocol has it is refused as malformed, in one line."""
    with pytest.raises(MalformedError) as caught:
        parse(MALFORMED[case])
    assert "\n" not in str(caught.value)


REFUSED: dict[str, tuple[bytes, dict[str, str]]] = {
    "an integer above": (b'{"a":9007199254740992}', {"/a": "integer_range"}),
    "an integer below": (b'{"a":-9007199254740992}', {"/a": "integer_range"}),
    "an integer of 5,000 digits": (b'{"a":1%s}' % (b"0" * 5_000), {"/a": "integer_range"}),
    "a number that overflows": (b"[1e400,-1e400]", {"/0": "number_overflow", "/1": "number_overflow"}),
    "NUL": (b'{"a":"\\u0000","\\u0000":1}', {"/a": "nul_character", "/\x00": "nul_character"}),
    "a high surrogate": (b'["\\ud800"]', {"/0": "lone_surrogate"}),
    "a low surrogate": (b'["\\udc00x"]', {"/0": "lone_surrogate"}),
    "a pair the wrong way round": (b'["\\udc00\\ud800"]', {"/0": "lone_surrogate"}),
    "a surrogate in a name": (b'{"\\ud800":1}', {"/?": "lone_surrogate"}),
    "names": (
        b'{"__proto__":1,"a":{"constructor":[{"prototype":null}]}}',
        {
            "/__proto__": "forbidden_name",
            "/a/constructor": "forbidden_name",
            "/a/constructor/0/prototype": "forbidden_name",
        },
    ),
    "names with slashes": (b'{"a/b":{"c~d":9007199254740992}}', {"/a~1b/c~0d": "integer_range"}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_kept_is_refused_at_its_place(case: str) -> None:
    """What JSON allows and no database keeps is parsed, and all of it is listed with its places."""
    body, places = REFUSED[case]
    assert {error.pointer: error.code for error in problems_in(parse(body))} == places


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9007199254740991", MAX_INTEGER),
        ("-9007199254740991", -MAX_INTEGER),
        ("9007199254740993.0", 2.0**53),
        ("1e-400", 0.0),
        ("1e22", 1e22),
        ("-0", 0),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ('"\\u2028\\ufeff"', "\u2028\ufeff"),
        (" [ 1 , 2 ] \r\n\t", [1, 2]),
        ('{"constructors":1,"":2}', {"constructors": 1, "": 2}),
    ],
)
def test_what_can_be_kept_is_taken(text: str, value: Any) -> None:
    """Whatever fits a double and UTF-8 is let through as it is."""
    parsed = parse(text.encode())
    assert problems_in(parsed) == []
    assert equal(parsed, value)


def nested(depth: int) -> Any:
    """Return so many containers in one another."""
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


LIMITS: list[tuple[str, Any, Any]] = [
    ("too_deep", nested(4), nested(5)),
    ("string_too_large", "x" * 8, "x" * 9),
    ("string_too_large", "é" * 4, "é" * 4 + "x"),
    ("name_too_long", {"n" * 3: 1}, {"n" * 4: 1}),
    ("name_too_long", {"\U0001f600" * 3: 1}, {"\U0001f600" * 4: 1}),
]


@pytest.mark.parametrize(("code", "fits", "does_not"), LIMITS, ids=repr)
def test_limits_are_inclusive(code: str, fits: Any, does_not: Any) -> None:
    """What is just as large as allowed is taken; one more is refused, once."""
    limits = Limits(depth=4, string=8, name=3)
    assert problems_in(fits, limits) == []
    assert [error.code for error in problems_in(does_not, limits)] == [code]
    assert problems_in(does_not) == []


def test_depth_counts_from_the_documents_root() -> None:
    """The containers around a value count too."""
    assert problems_in(nested(2), Limits(depth=4), at=("plugins", "a")) == []
    (error,) = problems_in(nested(3), Limits(depth=4), at=("plugins", "a"))
    assert error.pointer.startswith("/plugins/a/")


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, '{"a":' * 30_000 + "1" + "}" * 30_000])
def test_a_depth_bomb_is_refused_without_recursion(text: str) -> None:
    """A body of a hundred thousand brackets is one error, soon."""
    before = time.process_time()
    (error,) = problems_in(parse(text.encode()))
    assert error.code == "too_deep"
    assert time.process_time() - before < 5


def test_brackets_in_strings_are_no_depth() -> None:
    """Only real brackets count."""
    value = {"a": "[{" * 500 + '"\\' + "}]" * 10}
    assert parse(json.dumps(value).encode()) == value


def test_a_body_of_mistakes_gets_a_bounded_answer() -> None:
    """However many things are wrong, the list of them ends somewhere, and no pointer repeats a huge name."""
    errors = problems_in([2**53] * 50_000)
    assert len(errors) == MAX_ERRORS
    (error,) = problems_in({"n" * 100_000: 2**53})
    assert len(error.pointer) < 300


def test_pointers_are_spelled_as_the_standard_says() -> None:
    """RFC 6901: ``~`` and ``/`` are escaped, in this order."""
    assert pointer() == ""
    assert pointer("a/b", "m~n", 0, "", "~1") == "/a~1b/m~0n/0//~01"


def test_values_are_equal_as_json_has_it() -> None:
    """Numbers by value, booleans never numbers, objects whatever their order, strings code point by code point."""
    same = [(1, 1.0), (0, -0.0), ({"a": 1, "b": 2}, {"b": 2.0, "a": 1}), ([], []), (None, None)]
    different = [
        (1, True),
        (0, False),
        ("", None),
        ([], {}),
        ([1], [1, 1]),
        ({"a": None}, {}),
        ("é", "e\u0301"),
        ("1", 1),
    ]
    for one, other in same:
        assert equal(one, other)
        assert digestible(one) == digestible(other)
    for one, other in different:
        assert not equal(one, other)
        assert not equal([{"x": one}], [{"x": other}])
        assert digestible(one) != digestible(other)


def test_the_canonical_form_has_one_text() -> None:
    """Order of members and sign of zero are gone; encoding and decoding gives the value back."""
    one = canonical({"b": -0.0, "a": {"d": 1, "c": [(1, 2)]}})
    assert encode(one) == b'{"a":{"c":[[1,2]],"d":1},"b":0.0}'
    assert decode(encode(one)) == one
    assert canonical(10**22) == 1e22
    assert isinstance(canonical(10**22), float)

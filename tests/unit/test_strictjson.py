"""JSON as prefsync takes it: strictly, and with every refusal in its place."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prefsync.errors import MalformedError
from prefsync.strictjson import (
    FORBIDDEN_NAMES,
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
from prefsync.testing.samples import EXACT_VALUES

plain_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
names = plain_text.filter(lambda name: name not in FORBIDDEN_NAMES)
numbers = st.integers(-MAX_INTEGER, MAX_INTEGER) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | plain_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


def text_of(value: Any) -> bytes:
    """Write JSON as a client may."""
    return json.dumps(value, ensure_ascii=False).encode()


def codes(value: Any, limits: Limits | None = None, at: tuple[str, ...] = ()) -> dict[str, str]:
    """Return what is refused, by its place."""
    return {error.pointer: error.code for error in problems_in(value, limits, at)}


# --- Reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"[1,]",
        b'{"a":1,}',
        b"{'a':1}",
        b"{a:1}",
        b"[1 2]",
        b'{"a" 1}',
        b'{"a":}',
        b"nul",
        b"True",
        b"None",
        b"undefined",
        b"01",
        b"-",
        b"+1",
        b".5",
        b"1.",
        b"1e",
        b"0x10",
        b"1_000",
        b"--1",
        b"'a'",
        b'"a',
        b'"\x01"',
        b'"a\nb"',
        b'"\t"',
        b'"\\x41"',
        b'"\\u12"',
        b'"\\u00zz"',
        b'"\\"',
        b"[1]x",
        b"[1][2]",
        b"{}{}",
        b"1 2",
        b"// comment\n1",
        b"/* */1",
        b"[1]\x00",
        b"\x0b1",
        b"\xc2\xa01",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b'{"a":[NaN]}',
        b'{"a":-Infinity}',
        b"nan",
        b"inf",
        "[\u0661]".encode(),
    ],
    ids=repr,
)
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    """Text that RFC 8259 does not allow, whatever the standard library makes of it, is refused as malformed."""
    with pytest.raises(MalformedError) as caught:
        parse(body)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        "{}".encode("utf-16"),
        "{}".encode("utf-16-le"),
        "{}".encode("utf-16-be"),
        "{}".encode("utf-32"),
        b"\xef\xbb\xbf{}",
        '"é"'.encode("latin-1"),
        b'"\xff"',
        b'"\xc0\x80"',
        b'"\xed\xa0\x80"',
        b'"\xf4\x90\x80\x80"',
        b'"\xe2\x82"',
    ],
    ids=repr,
)
def test_what_is_no_utf8_is_malformed(body: bytes) -> None:
    """Another encoding, a byte order mark, and byte sequences that UTF-8 forbids are refused."""
    with pytest.raises(MalformedError):
        parse(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"b":{"c":1,"c":2}}',
        b'[{"x":1},{"x":1,"x":2}]',
        b'{"a":1,"\\u0061":2}',
        b'{"":1,"":2}',
    ],
)
def test_a_repeated_name_is_malformed(body: bytes) -> None:
    """The same member twice in one object, however it is spelled, is refused: parsers differ on which one counts."""
    with pytest.raises(MalformedError, match="repeats"):
        parse(body)


def test_names_that_only_look_alike_are_not_repeated() -> None:
    """Names that differ in case or in composition are different members."""
    body = '{"a":1,"A":2,"caf\u00e9":3,"cafe\u0301":4,"":5," ":6}'.encode()
    assert len(parse(body)) == 6  # type: ignore[arg-type]  # an object


@given(values)
def test_what_json_writes_is_read(value: Any) -> None:
    """Every value of JSON comes back as it was written, escaped or not, with any white space."""
    for text in (
        text_of(value),
        json.dumps(value, ensure_ascii=True).encode(),
        json.dumps(value, indent="\t").encode(),
        b" \t\r\n" + text_of(value) + b"\n",
    ):
        read = parse(text)
        assert equal(read, value)
        assert problems_in(read) == []


@given(
    st.binary(max_size=40)
    | st.text(alphabet='[]{}",:\\0123eE+-.tfnul \ud800'.replace("\ud800", ""), max_size=40).map(str.encode)
)
@example(b"\xff\xfe[\x00]\x00")
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Whatever bytes come, the answer is a value or ``MalformedError``; what is taken, the standard library takes too."""
    try:
        value = parse(body)
    except MalformedError:
        return
    assert equal(value, json.loads(body)) or problems_in(value)


@pytest.mark.parametrize("depth", [150, 199, 200, 201, 1_000, 100_000])
@pytest.mark.parametrize("kind", ["[]", "{}"])
def test_nesting_is_bounded_without_recursion(depth: int, kind: str) -> None:
    """However deep a text nests, it is read or refused, as too deep and not as malformed, and never by a crash."""
    body = b"[" * depth + b"]" * depth if kind == "[]" else b'{"a":' * depth + b"1" + b"}" * depth
    value = parse(body)
    assert (codes(value, Limits(depth=500)) == {}) == (depth <= 200)
    assert set(codes(value, Limits()).values()) == {"too_deep"}
    assert set(codes([value]).values()) <= {"too_deep"}


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 300,
        b"[" * 300 + b"}" * 300,
        b'{"a":' * 300 + b"}" * 299,
        b"]" * 300 + b"[" * 300,
        b'["' + b"[" * 400,
    ],
)
def test_deep_text_whose_brackets_do_not_pair_is_malformed(body: bytes) -> None:
    """Broken nesting is malformed also where it is too deep to be built."""
    with pytest.raises(MalformedError):
        parse(body)


def test_brackets_in_strings_do_not_nest() -> None:
    """Brackets in strings, escaped quotes among them, are text."""
    text = "[" * 500 + '\\"' + "{" * 500
    assert parse(text_of({"a": text})) == {"a": text}
    assert parse(text_of([f"{'[' * 300}\\", '"]'])) == [f"{'[' * 300}\\", '"]']


def test_a_stack_that_is_nearly_used_up_is_no_matter() -> None:
    """Deep input is refused the same way from deep inside the host's own calls."""

    def deeper(levels: int) -> object:
        return deeper(levels - 1) if levels else parse(b"[" * 190 + b"]" * 190)

    assert deeper(sys.getrecursionlimit() // 3) is not None


# --- What cannot be kept -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"9007199254740991", None),
        (b"-9007199254740991", None),
        (b"9007199254740992", "integer_range"),
        (b"-9007199254740992", "integer_range"),
        (b"18446744073709551616", "integer_range"),
        (b"1" + b"0" * 400, "integer_range"),
        (b"-1" + b"0" * 5_000, "integer_range"),
        (b"9" * 100_000, "integer_range"),
        (b"9007199254740992.0", None),
        (b"9.007199254740993e15", None),
        (b"1e22", None),
        (b"1e308", None),
        (b"1.7976931348623157e308", None),
        (b"1.7976931348623159e308", "number_overflow"),
        (b"1e309", "number_overflow"),
        (b"-1e309", "number_overflow"),
        (b"1e999999999", "number_overflow"),
        (b"1" + b"0" * 400 + b".0", "number_overflow"),
        (b"5e-324", None),
        (b"1e-400", None),
        (b"-0", None),
        (b"-0.0", None),
        (b"0.1", None),
        (b'"\\u0000"', "nul_character"),
        (b'"a\\u0000b"', "nul_character"),
        (b'"\\ud800"', "lone_surrogate"),
        (b'"\\udfff"', "lone_surrogate"),
        (b'"\\udc00\\ud800"', "lone_surrogate"),
        (b'"\\ud83d\\ude00"', None),
        (b'"\\u0001\\u001f\\u007f\\uffff\\u2028\\ufeff"', None),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_no_database_keeps_is_refused_in_its_place(text: bytes, code: str | None) -> None:
    """Integers beyond 2^53, numbers that overflow, NUL and lone surrogates are refused wherever they stand."""
    expected = {} if code is None else {code}
    assert set(codes(parse(text)).values()) == set(expected)
    assert codes(parse(b'{"a":[0,{"b":' + text + b"}]}")) == ({} if code is None else {"/a/1/b": code})


@pytest.mark.parametrize("name", sorted(FORBIDDEN_NAMES))
def test_names_that_spoil_prototypes_are_refused_at_any_depth(name: str) -> None:
    """``__proto__`` and its like are no names of members; as values, and inside longer names, they are text."""
    assert codes({name: 1}) == {f"/{name}": "forbidden_name"}
    assert codes({"a": [{"b": {name: {}}}]}) == {f"/a/0/b/{name}": "forbidden_name"}
    assert codes({"a": name, f"{name}x": 1, name.upper(): 2, f" {name}": 3}) == {}


def test_names_are_text_too() -> None:
    """NUL and lone surrogates are refused in names as in values, with a pointer that can be sent."""
    found = codes({"a\x00": 1, "\ud800": 2, "fine": 3})
    assert found == {"/a\x00": "nul_character", "/?": "lone_surrogate"}


def test_a_pointer_leads_to_the_place() -> None:
    """Steps are escaped as RFC 6901 says, and empty names are steps."""
    assert pointer("a/b", "c~d", 0, "", "e~1f") == "/a~1b/c~0d/0//e~01f"
    assert pointer() == ""
    assert codes({"a/b": {"c~d": [1, {"": 2**60}]}}) == {"/a~1b/c~0d/1/": "integer_range"}
    assert codes(2**60, at=("editor", "x")) == {"/editor/x": "integer_range"}


def test_pointers_stay_short() -> None:
    """A name as long as a body is not sent back as a whole."""
    (place,) = codes({"x" * 100_000: 2**60})
    assert len(place) < 300


def test_everything_wrong_is_told_and_not_more_than_a_thousand() -> None:
    """All mistakes are listed, up to a bound that keeps the answer small."""
    assert len(problems_in([2**60] * 10)) == 10
    assert len(problems_in([2**60] * 100_000)) == MAX_ERRORS


# --- Limits --------------------------------------------------------------------------------------------------------------


def test_limits_are_inclusive() -> None:
    """What is just as large as a limit is taken, one more is not."""
    limits = Limits(depth=3, string=4, name=2)
    assert codes({"ab": [["four"]]}, limits) == {}
    assert codes({"ab": [[["x"]]]}, limits) == {"/ab/0/0": "too_deep"}
    assert codes({"ab": [[[]]]}, limits) == {"/ab/0/0": "too_deep"}
    assert codes({"ab": "fives"}, limits) == {"/ab": "string_too_large"}
    assert codes({"abc": 1}, limits) == {"/abc": "name_too_long"}
    assert codes([[]], limits, at=("editor",)) == {}
    assert codes([[[]]], limits, at=("editor",)) == {"/editor/0/0": "too_deep"}


def test_strings_are_measured_in_bytes_and_names_in_code_points() -> None:
    """A string's limit is UTF-8 bytes, a name's is code points, as the protocol says."""
    limits = Limits(string=4, name=2)
    assert codes({"\U0001f600\U0001f600": "\U0001f600"}, limits) == {}
    assert codes({"a": "\U0001f600x"}, limits) == {"/a": "string_too_large"}
    assert codes({"\U0001f600\U0001f600\U0001f600": 1}, limits) != {}


def test_the_default_limits_are_the_protocols() -> None:
    """Without settings, the limits are those that clients were told."""
    assert Limits() == Limits(
        body=256 * 1024, document=128 * 1024, depth=16, string=16 * 1024, name=128, fields=1_024
    )
    name, text = "n" * 128, "x" * (16 * 1024)
    deep: Any = 1
    for _ in range(15):
        deep = [deep]
    assert codes({name: text, "deep": deep}, Limits()) == {}
    assert set(codes({name + "n": 1, "long": text + "x", "deep": [deep]}, Limits()).values()) == {
        "name_too_long",
        "string_too_large",
        "too_deep",
    }


# --- One form ------------------------------------------------------------------------------------------------------------


@given(values)
def test_the_canonical_form_is_equal_and_final(value: Any) -> None:
    """The canonical form is the same value, is its own canonical form, and survives writing and reading."""
    form = canonical(value)
    assert equal(form, value)
    assert encode(canonical(form)) == encode(form)
    assert encode(canonical(decode(encode(form)))) == encode(form)


@given(values, st.randoms(use_true_random=False))
def test_the_canonical_form_does_not_depend_on_order(value: Any, chance: Any) -> None:
    """However members are ordered, there is one text."""

    def shuffled(one: Any) -> Any:
        if isinstance(one, dict):
            names = list(one)
            chance.shuffle(names)
            return {name: shuffled(one[name]) for name in names}
        return [shuffled(item) for item in one] if isinstance(one, list) else one

    assert encode(canonical(shuffled(value))) == encode(canonical(value))


def test_the_canonical_form_is_what_a_database_gives_back() -> None:
    """``-0.0`` is ``0.0``, members are ordered by code point, and an integer that no double can tell is a double."""
    assert encode(canonical(-0.0)) == b"0.0"
    assert encode(canonical({"b": 1, "\U0001f600": 2, "\uffff": 3, "a": 4, "B": 5})) == (
        '{"B":5,"a":4,"b":1,"\uffff":3,"\U0001f600":2}'.encode()
    )
    assert encode(canonical(10**22)) == encode(1e22)
    assert canonical(True) is True
    assert canonical((1, 2)) == [1, 2]


@pytest.mark.parametrize("name", EXACT_VALUES)
def test_the_samples_survive_writing_and_reading(name: str) -> None:
    """What comes out of the encoder goes into the decoder as it was, to the last bit."""
    value = canonical(EXACT_VALUES[name])
    assert encode(decode(encode(value))) == encode(value)
    assert equal(json.loads(encode(value)), value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_survives(number: float) -> None:
    """Writing and reading gives the same double, the sign of zero aside."""
    read = decode(encode(canonical(number)))
    assert read == number
    assert math.copysign(1, read) == math.copysign(1, number + 0.0)


# --- Comparing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True),
        (0, -0.0, True),
        (1, True, False),
        (0, False, False),
        (1.0, True, False),
        (True, True, True),
        (None, False, False),
        (None, 0, False),
        ("1", 1, False),
        ("", None, False),
        ([], {}, False),
        ([1, [2]], [1.0, [2.0]], True),
        ([1, [2]], [1, [True]], False),
        ([1, 2], [2, 1], False),
        ([1], [1, 2], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": None}, {}, False),
        ({"a": 1}, {"A": 1}, False),
        ("caf\u00e9", "cafe\u0301", False),
        (0.1, 0.1000000000000000055, True),
        (9007199254740993.0, 9007199254740992.0, True),
        (1e22, 10**22, True),
    ],
)
def test_values_are_compared_as_json(one: Any, other: Any, same: bool) -> None:  # noqa: FBT001
    """Numbers are doubles, booleans are no numbers, order counts in lists and not in objects; both ways round."""
    assert equal(one, other) is same
    assert equal(other, one) is same
    assert (digestible(one) == digestible(other)) is same


@given(values, values)
def test_digests_agree_with_comparing(one: Any, other: Any) -> None:
    """Two values have one text for digests just where they are equal."""
    assert (digestible(one) == digestible(other)) == equal(one, other)
    assert digestible(one) == digestible(canonical(one))

"""JSON as prefsync reads, writes and compares it (protocol.md section 2, "Bodies").

The standard library's parser takes more than JSON allows and than a database can keep: ``NaN``, duplicate
names, UTF-16, lone surrogates, integers that no double can hold. What comes out of :func:`parse` followed
by an empty
:func:`problems_in` comes back exactly from every repository and cache.
"""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json, to_json

from prefsync.errors import FieldError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import JsonValue

__all__ = [
    "Limits",
    "canonical",
    "decode",
    "digestible",
    "encode",
    "equal",
    "is_too_deep",
    "parse",
    "pointer",
    "problems_in",
]

# RFC 7493 (I-JSON), section 2.2: beyond this, a double cannot tell an integer from its neighbours.
MAX_INTEGER: Final = 2**53 - 1

# Names that a careless merge in JavaScript turns into a change of every object's prototype.
FORBIDDEN_NAMES: Final = frozenset({"__proto__", "constructor", "prototype"})

# Far beyond any limit a host may set, far below the interpreter's recursion limit of 1,000 frames.
_PARSED_DEPTH: Final = 200

# A body of 256 KiB can hold 100,000 mistakes; an answer that lists them all would be an amplifier.
MAX_ERRORS: Final = 1_000

# More digits than any integer within the range has; more than a pointer's step is worth repeating.
_INTEGER_DIGITS: Final = 20
_LONGEST_STEP: Final = 256

# A string, or a bracket outside of one. A string without an end is one up to the end of the text: were it none, the
# search would begin again at each quotation mark in it, which takes minutes where there are many (after backslashes).
_TOKENS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)

# Stands for what was cut out; a text that has it by itself is refused.
_CUT: Final = "-Infinity"


@dataclass(frozen=True, slots=True)
class Limits:
    """How large submitted preferences may be; every bound is inclusive.

    Attributes:
        body: Bytes of a request's body.
        document: Bytes of a subject's stored values as compact UTF-8 JSON.
        depth: Containers open at once, the document itself included.
        string: Bytes of one string in UTF-8.
        name: Code points of a member's name.
        fields: Fields of one namespace.
    """

    body: int = 256 * 1024
    document: int = 128 * 1024
    depth: int = 16
    string: int = 16 * 1024
    name: int = 128
    fields: int = 1_024


def parse(body: bytes, *, cuts: bool = False) -> JsonValue:
    """Read a JSON text strictly.

    Args:
        body: The text.
        cuts: Whether only that part of a text is left out which is nested too deep to be worth building, so that the
            rest can be read; else it stands for the whole.

    Raises:
        MalformedError: The text is no UTF-8, starts with a BOM, is no JSON (RFC 8259), repeats a member's name or
            holds ``NaN`` or ``Infinity``.
        InvalidPreferencesError: Never; what JSON allows and prefsync does not is for :func:`problems_in`.
    """
    is_shallow = body.count(b"[") + body.count(b"{") <= _PARSED_DEPTH
    compact = _parse_compact(body) if is_shallow else None
    if compact is not None:
        return compact
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError(f"the body is not UTF-8 (byte {error.start})") from None
    if text.startswith("\ufeff"):
        raise MalformedError("the body starts with a byte order mark; send UTF-8 without one")
    decoder = _DECODER
    if not is_shallow:
        text, count = _shallow(text)
        if count and not cuts:
            return _TooDeep()
        if count:
            decoder = _decoder_of_cuts(count)
    try:
        value: JsonValue = decoder.decode(text)
    except json.JSONDecodeError as error:
        raise MalformedError(
            f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from None
    return value


def _parse_compact(body: bytes) -> JsonValue:
    """Return what a text says that is written as :func:`encode` would write it, as most are, else ``None``.

    Whatever a lenient parser lets pass, a repeated name say, does not come back when it is written again.
    """
    try:
        value: JsonValue = from_json(body, allow_inf_nan=False)
        return value if to_json(value) == body else None
    except ValueError:
        return None


class _TooDeep(list[Any]):
    """Stands for a well-bracketed text that is nested too deep to be worth building."""


def is_too_deep(value: JsonValue) -> bool:
    """Tell whether :func:`parse` has put this in place of a text that nests too deep, whatever that is."""
    return isinstance(value, _TooDeep)


def _shallow(text: str) -> tuple[str, int]:
    """Return a text without what nests too deep, and how often something was cut out of it.

    A text whose brackets do not pair is malformed. Done without recursion, because the interpreter's own parser gives up
    by ``RecursionError`` at a depth that depends on its version and on the caller's stack.
    """
    kept: list[str] = []
    end = begin = 0
    open_brackets: list[str] = []
    for match in _TOKENS.finditer(text):
        found = match[0]
        if found in {"[", "{"}:
            open_brackets.append("]" if found == "[" else "}")
            if len(open_brackets) == _PARSED_DEPTH + 1:
                begin = match.start()
        elif found in {"]", "}"}:
            if not open_brackets or open_brackets.pop() != found:
                raise MalformedError("the body is not JSON: its brackets do not pair")
            if len(open_brackets) == _PARSED_DEPTH:
                kept += text[end:begin], _CUT
                end = match.end()
    if open_brackets:
        raise MalformedError("the body is not JSON: it ends inside an array or an object")
    return "".join((*kept, text[end:])), len(kept) // 2


def _decoder_of_cuts(count: int) -> json.JSONDecoder:
    """Return what reads a text out of which something was cut so many times."""
    left = count

    def constant(token: str) -> Any:
        nonlocal left
        left -= 1
        return _TooDeep() if token == _CUT and left >= 0 else _no_constant(token)

    return json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer, parse_constant=constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedError("the body repeats a member's name within one object")
    return members


def _no_constant(token: str) -> Any:
    raise MalformedError(f"the body is not JSON: {token} is no JSON value")


def _integer(token: str) -> int:
    # int() refuses more than 4,300 digits and takes quadratic time below that; any value out of range will do.
    return int(token) if len(token) < _INTEGER_DIGITS else 10**_INTEGER_DIGITS


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer, parse_constant=_no_constant)


# A place in a document as a linked list: built on every step of a walk, spelled out only where something is wrong.
_Place = tuple["_Place", "str | int"] | None


def pointer(*steps: str | int) -> str:
    """Spell a JSON pointer (RFC 6901) that any client can decode."""
    return "".join("/" + _token(step) for step in steps)


def _token(step: str | int) -> str:
    text = str(step)
    if len(text) > _LONGEST_STEP:
        text = text[:_LONGEST_STEP] + "…"
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text.replace("~", "~0").replace("/", "~1")


def _spell(place: _Place) -> str:
    steps: list[str | int] = []
    while place is not None:
        place, step = place
        steps.append(step)
    return pointer(*reversed(steps))


def problems_in(value: JsonValue, limits: Limits | None = None, at: tuple[str, ...] = ()) -> list[FieldError]:
    """List what JSON allows and prefsync refuses.

    Args:
        value: What :func:`parse` returned, or a part of it.
        limits: Also check sizes and depth. A patch is checked without, its result with them.
        at: Where the value stands in the document; its depth counts from there.
    """
    place: _Place = None
    for step in at:
        place = (place, step)
    walk = _Walk(limits)
    walk.value(value, place, 1 + len(at))
    return walk.found


class _Walk:
    """One look at a whole value. A class, because passing on what was found costs more than finding it."""

    __slots__ = ("_limits", "_longest_name", "_longest_text", "found")

    def __init__(self, limits: Limits | None) -> None:
        self._limits = limits
        self._longest_name = sys.maxsize if limits is None else limits.name
        self._longest_text = sys.maxsize if limits is None else limits.string
        self.found: list[FieldError] = []

    def value(self, value: JsonValue, place: _Place, depth: int) -> None:
        """Look at a value and all that is in it."""
        if isinstance(value, str):
            self._text(value, place, self._limits.string if self._limits else None)
        elif value is None or isinstance(value, int | float):
            if value is not None and not -MAX_INTEGER <= value <= MAX_INTEGER:
                self._number(value, place)
        elif self._limits is not None and depth > self._limits.depth:
            self._refuse(place, "too_deep", f"at most {self._limits.depth} containers may be open at once")
        elif isinstance(value, dict):
            self._members(value, place, depth)
        elif isinstance(value, _TooDeep):
            self._refuse(place, "too_deep", "this nests too deep")
        else:
            for index, item in enumerate(value):
                self.value(item, (place, index), depth + 1)

    def _members(self, members: dict[str, JsonValue], place: _Place, depth: int) -> None:
        for name, item in members.items():
            if name in FORBIDDEN_NAMES or not _is_plain(name, self._longest_name):
                self._name(name, (place, name))
            if not (isinstance(item, str) and _is_plain(item, self._longest_text)):
                self.value(item, (place, name), depth + 1)

    def _number(self, value: float, place: _Place) -> None:
        if isinstance(value, int):
            self._refuse(place, "integer_range", "an integer must lie within ±(2^53 - 1)")
        elif not math.isfinite(value):
            self._refuse(place, "number_overflow", "this number is not a finite double")

    def _name(self, name: str, place: _Place) -> None:
        if name in FORBIDDEN_NAMES:
            self._refuse(place, "forbidden_name", f"no member may be named {name}")
        if self._limits is not None and len(name) > self._limits.name:
            self._refuse(place, "name_too_long", f"a name may have at most {self._limits.name} code points")
        self._text(name, place, None)

    def _text(self, text: str, place: _Place, limit: int | None) -> None:
        if "\x00" in text:
            self._refuse(place, "nul_character", "the NUL character cannot be stored")
        if text.isascii():
            size = len(text)
        else:
            try:
                size = len(text.encode("utf-8"))
            except UnicodeEncodeError:
                self._refuse(place, "lone_surrogate", "a surrogate without its other half is no character")
                return
        if limit is not None and size > limit:
            self._refuse(place, "string_too_large", f"a string may have at most {limit} bytes of UTF-8")

    def _refuse(self, place: _Place, code: str, detail: str) -> None:
        if len(self.found) < MAX_ERRORS:
            self.found.append(FieldError(_spell(place), code, detail))


def _is_plain(text: str, limit: int) -> bool:
    """Tell at once of nearly every text that nothing is wrong with it."""
    return text.isascii() and len(text) <= limit and "\x00" not in text


# Types whose values are in canonical form whatever they are; asked first, because most values are of one.
_CANONICAL: Final = frozenset({str, bool, type(None)})


def canonical(value: Any) -> Any:
    """Return a value in the one form that every repository gives back.

    Members are ordered by name, ``-0.0`` is ``0.0``, and an integer beyond 2^53 is the double it was sent
    as: PostgreSQL's jsonb reorders members, drops the sign of zero and prints ``1e22`` as 23 digits, and
    one state must have one text.
    """
    if type(value) in _CANONICAL:
        return value
    if isinstance(value, dict):
        return {
            name: item if type(item := value[name]) in _CANONICAL else canonical(item)
            for name in sorted(value)
        }
    if isinstance(value, list | tuple):
        return [item if type(item) in _CANONICAL else canonical(item) for item in value]
    if isinstance(value, int) and not -MAX_INTEGER <= value <= MAX_INTEGER:
        return float(value)
    # turns -0.0 into 0.0 and leaves every other double alone
    return value + 0.0 if isinstance(value, float) else value


encode: Final[Callable[[Any], bytes]] = to_json
"""Write compact UTF-8 JSON."""


def decode(text: str | bytes) -> Any:
    """Read JSON that prefsync itself wrote."""
    return from_json(text)


def equal(one: Any, other: Any) -> bool:
    """Tell whether two JSON values are the same: ``1`` and ``1.0`` are, ``1`` and ``true`` are not."""
    if one is other:
        return True
    if one != other:  # in Python more is equal than in JSON, never less
        return False
    if isinstance(one, bool) or isinstance(other, bool):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def digestible(value: Any) -> bytes:
    """Write a value so that two texts are the same just where :func:`equal` says that the values are."""
    return encode(_numbers_alike(canonical(value)))


def _numbers_alike(value: Any) -> Any:
    match value:
        case dict():
            return {name: _numbers_alike(item) for name, item in value.items()}
        case list():
            return [_numbers_alike(item) for item in value]
        case float() if value.is_integer() and abs(value) <= MAX_INTEGER:
            return int(value)
        case _:
            return value

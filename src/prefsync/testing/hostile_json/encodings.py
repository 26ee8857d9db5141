"""Bytes that are no UTF-8, or UTF-8 with something before it (RFC 3629; RFC 8259, section 8.1)."""

from __future__ import annotations

from typing import Final

from prefsync.testing.hostile_json.cases import broken

__all__ = ["ENCODINGS"]

_OTHER: Final = "another encoding: json.loads takes UTF-16 and UTF-32 without a word"
_MARK: Final = "a byte order mark, which some parsers skip and others refuse"
_OVERLONG: Final = "an overlong form: what a filter looks for stands there in other bytes"
_SURROGATE: Final = "half of a surrogate pair in bytes (CESU-8, WTF-8), which no UTF-8 has"
_BEYOND: Final = "beyond U+10FFFF, or bytes that no UTF-8 has"
_CUT: Final = "a character that is not whole: lenient decoders replace it, and two texts become one"
_MIXED: Final = "text of another encoding within UTF-8"


def _string(data: bytes) -> bytes:
    return b'{"v":"%b"}' % data


ENCODINGS: Final = [
    *broken(
        "encoding",
        _OTHER,
        [
            *(
                (name, '{"v":"é"}'.encode(name))
                for name in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "latin-1", "cp1252", "cp500")
            ),
            ("utf-16 of ASCII alone", '{"v":1}'.encode("utf-16-le")),
            ("utf-16-be of ASCII alone", '{"v":1}'.encode("utf-16-be")),
            ("utf-32 of ASCII alone", '{"v":1}'.encode("utf-32-be")),
            ("utf-7", b"+AHsAIg-v+ACI-:1+AH0-"),
            ("shift-jis", _string("あ".encode("shift-jis"))),
            ("gb18030", _string("中".encode("gb18030"))),
        ],
    ),
    *broken(
        "mark",
        _MARK,
        [
            ("UTF-8's", b'\xef\xbb\xbf{"v":1}'),
            ("UTF-8's alone", b"\xef\xbb\xbf"),
            ("UTF-8's twice", b'\xef\xbb\xbf\xef\xbb\xbf{"v":1}'),
            ("UTF-8's after a space", b' \xef\xbb\xbf{"v":1}'),
            ("UTF-8's at the end", b'{"v":1}\xef\xbb\xbf'),
            ("UTF-16's", b'\xff\xfe{"v":1}'),
            ("UTF-16's with its text", '{"v":1}'.encode("utf-16")),
            ("UTF-32's with its text", '{"v":1}'.encode("utf-32")),
            ("half of UTF-8's", b'\xef\xbb{"v":1}'),
        ],
    ),
    *broken(
        "overlong",
        _OVERLONG,
        [
            ("NUL", _string(b"\xc0\x80")),
            ("a slash in two bytes", _string(b"\xc0\xaf")),
            ("a slash in three bytes", _string(b"\xe0\x80\xaf")),
            ("a slash in four bytes", _string(b"\xf0\x80\x80\xaf")),
            ("a quote", _string(b"\xc0\xa2")),
            ("a quote that ends the string", b'{"v":"x\xc0\xa2}'),
            ("a letter", _string(b"\xc1\x81")),
            ("e with an accent in three bytes", _string(b"\xe0\x83\xa9")),
            ("the last of two bytes in three", _string(b"\xe0\x9f\xbf")),
            ("the last of three bytes in four", _string(b"\xf0\x8f\xbf\xbf")),
            ("a brace", b'\xc1\xbb"v":1}'),
            ("an underscore in __proto__", b'{"_\xc1\x9fproto__":1}'),
        ],
    ),
    *broken(
        "surrogate",
        _SURROGATE,
        [
            ("the first high one", _string(b"\xed\xa0\x80")),
            ("the last high one", _string(b"\xed\xaf\xbf")),
            ("the first low one", _string(b"\xed\xb0\x80")),
            ("the last low one", _string(b"\xed\xbf\xbf")),
            ("a pair of them", _string(b"\xed\xa0\xbd\xed\xb8\x80")),
            ("in a name", b'{"\xed\xa0\x80":1}'),
            ("Java's NUL beside one", _string(b"\xc0\x80\xed\xa0\x80")),
        ],
    ),
    *broken(
        "beyond",
        _BEYOND,
        [
            ("one too far", _string(b"\xf4\x90\x80\x80")),
            ("far too far", _string(b"\xf7\xbf\xbf\xbf")),
            ("five bytes", _string(b"\xf8\x88\x80\x80\x80")),
            ("six bytes", _string(b"\xfc\x84\x80\x80\x80\x80")),
            ("FE", _string(b"\xfe")),
            ("FF", _string(b"\xff")),
            ("FF in a name", b'{"\xff":1}'),
            ("FF outside of strings", b'{"v":\xff1}'),
            ("FF at the end", b'{"v":1}\xff'),
        ],
    ),
    *broken(
        "cut",
        _CUT,
        [
            ("one byte of two", _string(b"\xc3")),
            ("two bytes of three", _string(b"\xe2\x82")),
            ("three bytes of four", _string(b"\xf0\x9f\x98")),
            ("one byte of two, then a letter", _string(b"\xc3x")),
            ("a byte that only goes on", _string(b"\x80")),
            ("two bytes that only go on", _string(b"\xbf\xbf")),
            ("one byte too many", _string(b"\xc3\xa9\xa9")),
            ("a character around the quote", b'{"v":"\xc3"\xa9}'),
        ],
    ),
    *broken(
        "mixed",
        _MIXED,
        [
            ("a Latin-1 letter", _string(b"caf\xe9")),
            ("a Windows quote", _string(b"\x93x\x94")),
            ("an EBCDIC letter", _string(b"\xc1\xc2")),
            ("both spellings of one letter", _string(b"\xc3\xa9\xe9")),
        ],
    ),
]

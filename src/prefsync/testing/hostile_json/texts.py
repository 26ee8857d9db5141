"""Strings: nearly all are kept code point for code point; NUL and halves of surrogate pairs cannot be."""

from __future__ import annotations

import json
from typing import Final

from prefsync.testing.hostile_json.cases import refused, taken

__all__ = ["TEXTS"]

_NUL: Final = "PostgreSQL's jsonb keeps no NUL, and C ends a string there"
_HALF: Final = "a half that no UTF-8 can say: taken by json.loads, and an error when it is sent"
_CODE: Final = "code of another language: data, and never run, escaped or filtered"
_FORGED: Final = "forges a line of a log, a header or a frame where it is printed as it is"
_TERMINAL: Final = "tells a terminal what to do where it is printed as it is"
_BIDI: Final = "shows as something else than it is (Unicode Technical Report 36)"
_FORM: Final = "forms that normalisation joins, and nobody may"
_EDGE: Final = "at an edge of Unicode, where tables of some library end"
_ESCAPE: Final = "the same text in another spelling of JSON's"
_TRIMMED: Final = "changed by whoever trims, collapses or drops what it thinks is nothing"
_LIKE: Final = "a string that looks like another type, and stays a string"
_SIZE: Final = "many bytes from few, where code points, UTF-16 units or glyphs are counted"


def _texts(*texts: str) -> list[tuple[str, str]]:
    return [(ascii(text if len(text) < 50 else text[:40] + "..."), json.dumps(text)) for text in texts]


TEXTS: Final = [
    *refused(
        "NUL",
        _NUL,
        "nul_character",
        [
            ("alone", '"\\u0000"'),
            ("first", '"\\u0000x"'),
            ("last", '"x\\u0000"'),
            ("within", '"admin\\u0000x"'),
            ("in an array", '[["\\u0000"]]'),
            ("in a name", '{"a\\u0000b":1}'),
        ],
    ),
    *refused(
        "half",
        _HALF,
        "lone_surrogate",
        [
            ("the first high one", '"\\ud800"'),
            ("the last high one", '"\\udbff"'),
            ("the first low one", '"\\udc00"'),
            ("the last low one", '"\\udfff"'),
            ("in capitals", '"\\uD83D"'),
            ("in the wrong order", '"\\ude00\\ud83d"'),
            ("two high ones", '"\\ud83d\\ud83d"'),
            ("a high one before a pair", '"\\ud83d\\ud83d\\ude00"'),
            ("a low one after a pair", '"\\ud83d\\ude00\\ude00"'),
            ("a letter between", '"\\ud83dx\\ude00"'),
            ("an escape cut off", '"\\ud83d\\\\ude00"'),
            ("at the end of much", '"' + "x" * 10_000 + '\\ud83d"'),
            ("in a name", '{"\\udc00":1}'),
            ("in an array", '[0,["\\udc00"]]'),
        ],
    ),
    *taken(
        "code",
        _CODE,
        _texts(
            "' OR '1'='1",
            "'; DROP TABLE prefsync_documents; --",
            '"; DELETE FROM prefsync_documents; --',
            "1; SELECT pg_sleep(10)",
            "\\'; --",
            "$$; $$",
            "$1 :user ? %s %(user)s @p1",
            "<script>alert(1)</script>",
            "</script><script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "&lt;b&gt; &amp; &#39;",
            "javascript:alert(1)",
            "]]><![CDATA[",
            "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>",
            "{{7*7}} ${7*7} #{7*7} <%= 7*7 %>",
            "{0.__class__.__mro__} {self} {}",
            "%n%n%n%s%x %1$*1$d",
            "${jndi:ldap://example.invalid/x}",
            "$(id) `id` ; id | id && id",
            "../../../etc/passwd",
            "..\\..\\windows\\win.ini",
            "file:///etc/passwd",
            "=HYPERLINK(1)",
            "*)(uid=*))(|(uid=*",
            "__import__('os').system('id')",
            "cos\nsystem\n(S'id'\ntR.",
        ),
    ),
    *taken(
        "forged",
        _FORGED,
        _texts(
            "x\nINFO:root:admin logged in",
            "x\r\nSet-Cookie: admin=1",
            "x\r\n\r\n<html>",
            "data: x\n\nevent: reset\ndata: {}\n\n",
            "id: 0\nretry: 0\n",
            ": comment\n\n",
            "*3\r\n$3\r\nSET\r\n$1\r\nx\r\n",
            '{"type":"reset","values":{}}',
            '42["welcome",{}]',
            "a\u2028b\u2029c",
            "a\x85b\x0bc\x0cd",
        ),
    ),
    *taken(
        "terminal",
        _TERMINAL,
        _texts("\x1b[2J\x1b[31m", "\x1b]0;title\x07", "\x9b31m", "\x08\x08\x08", "\x7f"),
    ),
    *taken(
        "bidi",
        _BIDI,
        _texts(
            "\u202egnp.exe",
            "\u2066\u2067\u2068\u2069",
            "a\u202d\u202cb",
            "\u200e\u200f\u061c",
            "if (\u202e} x {\u202c)",
            "p\u0430ypal \u0440\u0430\u0443\u0440\u0430l",
            "\u05d0\u05d1 abc \u0627\u0628",
            "\U000e0041\U000e0042\U000e007f",
        ),
    ),
    *taken(
        "form",
        _FORM,
        _texts(
            "caf\u00e9 cafe\u0301",
            "\u212b \u00c5 A\u030a",
            "\u1e9b\u0323 \u1e9b\u0323",
            "\ufb01 \uff21 \u2460 \u00bd",
            "\u03a9 \u2126",
            "\uac00 \u1100\u1161",
            "\u0958 \u0915\u093c",
            "q\u0307\u0323 q\u0323\u0307",
            "\u0344 \u0308\u0301",
            "\u00df \u1e9e SS",
            "\u0130 i\u0307 I \u0131",
            "\u03c2 \u03c3 \u03a3",
        ),
    ),
    *taken(
        "edge",
        _EDGE,
        _texts(
            "\x01\x02\x1f",
            "\x7f\x80\x9f",
            "\ud7ff\ue000",
            "\ufdd0\ufdef",
            "\ufffd\ufffe\uffff",
            "\U00010000",
            "\U0001fffe\U0001ffff",
            "\U0010fffe\U0010ffff",
            "\U000f0000\U0010fffd",
            "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
            "\U0001f1e9\U0001f1ea",
            "\u0378",
            "\u5350",
            "\u0e49" * 50,
            "Z\u0351\u036b\u0343\u036a" * 20,
            "\ufdfd",
        ),
    ),
    *taken(
        "escape",
        _ESCAPE,
        [
            ("a letter", '"\\u0041\\u004a\\u006A"'),
            ("a pair", '"\\ud83d\\ude00\\uD83D\\uDE00"'),
            ("all short ones", '"\\"\\\\\\/\\b\\f\\n\\r\\t"'),
            ("a slash as it is", '"/</script>"'),
            ("a backslash before a u", '"\\\\u0041"'),
            ("two backslashes", '"\\\\\\\\"'),
            ("a quote in an escape", '"\\u0022}"'),
            ("separators as they are", '"\u2028\u2029"'),
            ("delete as it is", '"\x7f"'),
            ("brackets in a string", '"[[[[{{{{"'),
            ("many brackets in a string", '"' + "[{" * 5_000 + '"'),
            ("quotes and brackets", '"\\"[\\"{\\\\"'),
        ],
    ),
    *taken(
        "trimmed",
        _TRIMMED,
        _texts(
            "",
            " ",
            "  a  ",
            "\ta\n",
            "a  b",
            "\u00a0a\u3000",
            "\ufeffa",
            "\u200b",
            "a\u00adb",
            "\u180e",
            "\u2800",
        ),
    ),
    *taken(
        "like",
        _LIKE,
        _texts(
            "1",
            "1e400",
            "NaN",
            "null",
            "true",
            "-0",
            "0x10",
            "[]",
            "{}",
            '"',
            "2026-11-23",
            "__proto__",
            "undefined",
        ),
    ),
    *refused(
        "size",
        _SIZE,
        "string_too_large",
        [
            ("one byte too many", '"' + "x" * 16_385 + '"'),
            ("two bytes each", '"' + "é" * 8_193 + '"'),
            ("three bytes each", '"' + "€" * 5_462 + '"'),
            ("four bytes each", '"' + "\U0001f600" * 4_097 + '"'),
            ("too many in escapes", '"' + "\\ud83d\\ude00" * 4_097 + '"'),
            ("one letter, many marks", '"a' + "\u0301" * 8_193 + '"'),
        ],
    ),
    *taken(
        "size",
        _SIZE,
        [
            ("16 KiB", '"' + "x" * 16_384 + '"'),
            ("of four bytes each", '"' + "\U0001f600" * 4_096 + '"'),
            ("in escapes", '"' + "\\u0041" * 16_384 + '"'),
        ],
    ),
]

"""Shapes: too deep, too wide, too much; and what a merge patch has no word for."""

from __future__ import annotations

from typing import Final

from prefsync.testing.hostile_json.cases import HostileJson, refused, taken

__all__ = ["SHAPES"]

_DEEP: Final = "a recursive parser, walker or encoder ends in a RecursionError, or ends the process"
_EDGE: Final = "16 containers may be open at once, the document and the namespace two of them"
_WIDE: Final = "many small members: a hash table that is flooded, a quadratic loop, an endless list of errors"
_MUCH: Final = "a small body that unfolds, or one that is simply large"
_ROOT: Final = "the body must be an object"
_MEMBER: Final = "a namespace must be an object; null is for PATCH alone"
_OPERATION: Final = "another way to say a change (JSON Patch, operators): data here, and no command"
_NULL: Final = "null takes away in PATCH, and is a value in PUT"
_TYPED: Final = "null in a typed field is no value: in PATCH it means the default"


def _nested(opening: str, deep: int, inside: str, closing: str) -> str:
    return opening * deep + inside + closing * deep


def _root(name: str, text: str, path: str) -> HostileJson:
    return HostileJson(
        f"root of {path or '/'}: {name}", _ROOT, text.encode(), 422, frozenset({"object_type"}), path
    )


SHAPES: Final = [
    *refused(
        "deep",
        _DEEP,
        "too_deep",
        [
            *(
                (f"{deep} arrays", _nested("[", deep, "", "]"))
                for deep in (15, 100, 197, 200, 1_000, 100_000)
            ),
            *((f"{deep} objects", _nested('{"a":', deep, "1", "}")) for deep in (15, 199, 1_000, 30_000)),
            *((f"{deep} of both", _nested('[{"a":', deep, "1", "}]")) for deep in (8, 500, 20_000)),
            ("with brackets in strings", _nested('["]]]]",', 40, "1", "]")),
            ("beside what is not", '[1,{"a":' + _nested("[", 30, "", "]") + "}]"),
        ],
    ),
    *taken(
        "deep",
        _EDGE,
        [
            ("14 arrays", _nested("[", 14, "", "]")),
            ("14 objects", _nested('{"a":', 14, "1", "}")),
            ("shallow, with many brackets", "[" + "[],{}," * 1_000 + "0]"),
        ],
    ),
    *refused(
        "wide",
        _WIDE,
        "too_many_fields",
        [
            ("1,025 fields", "{" + ",".join(f'"n{n}":0' for n in range(1_025)) + "}"),
            ("10,000 fields", "{" + ",".join(f'"n{n}":0' for n in range(10_000)) + "}"),
        ],
        "%s",
    ),
    *taken(
        "wide",
        _WIDE,
        [
            ("1,024 fields", "{" + ",".join(f'"n{n}":0' for n in range(1_024)) + "}"),
            ("5,000 members of a field", '{"v":{' + ",".join(f'"n{n}":0' for n in range(5_000)) + "}}"),
            ("30,000 zeros", '{"v":[' + "0," * 30_000 + "0]}"),
            ("20,000 empty objects", '{"v":[' + "{}," * 20_000 + "{}]}"),
            ("20,000 empty strings", '{"v":[' + '"",' * 20_000 + '""]}'),
        ],
        "%s",
    ),
    *refused(
        "wide",
        _WIDE,
        "integer_range",
        [("10,000 errors", '{"v":[' + "9007199254740992," * 10_000 + "0]}")],
        "%s",
    ),
    *refused(
        "much",
        _MUCH,
        "document_too_large",
        [
            ("140 KB in small strings", '{"v":[' + ",".join(['"' + "x" * 1_000 + '"'] * 140) + "]}"),
            ("70,000 zeros", '{"v":[' + "0," * 70_000 + "0]}"),
            ("short floats that are written long", '{"v":[' + "1e20," * 40_000 + "0]}"),
        ],
        "%s",
    ),
    HostileJson("much: 256 KiB of spaces", _MUCH, b'{"v":1' + b" " * (256 * 1024 - 7) + b"}", 200),
    HostileJson("much: one byte more than 256 KiB", _MUCH, b'{"v":1' + b" " * (256 * 1024 - 6) + b"}", 413),
    HostileJson("much: a megabyte of brackets", _MUCH, b"[" * 2**20, 413),
    HostileJson("much: a megabyte of quotes", _MUCH, b'"' * 2**20, 413),
    *(
        _root(name, text, path)
        for path in ("", "/plugins", "/appearance")
        for name, text in [
            ("null", "null"),
            ("true", "true"),
            ("a number", "0"),
            ("a string", '"{}"'),
            ("an array", "[]"),
            ("an array of pairs", '[["v",1]]'),
            ("JSON Patch", '[{"op":"add","path":"/v","value":1}]'),
        ]
    ),
    *(
        HostileJson(
            f"member: {name}",
            _MEMBER,
            b'{"plugins":%b}' % text,
            422,
            frozenset({"object_type"}),
            "",
            methods,
        )
        for name, text, methods in [
            ("null", b"null", ("PUT",)),
            ("false", b"false", ("PUT", "PATCH")),
            ("a number", b"0", ("PUT", "PATCH")),
            ("a string", b'""', ("PUT", "PATCH")),
            ("an array", b"[]", ("PUT", "PATCH")),
        ]
    ),
    *taken(
        "operation",
        _OPERATION,
        [
            ("JSON Patch", '[{"op":"remove","path":"/v"}]'),
            ("one of its operations", '{"op":"remove","path":"/v"}'),
            ("a test of it", '{"op":"test","path":"","value":{}}'),
            ("MongoDB's set", '{"$set":{"v":1},"$unset":{"w":1}}'),
            ("MongoDB's where", '{"$where":"sleep(1000)"}'),
            ("MongoDB's types", '{"$numberLong":"9007199254740993","$oid":"0"}'),
            ("an increment", '{"$inc":{"n":1}}'),
            ("Firebase's delete", '{".sv":"timestamp",".value":null}'),
            ("a reference", '{"$ref":"#/v"}'),
            ("a reference to a file", '{"$ref":"file:///etc/passwd"}'),
            ("a class to make", '{"@type":"java.lang.Runtime","__class__":"os.system"}'),
            ("a function to call", '{"_$$ND_FUNC$$_v":"function(){}"}'),
            ("a jsonpickle", '{"py/object":"os.system","py/reduce":[]}'),
            ("a GraphQL query", '{"query":"{__schema{types{name}}}"}'),
        ],
    ),
    *taken(
        "null",
        _NULL,
        [
            ("a field", "null"),
            ("a member", '{"a":null}'),
            ("members of members", '{"a":{"b":null,"c":{"d":null}}}'),
            ("in an array", "[null,[null]]"),
            ("in an object in an array", '[{"a":null}]'),
            ("beside a value", '{"a":null,"b":1}'),
            ("many", "{" + ",".join(f'"n{n}":null' for n in range(500)) + "}"),
        ],
    ),
    *(
        HostileJson(f"typed: {name}", _TYPED, text, 422, frozenset({code}), path, methods)
        for name, text, code, path, methods in [
            ("null for a choice", b'{"theme":null}', "literal_error", "/appearance", ("PUT",)),
            ("null for an integer", b'{"font_size":null}', "int_type", "/appearance", ("PUT",)),
            ("null for a list", b'{"rulers":null}', "list_type", "/editor", ("PUT",)),
            ("null within a list", b'{"rulers":[null]}', "int_type", "/editor", ("PUT", "PATCH")),
            ("an object for a list", b'{"rulers":{"0":80}}', "list_type", "/editor", ("PUT", "PATCH")),
            ("a string for a list", b'{"rulers":"80"}', "list_type", "/editor", ("PUT", "PATCH")),
            ("too long a list", b'{"rulers":[1,2,3,4,5,6,7,8,9]}', "too_long", "/editor", ("PUT", "PATCH")),
            ("1 for true", b'{"word_wrap":1}', "bool_type", "/editor", ("PUT", "PATCH")),
            ("a word for true", b'{"word_wrap":"true"}', "bool_type", "/editor", ("PUT", "PATCH")),
            ("another case", b'{"theme":"Dark"}', "literal_error", "/appearance", ("PUT", "PATCH")),
            ("a list for a string", b'{"theme":["dark"]}', "literal_error", "/appearance", ("PUT", "PATCH")),
            (
                "a line feed at its end",
                b'{"accent":"#3366ff\\n"}',
                "string_pattern_mismatch",
                "/appearance",
                ("PUT", "PATCH"),
            ),
            (
                "digits of another script",
                '{"accent":"#\u0663366ff"}'.encode(),
                "string_pattern_mismatch",
                "/appearance",
                ("PUT", "PATCH"),
            ),
        ]
    ),
]

"""Members' names: repeated, dangerous, endless, or of no shape that a name has elsewhere."""

from __future__ import annotations

from typing import Final

from prefsync.testing.hostile_json.cases import HostileJson, broken, refused, taken

__all__ = ["NAMES"]

_REPEATED: Final = "parsers differ on which one counts: a filter sees one, the store the other"
_PROTOTYPE: Final = "a careless merge in JavaScript changes the prototype of every object"
_LOOKALIKE: Final = "only looks like a forbidden name, and is data"
_MEMBER: Final = "a member of every object in JavaScript or Python: data here"
_POINTER: Final = "a name that a JSON pointer has to escape"
_QUERY: Final = "an operator, a path or a key of some database's or template's"
_EMPTY: Final = "names of nothing, or of nothing that shows"
_LONG: Final = "128 code points at most, whatever they weigh"
_UNDECLARED: Final = "no field of a typed namespace, however it is spelled"
_NAMESPACE: Final = "no namespace, however it is spelled"


def _named(name: str) -> str:
    return f'{{"{name}":1}}'


def _members(name: str) -> list[tuple[str, str]]:
    return [
        (f"{name} = {label}", f'"{name}":{value}')
        for label, value in (("1", "1"), ("null", "null"), ("an object", '{"x":1}'))
    ]


NAMES: Final = [
    *broken(
        "repeated",
        _REPEATED,
        [
            ("twice", b'{"v":1,"v":2}'),
            ("twice the same", b'{"v":1,"v":1}'),
            ("three times", b'{"v":1,"w":2,"v":3,"v":4}'),
            ("null and a value", b'{"v":null,"v":1}'),
            ("in another spelling", b'{"v":1,"\\u0076":2}'),
            ("in capitals and small digits", b'{"\\u00E9":1,"\\u00e9":2}'),
            ("an escape and a character", '{"é":1,"\\u00e9":2}'.encode()),
            ("a pair and its character", '{"\U0001f600":1,"\\ud83d\\ude00":2}'.encode()),
            ("an escaped slash", b'{"a/b":1,"a\\/b":2}'),
            ("the empty name", b'{"":1,"":2}'),
            ("deep inside", b'{"v":[{"a":{"b":1,"b":2}}]}'),
            (
                "a thousand names apart",
                b'{"v":0,' + b"".join(b'"n%d":0,' % n for n in range(900)) + b'"v":1}',
            ),
            ("containers", b'{"v":{},"v":[]}'),
            ("__proto__", b'{"__proto__":1,"__proto__":2}'),
            ("a lone surrogate", b'{"\\ud800":1,"\\uD800":2}'),
            ("NUL", b'{"\\u0000":1,"\\u0000":2}'),
        ],
    ),
    *(
        case
        for name in ("__proto__", "constructor", "prototype")
        for form in ("{%s}", '{"v":{%s}}', '{"v":[0,{"a":[{%s}]}]}')
        for case in refused(f"prototype in {form % ''}", _PROTOTYPE, "forbidden_name", _members(name), form)
    ),
    *refused(
        "prototype",
        _PROTOTYPE,
        "forbidden_name",
        [
            ("in escapes", '{"\\u005f\\u005fproto\\u005f\\u005f":1}'),
            ("one letter in escapes", '{"\\u0063onstructor":1}'),
            ("both steps", '{"constructor":{"prototype":{"isAdmin":true}}}'),
            ("as another library spells the way", '{"__proto__":{"toString":"x"}}'),
        ],
        "%s",
    ),
    *taken(
        "lookalike",
        _LOOKALIKE,
        [
            (repr(name), f'{{"{name}":{{"x":1}}}}')
            for name in (
                "__Proto__",
                "__proto",
                "proto__",
                "_proto_",
                "__proto__ ",
                " __proto__",
                "__prototype__",
                "Constructor",
                "constructor.prototype",
                "__proto__.x",
                "__proto__[x]",
                "[__proto__]",
                "__pro__proto__to__",
                "__\u0440roto__",
                "\uff3f\uff3fproto\uff3f\uff3f",
            )
        ],
        "%s",
    ),
    *taken(
        "member",
        _MEMBER,
        [
            (name, f'{{"{name}":1,"v":{{"{name}":{{}}}}}}')
            for name in (
                "toString",
                "valueOf",
                "hasOwnProperty",
                "__defineGetter__",
                "__lookupSetter__",
                "then",
                "toJSON",
                "length",
                "__class__",
                "__init__",
                "__dict__",
                "__globals__",
                "__reduce__",
                "model_fields",
                "model_config",
                "self",
                "__pydantic_extra__",
            )
        ],
        "%s",
    ),
    *taken(
        "pointer",
        _POINTER,
        [
            (repr(name), f'{{"{name}":{{"{name}":1}}}}')
            for name in (
                "/",
                "//",
                "~",
                "~0",
                "~1",
                "~01",
                "a/b",
                "0",
                "-",
                "-1",
                "#",
                "#/",
                "%2F",
                "..",
                ".",
            )
        ],
        "%s",
    ),
    *taken(
        "query",
        _QUERY,
        [
            (repr(name), f'{{"{name}":1}}')
            for name in (
                "$where",
                "$ne",
                "$ref",
                "$schema",
                "$.a",
                "a.b.c",
                "a[0]",
                "a[]",
                "{a,b}",
                "'; DROP TABLE prefsync_documents; --",
                "%s",
                "%(name)s",
                ":name",
                "?",
                "@type",
                "{{7*7}}",
                "${x}",
                "*",
                "a:b",
                "values",
                "revision",
                "schema",
                "null",
                "true",
            )
        ],
        "%s",
    ),
    *taken(
        "empty",
        _EMPTY,
        [
            ("the empty name", '{"":{"":{"":[]}}}'),
            ("a space", '{" ":1,"  ":2}'),
            ("a line feed", '{"\\n":1,"\\r\\n":2}'),
            ("no width", '{"\u200b":1,"\u200c":2,"\u2060":3}'),
            ("a byte order mark", '{"\ufeff":1}'),
            ("a soft hyphen", '{"a\u00adb":1,"ab":2}'),
            ("composed and decomposed", '{"\u00e9":1,"e\u0301":2}'),
            ("names that case folding joins", '{"ß":1,"SS":2,"ss":3,"ẞ":4}'),
            ("dotted and dotless", '{"I":1,"i":2,"\u0130":3,"\u0131":4}'),
            ("lookalikes", '{"a":1,"\u0430":2,"\uff41":3}'),
            ("names that sort as integers", '{"10":1,"9":2,"1":3,"01":4}'),
        ],
        "%s",
    ),
    *refused(
        "long",
        _LONG,
        "name_too_long",
        [
            ("129 letters", _named("n" * 129)),
            ("129 astral characters", _named("\U0001f600" * 129)),
            ("129 combining marks", _named("\u0301" * 129)),
            ("deep inside", f'{{"v":[{_named("n" * 129)}]}}'),
            ("in escapes", _named("\\u006e" * 129)),
            ("a hundred thousand", _named("n" * 100_000)),
        ],
        "%s",
    ),
    *taken(
        "long",
        _LONG,
        [
            ("128 letters", _named("n" * 128)),
            ("128 astral characters", _named("\U0001f600" * 128)),
            ("128 in escapes", _named("\\u006e" * 128)),
        ],
        "%s",
    ),
    *(
        HostileJson(
            f"field {name!r}",
            _UNDECLARED,
            f'{{"{name}":"dark"}}'.encode(),
            422,
            frozenset({"extra_forbidden"}),
            "/appearance",
        )
        for name in (
            "Theme",
            "theme ",
            " theme",
            "theme\u200b",
            "th\u0435me",
            "\uff54heme",
            "__theme",
            "",
            "model_config",
        )
    ),
    *(
        HostileJson(
            f"namespace {name!r}",
            _NAMESPACE,
            f'{{"{name}":{{}}}}'.encode(),
            422,
            frozenset({"undeclared_namespace"}),
            "",
        )
        for name in (
            "Plugins",
            "plugins/",
            "/plugins",
            "plugins\u200b",
            "\u0440lugins",
            "",
            "schema",
            "*",
            "..",
        )
    ),
]

"""protocol.md, section 2, "Bodies": what each field of the example namespaces takes, and how refusals are told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from prefsync.testing.mount.callers import DEFAULTS
from prefsync.testing.mount.suite import MountSuite, label

if TYPE_CHECKING:
    from prefsync.testing.mount.callers import Caller

__all__ = ["ValuesContract"]

# Namespace, field, JSON text of what it takes. design.md, section 10.
_GOOD: Final = [
    *(("appearance", "theme", text) for text in ('"system"', '"light"', '"dark"', '"\\u0064ark"')),
    *(("appearance", "accent", text) for text in ('"#000000"', '"#FFFFFF"', '"#aBcDeF"', '"#123456"')),
    *(("appearance", "font_size", text) for text in ("8", "9", "71", "72")),
    *(("appearance", "density", text) for text in ('"comfortable"', '"compact"')),
    *(("editor", "tab_size", text) for text in ("1", "2", "15", "16")),
    *(("editor", "word_wrap", text) for text in ("true", "false")),
    *(
        ("editor", "rulers", text)
        for text in ("[]", "[80]", "[1,2,3,4,5,6,7,8]", "[-1,0,-0]", "[80,80]", "[9007199254740991]")
    ),
    *(("notifications", "email", text) for text in ("true", "false")),
    *(("notifications", "push", text) for text in ("true", "false")),
    *(("notifications", "digest", text) for text in ('"off"', '"daily"', '"weekly"')),
    *(
        ("notifications", "muted_channels", text)
        for text in (
            "[]",
            '["a"]',
            '["","a","a"]',
            json.dumps([str(n) for n in range(100)]),
            '["\\u0041\\n"]',
        )
    ),
]

_NO_STRING: Final = ("0", "1", "true", "false", "[]", "{}", '["dark"]', "1.5")
_NO_INTEGER: Final = (
    '"14"',
    '""',
    "true",
    "false",
    "14.0",
    "14.5",
    "1.4e1",
    "14e0",
    "1E1",
    "[]",
    "[14]",
    "{}",
)
_NO_BOOLEAN: Final = ("0", "1", "0.0", "1.0", '"true"', '"false"', '""', '"1"', "[]", "[true]", "{}")
_NO_LIST: Final = ('""', '"a"', "0", "true", "1.5", "{}", '{"0":1}', '"[]"')

# The same of what it refuses, and where in the field.
_BAD: Final = [
    *(
        ("appearance", "theme", text, "")
        for text in (*_NO_STRING, '"Dark"', '"dark "', '""', '"auto"', '"dark\\n"')
    ),
    *(
        ("appearance", "accent", text, "")
        for text in (
            *_NO_STRING,
            '""',
            '"#"',
            '"3366ff"',
            '"#3366f"',
            '"#3366fff"',
            '"#3366fg"',
            '"##3366ff"',
            '" #3366ff"',
            '"#3366ff "',
            '"#3366ff\\n"',
            '"\\n#3366ff"',
            '"#3366ff\\r\\n"',
            '"x\\n#3366ff"',
            '"#3366ff\\n#3366ff"',
            '"#\\uff13366ff"',
            '"#\\u0663366ff"',
            '"\\uff033366ff"',
            '"rgb(1,2,3)"',
            '"red"',
        )
    ),
    *(
        ("appearance", "font_size", text, "")
        for text in (*_NO_INTEGER, "7", "73", "0", "-8", "9007199254740991")
    ),
    *(("appearance", "density", text, "") for text in (*_NO_STRING, '"Compact"', '"cosy"')),
    *(("editor", "tab_size", text, "") for text in (*_NO_INTEGER, "0", "17", "-1", "-0")),
    *(("editor", "word_wrap", text, "") for text in _NO_BOOLEAN),
    *(("editor", "rulers", text, "") for text in (*_NO_LIST, "[1,2,3,4,5,6,7,8,9]")),
    *(("editor", "rulers", f"[80,{text}]", "/1") for text in (*_NO_INTEGER, "null")),
    *(("notifications", "email", text, "") for text in _NO_BOOLEAN),
    *(("notifications", "push", text, "") for text in _NO_BOOLEAN),
    *(("notifications", "digest", text, "") for text in (*_NO_STRING, '"Weekly"', '"monthly"')),
    *(
        ("notifications", "muted_channels", text, "")
        for text in (*_NO_LIST, json.dumps([str(n) for n in range(101)]))
    ),
    *(("notifications", "muted_channels", f'["a","b",{text}]', "/2") for text in (*_NO_STRING, "null")),
]

_FIELDS: Final = [(namespace, name) for namespace, fields in DEFAULTS.items() for name in fields]


class ValuesContract(MountSuite):
    """Fields and their rules."""

    @pytest.mark.parametrize(("namespace", "field", "text"), _GOOD, ids=label)
    async def test_values_that_are_taken(self, me: Caller, namespace: str, field: str, text: str) -> None:
        """They come back as they were sent."""
        value = json.loads(text)
        inner = f'{{"{field}":{text}}}'.encode()
        outer = f'{{"{namespace}":{{"{field}":{text}}}}}'.encode()
        shown = [
            (await me.put(f"/{namespace}", raw=inner)).ok(),
            (await me.patch("", raw=outer)).ok()["values"][namespace],
            (await me.get(f"/{namespace}")).ok(),
        ]
        for values in shown:
            assert values == {**DEFAULTS[namespace], field: value}
            assert type(values[field]) is type(value)

    @pytest.mark.parametrize(("namespace", "field", "text", "inside"), _BAD, ids=label)
    async def test_values_that_are_refused(
        self, me: Caller, namespace: str, field: str, text: str, inside: str
    ) -> None:
        """``422`` with the exact place; types are strict, and nothing is written."""
        inner = f'{{"{field}":{text}}}'.encode()
        outer = f'{{"{namespace}":{{"{field}":{text}}}}}'.encode()
        for answer in (await me.put(f"/{namespace}", raw=inner), await me.patch("", raw=outer)):
            assert answer.pointers() == [f"/{namespace}/{field}{inside}"]
            assert "Prefsync-Revision" not in answer.headers
        assert (await me.get()).revision == 0

    # --- Null ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(("namespace", "field"), _FIELDS)
    async def test_null_in_a_put_is_a_value(self, me: Caller, namespace: str, field: str) -> None:
        """``422`` in a typed field that does not allow it."""
        place = [f"/{namespace}/{field}"]
        assert (await me.put(f"/{namespace}", {field: None})).pointers() == place
        assert (await me.put("", {namespace: {field: None}})).pointers() == place

    @pytest.mark.parametrize(("namespace", "field"), _FIELDS)
    async def test_null_in_a_patch_is_the_default(self, me: Caller, namespace: str, field: str) -> None:
        """Stored or not, the field goes back to its default."""
        stored = {
            "appearance": {"theme": "dark", "accent": "#000000", "font_size": 8, "density": "compact"},
            "editor": {"tab_size": 1, "word_wrap": True, "rulers": [1]},
            "notifications": {"email": False, "push": True, "digest": "off", "muted_channels": ["x"]},
        }
        for path, patch in ((f"/{namespace}", {field: None}), ("", {namespace: {field: None}})):
            (await me.patch(path, patch)).ok()
            await me.put("", stored)
            (await me.patch(path, patch)).ok()
            expected = {**stored[namespace], field: DEFAULTS[namespace][field]}
            assert (await me.get(f"/{namespace}")).ok() == expected

    async def test_null_is_kept_in_an_open_namespace(self, me: Caller) -> None:
        """By ``PUT`` at any depth; by ``PATCH`` inside arrays, where it removes nothing."""
        value = {"a": None, "b": {"c": None}, "d": [None, {"e": None}]}
        assert (await me.put("/plugins", value)).ok() == value
        assert (await me.put("", {"plugins": value})).ok()["values"]["plugins"] == value
        assert (await me.get("/plugins")).ok() == value
        patched = await me.patch("/plugins", {"a": None, "b": {"c": None}, "f": [None]})
        assert patched.ok() == {"b": {}, "d": [None, {"e": None}], "f": [None]}

    # --- Undeclared ------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("value", [1, {}, "x", None], ids=label)
    @pytest.mark.parametrize("name", ["nothing", "Theme", "theme ", "", "font-size", "fontSize"])
    async def test_an_undeclared_field(self, me: Caller, name: str, value: Any) -> None:
        """``422`` with its pointer, in ``PUT`` and in ``PATCH``, whatever its value."""
        for method in ("PUT", "PATCH"):
            assert (await me.send(method, "/appearance", {name: value})).pointers() == [f"/appearance/{name}"]
            body = {"appearance": {name: value, "theme": "dark"}}
            assert (await me.send(method, "", body)).pointers() == [f"/appearance/{name}"]
        assert (await me.get()).revision == 0

    @pytest.mark.parametrize("value", [{}, {"a": 1}, 1, None], ids=label)
    @pytest.mark.parametrize("name", ["nothing", "Appearance", "schema", "changes", "revision", "values", ""])
    async def test_an_undeclared_namespace_in_a_body(self, me: Caller, name: str, value: Any) -> None:
        """``422`` with its pointer, in ``PUT`` and in ``PATCH``, whatever its value."""
        for method in ("PUT", "PATCH"):
            body = {"appearance": {"theme": "dark"}, name: value}
            assert (await me.send(method, "", body)).pointers() == [f"/{name}"]
        assert (await me.get()).revision == 0

    # --- All at once -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    async def test_all_errors_of_a_document(self, me: Caller, method: str) -> None:
        """Everything that is wrong is told in one answer, each with its pointer from the root."""
        body = {
            "appearance": {"theme": "neon", "accent": 7, "font_size": 99, "nothing": 1, "density": "compact"},
            "editor": {"rulers": [1, "2", 3, True], "tab_size": 4},
            "notifications": [],
            "nowhere": {"x": 1},
            "plugins": {"ok": 1, "a/b": {"__proto__": {}}},
        }
        assert (await me.send(method, "", body)).pointers() == [
            "/appearance/accent",
            "/appearance/font_size",
            "/appearance/nothing",
            "/appearance/theme",
            "/editor/rulers/1",
            "/editor/rulers/3",
            "/notifications",
            "/nowhere",
            "/plugins/a~1b/__proto__",
        ]
        assert (await me.get()).revision == 0

    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    async def test_all_errors_of_a_namespace(self, me: Caller, method: str) -> None:
        """The pointers begin at the document's root for ``/{ns}`` too."""
        body = {
            "theme": "neon",
            "accent": "red",
            "font_size": "14",
            "density": None if method == "PUT" else 5,
            "x/y": 0,
        }
        assert (await me.send(method, "/appearance", body)).pointers() == [
            "/appearance/accent",
            "/appearance/density",
            "/appearance/font_size",
            "/appearance/theme",
            "/appearance/x~1y",
        ]

    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    async def test_errors_of_every_kind_in_one_namespace(self, me: Caller, method: str) -> None:
        """A rule of the model, an integer that no double holds and a forbidden name are told together."""
        raw = b'{"digest":"never","email":1,"muted_channels":[9007199254740992],"constructor":1}'
        assert (await me.send(method, "/notifications", raw=raw)).pointers() == [
            "/notifications/constructor",
            "/notifications/digest",
            "/notifications/email",
            "/notifications/muted_channels/0",
        ]

    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    async def test_a_limit_and_a_rule_are_broken_at_once(self, me: Caller, method: str) -> None:
        """A string that is too long in one field hides no wrong value in another, and the other way round."""
        body = {"digest": "never", "muted_channels": ["ok", "x" * (16 * 1024 + 1)]}
        both = ["/notifications/digest", "/notifications/muted_channels/1"]
        assert (await me.send(method, "/notifications", body)).pointers() == both
        assert (await me.send(method, "", {"notifications": body})).pointers() == both

    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    async def test_limits_and_forbidden_values_are_broken_at_once(self, me: Caller, method: str) -> None:
        """What can never be stored hides no limit that is broken beside it."""
        body = {"__proto__": 1, "long": "x" * (16 * 1024 + 1), "n" * 129: 1}
        expected = ["/plugins/__proto__", "/plugins/long", "/plugins/" + "n" * 129]
        assert (await me.send(method, "/plugins", body)).pointers() == sorted(expected)

    async def test_a_refused_write_writes_nothing_of_itself(self, me: Caller) -> None:
        """Good namespaces beside a bad one stay as they were."""
        before = await me.put("", {"editor": {"tab_size": 2}})
        answer = await me.patch(
            "", {"editor": {"tab_size": 3}, "plugins": {"a": 1}, "appearance": {"theme": "x"}}
        )
        assert answer.pointers() == ["/appearance/theme"]
        after = await me.get()
        assert (after.body, after.etag) == (before.body, before.etag)

    async def test_very_many_errors(self, me: Caller) -> None:
        """However many there are, the answer is a refusal of a bounded size."""
        answer = await me.put("/editor", {"rulers": ["x"] * 40_000})
        assert answer.status == 422
        answer = await me.put("/appearance", {f"f{n}": 1 for n in range(15_000)})
        assert answer.status == 422
        assert len(answer.body) < 1024 * 1024

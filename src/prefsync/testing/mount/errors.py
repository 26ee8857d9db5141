"""protocol.md, section 2, "Errors"; RFC 9457."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from prefsync.testing.mount.suite import MountSuite, label

if TYPE_CHECKING:
    from prefsync.testing.mount.callers import Caller

__all__ = ["ErrorsContract"]

_DOCUMENT: Final = {"GET", "HEAD", "PUT", "PATCH", "DELETE"}
_READ_ONLY: Final = {"GET", "HEAD"}

# Paths of the protocol that belong to later versions, and names that none of its paths has.
_NOWHERE: Final = [
    "/nothing",
    "/Appearance",
    "/appearance/",
    "/appearance/theme",
    "/appearance/theme/x",
    "//",
    "///appearance",
    "//appearance",
    "/schema/",
    "/schema/x",
    "/changes/",
    "/changes/1",
    "/sync",
    "/history",
    "/export",
    "/erase",
    "/explain",
    "/client",
    "/%0A",
    "/appearance%0A",
    "/appearance%0D%0A",
    "/%0Aappearance",
    "/schema%0A",
    "/changes%0A",
    "/%00",
    "/appearance%00",
    "/%20",
    "/appearance%20",
    "/caf%C3%A9",
    "/%F0%9F%98%80",
    "/%FF%FE",
    "/%ED%A0%80",
    "/%2Fappearance",
    "/appearance%2Ftheme",
    "/%252F",
    "/%3Cscript%3E",
    "/%22%5C",
    "/a:b@c;d=e,f+g",
    "/__proto__",
    "/" + "x" * 4_000,
    "/" + "x/" * 1_000,
]


class ErrorsContract(MountSuite):
    """Paths and methods that are not there, and what every refusal looks like."""

    @pytest.mark.parametrize("path", _NOWHERE, ids=label)
    async def test_paths_that_are_not_there(self, me: Caller, path: str) -> None:
        """``404`` in the protocol's words for every path below the prefix, by any method, whatever is in the path."""
        for method in ("GET", "PUT", "PATCH", "DELETE", "POST"):
            answer = await me.write(method, path, {"theme": "dark"})
            members = answer.problem(404, "not-found")
            assert len(answer.body) < 4_096
            assert "errors" not in members
        assert (await me.get()).revision == 0

    @pytest.mark.parametrize("namespace", ["nothing", "nothing_else", "schema2"])
    async def test_an_undeclared_namespace_in_the_path(self, me: Caller, namespace: str) -> None:
        """``404`` before its body is looked at."""
        for raw in (b"{}", b"{", b'{"__proto__":1}'):
            (await me.put(f"/{namespace}", raw=raw)).problem(404, "not-found")
            (await me.patch(f"/{namespace}", raw=raw, media=None)).problem(404, "not-found")

    @pytest.mark.parametrize(
        ("path", "allowed"),
        [
            ("", _DOCUMENT),
            ("/", _DOCUMENT),
            ("/appearance", _DOCUMENT),
            ("/plugins", _DOCUMENT),
            ("/schema", _READ_ONLY),
            ("/changes", _READ_ONLY),
        ],
    )
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
    async def test_methods_that_a_path_does_not_take(
        self, me: Caller, method: str, path: str, allowed: set[str]
    ) -> None:
        """``405`` with ``Allow`` (RFC 9110, section 15.5.6)."""
        if method in allowed:
            return
        answer = await me.send(method, path, query="since=0")
        answer.problem(405, "method-not-allowed")
        assert {name.upper() for name in answer.headers.members("Allow")} == allowed

    @pytest.mark.parametrize("path", ["/nothing", "/appearance"])
    async def test_head_errors_have_no_body(self, me: Caller, path: str) -> None:
        """They have the headers that ``GET`` would have."""
        headers = {"If-Match": "malformed"}
        got, head = [await me.send(method, path, headers=headers) for method in ("GET", "HEAD")]
        assert head.status == got.status >= 400
        assert head.body == b""
        assert head.headers["Content-Type"] == got.headers["Content-Type"]

    async def test_one_kind_of_error_has_one_title(self, me: Caller) -> None:
        """A title does not change from one occurrence to the next (RFC 9457, section 3.1.3)."""
        requests: list[tuple[str, str, dict[str, Any]]] = [
            ("GET", "/nothing", {}),
            ("GET", "/nowhere", {}),
            ("PUT", "", {"value": []}),
            ("PUT", "/appearance", {"value": {"theme": 1}}),
            ("PUT", "", {"raw": b"{"}),
            ("GET", "/changes", {"query": "since=x"}),
            ("POST", "", {}),
            ("DELETE", "/schema", {}),
            ("DELETE", "", {"headers": {"If-Match": '"x"'}}),
            ("GET", "", {"headers": {"Prefsync-Min-Revision": "5"}}),
            ("PUT", "", {"raw": b"{}", "media": "text/plain"}),
            ("PUT", "", {"raw": b"{}", "headers": {"Content-Encoding": "br"}}),
        ]
        titles: dict[str, set[str]] = {}
        for method, path, more in requests:
            members = (await me.send(method, path, **more)).json()
            titles.setdefault(members["type"], set()).add(members["title"])
        assert len(titles) == 6
        assert all(len(found) == 1 for found in titles.values())

    @pytest.mark.parametrize(
        ("method", "path", "more"),
        [
            ("GET", "/nothing", {}),
            ("POST", "/appearance", {}),
            ("PUT", "", {"raw": b"{"}),
            ("PUT", "", {"value": {"appearance": {"theme": "neon"}}}),
            ("PUT", "", {"raw": b"{}", "media": None}),
            ("PUT", "", {"raw": b" " * 300_000}),
            ("GET", "", {"headers": {"If-Match": '"x"'}}),
            ("GET", "", {"headers": {"If-Match": "x"}}),
            ("GET", "/changes", {}),
        ],
        ids=label,
    )
    async def test_an_error_gives_nothing_away(
        self, me: Caller, method: str, path: str, more: dict[str, Any]
    ) -> None:
        """Neither the token nor the user, nor a stack trace or a query; and no cache keeps it for others."""
        answer = await me.send(method, path, **more)
        assert answer.status >= 400
        text = answer.content.decode() + repr(answer.headers)
        for secret in (me.token, me.token.rsplit(".", 1)[1], me.user, "Traceback", "SELECT", ".py"):
            assert secret not in text
        assert not {"public", "s-maxage"} & answer.headers.members("Cache-Control")
        assert "Prefsync-Revision" not in answer.headers
        assert "ETag" not in answer.headers

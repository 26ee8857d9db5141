"""protocol.md, section 2: ``GET /client.js``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from prefsync.testing.mount.suite import MountSuite, label

if TYPE_CHECKING:
    from prefsync.testing.mount.callers import Caller
    from prefsync.testing.mount.client import MountClient

__all__ = ["BrowserContract"]

_PATH: Final = "/client.js"


class BrowserContract(MountSuite):
    """The browser client is served."""

    async def test_anybody_gets_it(self, mount: MountClient) -> None:
        """A page imports it before anybody has signed in: no token is asked for, and none is looked at."""
        answer = await mount.request("GET", _PATH)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Length"] == str(len(answer.body))
        assert "public" in answer.headers.members("Cache-Control")
        assert "WWW-Authenticate" not in answer.headers
        assert "RateLimit" not in answer.headers
        module = answer.body.decode("utf-8")
        assert re.match(r"/\*! prefsync \S+, MIT", module)
        assert re.search(r"export\s*\{[^}]*\bconnect\b[^}]*\}", module)
        with_bad_token = await mount.request("GET", _PATH, headers={"Authorization": "Bearer nonsense"})
        assert (with_bad_token.status, with_bad_token.body) == (200, answer.body)

    async def test_it_knows_no_address(self, mount: MountClient) -> None:
        """It finds its mount beside itself, so that it works under any prefix and behind proxies that strip one."""
        module = (await mount.request("GET", _PATH)).body.decode()
        assert "import.meta.url" in module
        assert not re.search(r"[\"'`](?:https?:)?//", module)
        assert "/preferences" not in module

    async def test_a_copy_is_asked_about(self, mount: MountClient) -> None:
        """Its entity tag is strong and answers ``304`` without a body."""
        answer = await mount.request("GET", _PATH)
        assert re.fullmatch(r'"[^"]+"', answer.etag)
        again = await mount.request("GET", _PATH, headers={"If-None-Match": answer.etag})
        assert (again.status, again.body) == (304, b"")
        assert again.etag == answer.etag
        other = await mount.request("GET", _PATH, headers={"If-None-Match": '"another"'})
        assert (other.status, other.body) == (200, answer.body)

    async def test_its_head(self, mount: MountClient) -> None:
        """``HEAD`` has the headers of ``GET``, and no body."""
        got, head = await mount.request("GET", _PATH), await mount.request("HEAD", _PATH)
        assert (head.status, head.body) == (200, b"")
        for name in ("Content-Type", "Content-Length", "ETag", "Cache-Control"):
            assert head.headers[name] == got.headers[name]

    @pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
    async def test_it_is_compressed(self, mount: MountClient, coding: str) -> None:
        """In each coding that the browser accepts, under one entity tag."""
        plain = await mount.request("GET", _PATH)
        coded = await mount.request("GET", _PATH, headers={"Accept-Encoding": coding})
        assert coded.coding == coding
        assert coded.content == plain.body
        assert coded.etag == plain.etag
        assert coded.headers.members("Vary") == plain.headers.members("Vary") == {"accept-encoding"}

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    async def test_it_is_only_read(self, mount: MountClient, method: str) -> None:
        """Any other method is ``405``."""
        answer = await mount.request(method, _PATH)
        answer.problem(405, "method-not-allowed")
        assert answer.headers.members("Allow") == {"get", "head"}

    @pytest.mark.parametrize(
        ("method", "path", "query"),
        [
            ("GET", "", ""),
            ("GET", "/plugins", ""),
            ("GET", "/schema", ""),
            ("GET", "/changes", "since=0"),
            ("GET", "/%3Cscript%3Ealert()", ""),
            ("POST", "/ticket", ""),
            ("POST", "/schema", ""),
            ("PATCH", "/plugins", ""),
        ],
        ids=label,
    )
    async def test_nothing_is_taken_for_something_else(
        self, me: Caller, method: str, path: str, query: str
    ) -> None:
        """Every answer says what it is, with and without a token: what users have stored never becomes a page."""
        body = b'{"note": "<script>alert()</script>"}' if method == "PATCH" else None
        mine = await me.send(method, path, raw=body, query=query)
        nobodys = await me.client.request(method, path, body=body, query=query)
        for answer in (mine, nobodys):
            assert answer.headers.all("X-Content-Type-Options") == ["nosniff"]
            assert answer.headers["Content-Type"] in {"application/json", "application/problem+json"}

    async def test_a_token_in_its_address_is_refused(self, mount: MountClient) -> None:
        """As in any other."""
        (await mount.request("GET", _PATH, query="access_token=a")).problem(400, "malformed-request")

    async def test_it_costs_nobody_a_request(self, me: Caller) -> None:
        """The rate limit does not count it."""
        before = (await me.get()).headers["RateLimit"]
        for _ in range(3):
            await me.get(_PATH)
        after = (await me.get()).headers["RateLimit"]
        remaining = [int(re.search(r"r=(\d+)", line)[1]) for line in (before, after)]  # type: ignore[index]
        assert remaining[0] - remaining[1] == 1

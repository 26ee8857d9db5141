"""protocol.md, section 2, "Errors": ``https-required``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from prefsync.testing.mount.callers import KEY, newcomer
from prefsync.testing.mount.suite import MountSuite, label

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prefsync.testing.mount.callers import Caller
    from prefsync.testing.mount.client import Answer, MountClient, MountHost

__all__ = ["HttpsContract"]

_REMOTE: Final = {"Host": "app.example"}
_JSON: Final = {"Content-Type": "application/json"}


class HttpsContract(MountSuite):
    """Where the host demands HTTPS, plain HTTP is refused.

    The client has a loopback address, and no proxy is trusted there.
    """

    @pytest.fixture(scope="class")
    @classmethod
    async def https_only(cls, host: MountHost) -> AsyncIterator[MountClient]:
        """Run an app that is served encrypted alone, and reach it unencrypted."""
        async with host.open({"PREFSYNC_JWT_KEY": KEY, "PREFSYNC_REQUIRE_HTTPS": "true"}) as client:
            yield client

    @pytest.fixture
    def bare(self, https_only: MountClient) -> Caller:
        """Be a user who comes over plain HTTP."""
        return newcomer(https_only)

    @pytest.mark.parametrize(
        ("method", "path", "query"),
        [
            ("GET", "", ""),
            ("GET", "/appearance", ""),
            ("PUT", "/appearance", ""),
            ("PATCH", "", ""),
            ("DELETE", "", ""),
            ("POST", "/ticket", ""),
            ("GET", "/schema", ""),
            ("GET", "/changes", "since=0&wait=60"),
            ("GET", "/events", ""),
            ("GET", "/ws", ""),
            ("GET", "/client.js", ""),
            ("GET", "/nothing", ""),
            ("OPTIONS", "", ""),
        ],
        ids=label,
    )
    async def test_plain_http_is_refused(self, bare: Caller, method: str, path: str, query: str) -> None:
        """``403`` on every path, with a good token and with none: no redirect, which would ask for the token again."""
        body = b"{}" if method in {"PUT", "PATCH"} else None
        for headers in ({**_bearer(bare), **_JSON, **_REMOTE}, _REMOTE):
            answer = await bare.client.request(method, path, query=query, headers=headers, body=body)
            answer.problem(403, "https-required")
            _tells_nothing_more(answer)

    async def test_nothing_was_written(self, bare: Caller) -> None:
        """What is refused is not done."""
        headers = {**_bearer(bare), **_JSON, **_REMOTE}
        refused = await bare.client.request("PUT", "/appearance", headers=headers, body=b'{"theme":"dark"}')
        refused.problem(403, "https-required")
        local = await bare.client.request("GET", "", headers={**_bearer(bare), "Host": "localhost"})
        assert local.ok()["revision"] == 0

    async def test_a_head(self, bare: Caller) -> None:
        """``HEAD`` is refused as ``GET`` is."""
        answer = await bare.client.request("HEAD", "", headers={**_bearer(bare), **_REMOTE})
        assert (answer.status, answer.body) == (403, b"")

    async def test_no_token_is_looked_at(self, bare: Caller) -> None:
        """A bad one is refused as a good one is, and counts for no address."""
        client = bare.client.elsewhere()
        for _ in range(3):
            answer = await client.request("GET", "", headers={"Authorization": "Bearer x", **_REMOTE})
            answer.problem(403, "https-required")
            _tells_nothing_more(answer)

    @pytest.mark.parametrize(
        "authority", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]", "127.1.2.3"]
    )
    async def test_this_machine_is_exempt(self, bare: Caller, authority: str) -> None:
        """What has not left it needs no encryption, and is not told to come encrypted (RFC 6797, section 7.2)."""
        answer = await bare.client.request("GET", "", headers={**_bearer(bare), "Host": authority})
        answer.ok()
        assert "Strict-Transport-Security" not in answer.headers

    @pytest.mark.parametrize(
        "authority",
        [
            "localhost.app.example",
            "app.example:localhost",
            "127.0.0.1.app.example",
            "128.0.0.1",
            "[::2]",
            "app.example@",
            "[",
        ],
        ids=label,
    )
    async def test_a_proxy_on_this_machine_is_not(self, bare: Caller, authority: str) -> None:
        """Its address is a loopback one, and it is sent to another host: it speaks for a client elsewhere."""
        answer = await bare.client.request("GET", "", headers={**_bearer(bare), "Host": authority})
        assert answer.status in {400, 403}  # a server may refuse what is no authority by itself
        if answer.status == 403:
            answer.problem(403, "https-required")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("X-Forwarded-For", "203.0.113.9"),
            ("X-Forwarded-For", "127.0.0.1"),
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Host", "localhost"),
            ("X-Real-IP", "203.0.113.9"),
            ("Forwarded", "for=203.0.113.9"),
            ("Via", "1.1 proxy"),
        ],
    )
    async def test_what_came_by_a_proxy_is_not(self, bare: Caller, name: str, value: str) -> None:
        """A proxy that names its own target in ``Host`` gives itself away by what it adds."""
        headers = {**_bearer(bare), "Host": "localhost", name: value}
        (await bare.client.request("GET", "", headers=headers)).problem(403, "https-required")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Protocol", "ssl"),
            ("X-Forwarded-Ssl", "on"),
            ("X-Forwarded-Scheme", "https"),
            ("X-Url-Scheme", "https"),
            ("Front-End-Https", "on"),
            ("Forwarded", "for=192.0.2.1;proto=https"),
        ],
    )
    async def test_nobody_says_so_who_is_not_trusted(self, bare: Caller, name: str, value: str) -> None:
        """A client can write any header; which proxy is believed is the server's to know, or the host's."""
        for authority in ("app.example", "https://app.example"):
            headers = {**_bearer(bare), "Host": authority, name: value}
            answer = await bare.client.elsewhere().request("GET", "", headers=headers)
            assert answer.status in {400, 403}
            assert "Strict-Transport-Security" not in answer.headers


def _bearer(caller: Caller) -> dict[str, str]:
    return {"Authorization": f"Bearer {caller.token}"}


def _tells_nothing_more(answer: Answer) -> None:
    told = {name for name, _ in answer.headers}
    assert not told & {
        "strict-transport-security",
        "location",
        "www-authenticate",
        "ratelimit",
        "prefsync-revision",
    }

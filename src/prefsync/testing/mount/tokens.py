"""protocol.md, section 2, "Tokens" and `401`; RFC 6750."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from prefsync.testing.mount.callers import BOTH, mint
from prefsync.testing.mount.suite import MountSuite, label

if TYPE_CHECKING:
    from prefsync.testing.mount.callers import Caller
    from prefsync.testing.mount.client import Answer, MountClient

__all__ = ["TokensContract"]

_MOST_BYTES: Final = 8 * 1024
_LEEWAY: Final = 30

_OPERATIONS: Final = [
    *((method, path) for method in ("GET", "PUT", "PATCH", "DELETE") for path in ("", "/appearance")),
    ("HEAD", ""),
    ("GET", "/schema"),
    ("GET", "/changes"),
]


def _claims(**more: Any) -> dict[str, Any]:
    claims = {"sub": "somebody", "exp": int(time.time()) + 3_600, "scope": BOTH, **more}
    return {name: value for name, value in claims.items() if value is not None}


def _sized(size: int) -> str:
    """Return a good token of a length."""
    for name in (
        "x",
        "xy",
        "xyz",
    ):  # base64 has no text of 4n + 1 characters: one of these headers makes up for it
        header = {"alg": "HS256", "typ": "JWT", "cty": name}
        spare = size - len(mint(_claims(pad=""), header=header))
        for padding in range(spare * 3 // 4 - 2, spare * 3 // 4 + 3):
            token = mint(_claims(pad="p" * padding), header=header)
            if len(token) == size:
                return token
    message = f"no token has {size} bytes"
    raise AssertionError(message)


async def _ask(client: MountClient, authorization: str | None, method: str = "GET", path: str = "") -> Answer:
    headers = {} if authorization is None else {"Authorization": authorization}
    if method in {"PUT", "PATCH"}:
        return await client.request(
            method, path, headers={**headers, "Content-Type": "application/json"}, body=b"{}"
        )
    return await client.request(method, path, headers=headers, query="since=0" if path == "/changes" else "")


class TokensContract(MountSuite):
    """Which tokens are taken."""

    @pytest.fixture
    def stranger(self, mount: MountClient) -> MountClient:
        """A client at an address from which no bad token has come yet."""
        return mount.elsewhere()

    # --- No token, or a bad one ------------------------------------------------------------------------------------

    @pytest.mark.parametrize(("method", "path"), [*_OPERATIONS, ("GET", "/nothing"), ("POST", "")])
    async def test_no_token(self, stranger: MountClient, method: str, path: str) -> None:
        """``401`` with a bare challenge: no error code where nothing was tried (RFC 6750, section 3.1)."""
        answer = await _ask(stranger, None, method, path)
        assert answer.status == 401
        if method != "HEAD":
            answer.problem(401, "unauthenticated")
        (challenge,) = answer.headers.all("WWW-Authenticate")
        assert challenge.split(" ")[0] == "Bearer"
        assert "error" not in challenge

    @pytest.mark.parametrize("scheme", ["", "Basic dXNlcjpwYXNz", "Digest username=x", "Bearer", "Token abc"])
    async def test_another_scheme(self, stranger: MountClient, scheme: str) -> None:
        """``Bearer`` only; anything else is no token."""
        answer = await _ask(stranger, scheme)
        answer.problem(401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")

    @pytest.mark.parametrize(("method", "path"), _OPERATIONS)
    async def test_a_token_that_fails(self, stranger: MountClient, method: str, path: str) -> None:
        """``401`` with ``error="invalid_token"`` (RFC 6750, section 3.1)."""
        answer = await _ask(stranger, f"Bearer {mint(_claims(), key='another secret')}", method, path)
        assert answer.status == 401
        if method != "HEAD":
            answer.problem(401, "unauthenticated")
        (challenge,) = answer.headers.all("WWW-Authenticate")
        assert challenge.startswith("Bearer ")
        assert 'error="invalid_token"' in challenge

    @pytest.mark.parametrize(
        "token",
        [
            "abc",
            "a.b",
            "a.b.c",
            "...",
            "a.b.c.d",
            "e30.e30.",
            "\xe9",
            '"quoted"',
            "with space",
            "x" * 5_000,
        ],
        ids=label,
    )
    async def test_what_is_no_token_at_all(self, stranger: MountClient, token: str) -> None:
        """``401``, never a failure of the server; the token is not repeated."""
        answer = await _ask(stranger, f"Bearer {token}")
        answer.problem(401, "unauthenticated")
        assert len(token) < 5 or token not in answer.content.decode()

    async def test_tokens_signed_in_other_ways(self, stranger: MountClient) -> None:
        """Without a signature, by another algorithm, or with a broken signature."""
        good = mint(_claims())
        head, body, signature = good.split(".")
        unsigned = mint(_claims(), header={"alg": "none", "typ": "JWT"}).rsplit(".", 1)[0] + "."
        for token in (
            unsigned,
            mint(_claims(), header={"alg": "none", "typ": "JWT"}),
            mint(_claims(), header={"alg": "HS512", "typ": "JWT"}),
            mint(_claims(), header={"alg": "hs256", "typ": "JWT"}),
            mint(_claims(), header={"typ": "JWT"}),
            f"{head}.{body}.",
            f"{head}.{body}.{signature[:-4]}AAAA",
            f"{head}.{mint(_claims(sub='else')).split('.')[1]}.{signature}",
        ):
            answer = await _ask(stranger, f"Bearer {token}")
            answer.problem(401, "unauthenticated")
            assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
        (await _ask(stranger, f"Bearer {good}")).ok()

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
    async def test_the_scheme_is_of_any_case(self, me: Caller, scheme: str) -> None:
        """As the names of all authentication schemes (RFC 9110, section 11.1)."""
        (await _ask(me.client, f"{scheme} {me.token}")).ok()

    # --- Claims ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "sub",
        [None, "", 7, 7.5, True, ["a"], {"a": 1}, "x" * 256, "a\x00b", "a\nb", "\x7f", "\x85"],
        ids=label,
    )
    async def test_subjects_that_are_refused(self, stranger: MountClient, sub: Any) -> None:
        """A non-empty string of at most 255 characters without control characters."""
        answer = await _ask(stranger, f"Bearer {mint(_claims(sub=sub))}")
        answer.problem(401, "unauthenticated")

    @pytest.mark.parametrize(
        "sub",
        [
            "x",
            "x" * 255,
            "\U0001f600" * 255,
            " ",
            "a b",
            "a:b/c?d#e",
            "auth0|5f7c",
            "caf\u00e9",
            "\u202e",
            "'; --",
        ],
        ids=label,
    )
    async def test_subjects_that_are_taken(self, unlimited: Caller, sub: str) -> None:
        """Any other string; what one writes is what it reads."""
        me = unlimited.holding(sub=sub)
        value = {"me": ascii(sub)[:100]}
        (await me.put("/plugins", value)).ok()
        assert (await me.get("/plugins")).ok() == value
        assert (await me.changes((await me.get()).revision))["changes"] == []

    async def test_subjects_are_compared_byte_for_byte(self, unlimited: Caller) -> None:
        """No case is folded, nothing normalised or trimmed."""
        base = unlimited.user
        names = [
            f"{base}caf\u00e9",
            f"{base}cafe\u0301",
            f"{base}CAF\u00c9",
            f"{base}caf\u00e9 ",
            f" {base}caf\u00e9",
        ]
        callers = [unlimited.holding(sub=name) for name in names]
        for n, caller in enumerate(callers):
            (await caller.put("/plugins", {"n": n})).ok()
        for n, caller in enumerate(callers):
            assert (await caller.get("/plugins")).ok() == {"n": n}

    async def test_expiry(self, me: Caller, stranger: MountClient) -> None:
        """Clocks may differ by 30 s, and by no more."""
        now = time.time()
        for exp in (now + 5, now - _LEEWAY + 10):
            (await me.holding(exp=exp).get()).ok()
        bad: list[Any] = [now - _LEEWAY - 1, now - 3_600, 0, -1, "soon", str(now + 60), True]
        for exp in bad:
            answer = await _ask(stranger, f"Bearer {mint(_claims(exp=exp))}")
            answer.problem(401, "unauthenticated")
            assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]

    async def test_not_before(self, me: Caller, stranger: MountClient) -> None:
        """A token that is not good yet fails, within the same leeway."""
        now = time.time()
        for nbf in (now - 60, now + _LEEWAY - 10):
            (await me.holding(nbf=nbf).get()).ok()
        answer = await _ask(stranger, f"Bearer {mint(_claims(nbf=now + _LEEWAY + 10))}")
        answer.problem(401, "unauthenticated")

    async def test_the_length_of_a_token(self, stranger: MountClient) -> None:
        """8 KiB are taken, one byte more is not."""
        for size in (_MOST_BYTES - 1, _MOST_BYTES):
            token = _sized(size)
            assert len(token) == size
            (await _ask(stranger, f"Bearer {token}")).ok()
        for size in (_MOST_BYTES + 1, 2 * _MOST_BYTES):
            (await _ask(stranger, f"Bearer {_sized(size)}")).problem(401, "unauthenticated")

    # --- A token in a URL ------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "query",
        [
            "access_token={0}",
            "token={0}",
            "token=",
            "token",
            "since=0&token={0}",
            "since=0&access_token=x&wait=30",
            "%74oken={0}",
            "access%5Ftoken={0}",
            "a=%C3%A9&token={0}",
            "a=%FF&token={0}",
            "&&token={0}",
        ],
    )
    async def test_a_token_in_a_url(self, me: Caller, query: str) -> None:
        """``400`` on every path, with a good token in the header or without; it is not repeated."""
        value = query.format(me.token)
        for method, path in _OPERATIONS:
            answer = await me.write(method, path, {}, query=value)
            assert answer.status == 400
            if method != "HEAD":
                answer.problem(400, "malformed-request")
                assert me.token not in answer.content.decode()
        bare = await me.client.elsewhere().request("GET", "", query=value)
        bare.problem(400, "malformed-request")

    @pytest.mark.parametrize(
        "query", ["x=1", "tokens=1", "Token=1", "a=token", "%C3%A9=%C3%A9", "a=%FF", "%FF", "a=%", "=", "&"]
    )
    async def test_other_queries_are_nobodys_business(self, me: Caller, query: str) -> None:
        """A parameter that an operation does not know does no harm."""
        (await me.get(query=query)).ok()
        (await me.patch("/appearance", {"theme": "dark"}, query=query)).ok()

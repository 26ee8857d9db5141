"""protocol.md, section 2: the scopes in the table of paths; RFC 6750, section 3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from prefsync.testing.mount.callers import BOTH, READ, WRITE
from prefsync.testing.mount.suite import STORED, WRITES, MountSuite

if TYPE_CHECKING:
    from prefsync.testing.mount.callers import Caller

__all__ = ["ScopesContract"]

_READS: Final = ["", "/", "/appearance", "/plugins", "/schema", "/changes?since=0"]


class ScopesContract(MountSuite):
    """What a token may do."""

    @pytest.mark.parametrize(("method", "path", "value"), WRITES)
    @pytest.mark.parametrize("scope", [READ, "", None, "preferences", f"{WRITE}r", WRITE.upper()])
    async def test_writing_needs_the_write_scope(
        self, me: Caller, method: str, path: str, value: Any, scope: str | None
    ) -> None:
        """Without it: ``403`` with the scope that is missing (RFC 6750, section 3), and nothing is written."""
        before = await me.put("", STORED)
        weak = me.holding(scope=scope)
        answer = await weak.write(method, path, value)
        answer.problem(403, "insufficient-scope")
        challenge = answer.headers["WWW-Authenticate"]
        assert challenge.startswith("Bearer ")
        assert 'error="insufficient_scope"' in challenge
        assert WRITE in challenge
        assert (await me.get()).etag == before.etag

    @pytest.mark.parametrize("path", [*_READS, "/changes?since=0&wait=30"])
    @pytest.mark.parametrize("scope", [WRITE, None, "openid preferences:reader"])
    async def test_reading_needs_the_read_scope(self, me: Caller, path: str, scope: str | None) -> None:
        """Without it: ``403``, at once."""
        path, _, query = path.partition("?")
        answer = await me.holding(scope=scope).get(path, query=query)
        answer.problem(403, "insufficient-scope")
        assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
        assert READ in answer.headers["WWW-Authenticate"]

    @pytest.mark.parametrize(("method", "path", "value"), WRITES)
    async def test_the_write_scope_is_enough_to_write(
        self, me: Caller, method: str, path: str, value: Any
    ) -> None:
        """A token with the write scope alone may see the answer to its own write."""
        answer = await me.holding(scope=WRITE).write(method, path, value)
        assert answer.ok() == (await me.get(path)).ok()

    @pytest.mark.parametrize("path", [*_READS])
    async def test_the_read_scope_is_enough_to_read(self, me: Caller, path: str) -> None:
        """All that is read is read with the read scope alone."""
        path, _, query = path.partition("?")
        (await me.holding(scope=READ).get(path, query=query)).ok()

    @pytest.mark.parametrize(
        "claims",
        [
            {"scope": BOTH},
            {"scope": [READ, WRITE]},
            {"scope": None, "scp": BOTH},
            {"scope": None, "scp": [WRITE, READ]},
            {"scope": f"openid {WRITE}  profile {READ}"},
            {"scope": "openid", "scp": [READ, "email", WRITE]},
        ],
    )
    async def test_scopes_come_from_scope_or_scp(self, me: Caller, claims: dict[str, Any]) -> None:
        """Either claim, as a string or as a list."""
        caller = me.holding(**claims)
        (await caller.patch("/appearance", {"theme": "dark"})).ok()
        (await caller.get()).ok()

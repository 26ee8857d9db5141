"""protocol.md, section 1: a subject is a user, inside an optional tenant, and nobody sees anybody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from prefsync.testing.mount.callers import DEFAULTS, KEY, newcomer
from prefsync.testing.mount.suite import MountSuite, label
from prefsync.testing.samples import HOSTILE_SUBJECTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prefsync.testing.mount.callers import Caller
    from prefsync.testing.mount.client import MountClient, MountHost

__all__ = ["IsolationContract"]

_LONGEST_TOKEN: Final = 8 * 1024


class IsolationContract(MountSuite):
    """Users and tenants are kept apart."""

    @pytest.fixture(scope="class")
    @classmethod
    async def tenants(cls, host: MountHost) -> AsyncIterator[MountClient]:
        """Run an app whose tokens name a tenant."""
        settings = {"PREFSYNC_JWT_KEY": KEY, "PREFSYNC_JWT_TENANT_CLAIM": "tenant"}
        async with host.open(settings) as client:
            yield client

    async def test_two_users(self, me: Caller, somebody: Caller) -> None:
        """Nothing that one does shows anywhere for the other."""
        key = {"Idempotency-Key": "the-same", "Prefsync-Client": "the-same"}
        mine = await me.put("/plugins", {"mine": 1}, headers=key)
        before = await somebody.get()
        assert before.ok()["values"] == DEFAULTS
        assert before.revision == 0
        theirs = await somebody.put("/plugins", {"theirs": 1}, headers=key)
        assert theirs.ok() == {"theirs": 1}
        assert (await me.get("/plugins")).ok() == {"mine": 1}
        assert [change["revision"] for change in (await me.changes(0))["changes"]] == [mine.revision]
        await somebody.delete()
        assert (await me.get("/plugins")).etag == mine.etag

    async def test_one_user_id_under_two_tenants(self, tenants: MountClient) -> None:
        """They are two subjects: documents, changes, keys and entity tags."""
        first = newcomer(tenants, tenant="one")
        second = first.holding(tenant="two")
        key = {"Idempotency-Key": "the-same"}
        wrote = await first.put("/plugins", {"tenant": "one"}, headers=key)
        assert (await second.get()).ok()["values"] == DEFAULTS
        assert (await second.put("/plugins", {"tenant": "two"}, headers=key)).ok() == {"tenant": "two"}
        assert (await first.get("/plugins")).etag == wrote.etag
        assert len((await second.changes(0))["changes"]) == 1
        assert (await second.get("/plugins", headers={"If-None-Match": wrote.etag})).status == 200

    async def test_tenants_and_users_do_not_run_together(self, tenants: MountClient) -> None:
        """No choice of ids makes two subjects one."""
        base = newcomer(tenants, tenant="t").user
        pairs = [
            (f"{base}", "x:y"),
            (f"{base}:x", "y"),
            (f"{base}x", ":y"),
            (f"{base}", "x"),
            (f"{base}x", base),
        ]
        callers = [newcomer(tenants, tenant=tenant, sub=user) for tenant, user in pairs]
        for n, caller in enumerate(callers):
            (await caller.put("/plugins", {"n": n})).ok()
        assert [(await caller.get("/plugins")).ok() for caller in callers] == [
            {"n": n} for n in range(len(pairs))
        ]

    async def test_hostile_ids(self, tenants: MountClient, second: MountClient) -> None:
        """Each has a document, changes, keys, entity tags and a quota of its own, whatever is in the id."""
        callers = [
            newcomer(second, sub=subject.user)
            if subject.tenant is None
            else newcomer(tenants, sub=subject.user, tenant=subject.tenant)
            for subject in HOSTILE_SUBJECTS
        ]
        callers = [caller for caller in callers if len(caller.token) <= _LONGEST_TOKEN]
        assert len(callers) > len(HOSTILE_SUBJECTS) - 3
        for caller in callers:
            await caller.delete()
        key = {"Idempotency-Key": "the-same", "Prefsync-Client": "the-same"}
        since = [(await caller.get()).revision for caller in callers]
        wrote = [
            await caller.put("/plugins", {"n": n}, headers=key if n % 2 else None)
            for n, caller in enumerate(callers)
        ]
        assert len({answer.etag for answer in wrote}) == len(callers)
        lefts: dict[int, set[str | None]] = {0: set(), 1: set()}
        for n, caller in enumerate(callers):
            read = await caller.get("/plugins")
            assert (read.ok(), read.etag) == ({"n": n}, wrote[n].etag), ascii(caller.user)
            page = await caller.changes(since[n])
            assert [change["revision"] for change in page["changes"]] == [wrote[n].revision]
            lefts[caller.client is tenants].add((read.headers.get("RateLimit") or "").split(";")[1])
        assert all(len(left) == 1 for left in lefts.values()), "somebody's requests counted for another"

    @pytest.mark.parametrize("tenant", [None, "", 7, ["one"], "x" * 256, "a\nb"], ids=label)
    async def test_a_token_without_its_tenant(self, tenants: MountClient, tenant: Any) -> None:
        """Where the tenant's claim is set, a token without a good one is refused."""
        answer = await newcomer(tenants.elsewhere(), tenant=tenant).get()
        answer.problem(401, "unauthenticated")
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]

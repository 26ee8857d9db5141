"""What all parts of the suite stand on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from prefsync.testing.mount.callers import KEY, Caller, newcomer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prefsync.testing.mount.client import MountClient, MountHost

__all__ = ["STORED", "WRITES", "MountSuite", "label"]

STORED: Final[dict[str, dict[str, Any]]] = {
    "appearance": {"theme": "dark", "font_size": 20},
    "editor": {"rulers": [80, 100]},
    "plugins": {"vim": {"mode": "insert", "keys": [1, 2]}, "spell": True},
}
"""A state to begin with."""

WRITES: Final = [
    pytest.param("PUT", "", {"appearance": {"theme": "light"}}, id="put-all"),
    pytest.param("PATCH", "", {"appearance": {"theme": "light"}, "editor": None}, id="patch-all"),
    pytest.param("DELETE", "", None, id="delete-all"),
    pytest.param("PUT", "/appearance", {"theme": "light"}, id="put-namespace"),
    pytest.param("PATCH", "/plugins", {"vim": {"mode": "normal"}}, id="patch-namespace"),
    pytest.param("DELETE", "/plugins", None, id="delete-namespace"),
]
"""Each kind of write; all of them change ``STORED``."""


def label(value: object) -> str:
    """Name a parameter of a test: printable, short, like no other's, and the same in each process."""
    if isinstance(value, set | frozenset):
        return ascii(sorted(value, key=str))
    text = value if isinstance(value, str) and value.isascii() and value.isprintable() else ascii(value)
    return text if len(text) <= 60 else f"{text[:40]}...{len(text)}"


@pytest.mark.anyio
class MountSuite:
    """The fixtures of the suite; a mount's own test class overrides ``host``."""

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls) -> MountHost:
        """Who runs the app under test."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    async def mount(cls, host: MountHost) -> AsyncIterator[MountClient]:
        """Run an app with the default settings."""
        async with host.open({"PREFSYNC_JWT_KEY": KEY}) as client:
            yield client

    @pytest.fixture(scope="class")
    @classmethod
    async def second(cls, host: MountHost) -> AsyncIterator[MountClient]:
        """Run another process on the same database: one that keeps next to nothing cached, and limits nobody."""
        settings = {"PREFSYNC_CACHE_TTL": "0.000001", "PREFSYNC_RATE_LIMIT": "100000/minute"}
        async with host.open({"PREFSYNC_JWT_KEY": KEY, **settings}) as client:
            yield client

    @pytest.fixture
    def me(self, mount: MountClient) -> Caller:
        """Be a user for whom nothing is stored yet."""
        return newcomer(mount)

    @pytest.fixture
    def somebody(self, mount: MountClient) -> Caller:
        """Be another user."""
        return newcomer(mount)

    @pytest.fixture
    def unlimited(self, second: MountClient) -> Caller:
        """Be a user who may send as many requests as the test needs."""
        return newcomer(second)

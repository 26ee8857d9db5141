"""The test kit: devices against a host's own app, contracts that any adapter can run, doubles to force races with.

Importing this needs pytest (extra ``testing``), and takes next to no time: each name is imported when it is asked for.

A host's app is tested by devices, which the fixtures of the pytest plugin make (``prefsync_devices``), or without it
a :class:`Stage`. A contract is subclassed, and told by a fixture which adapter to test:

Example:
    ```python
    import pytest
    from prefsync.testing import CacheContract


    @pytest.fixture
    def anyio_backend() -> str:
        return "asyncio"


    class TestMyCache(CacheContract):
        @pytest.fixture
        async def cache(self):
            async with MyCache("my://server") as cache:
                yield cache

        @pytest.fixture
        async def short_lived_cache(self):
            async with MyCache("my://server", ttl=self.short_ttl) as cache:
                yield cache
    ```
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from prefsync.errors import MissingExtraError

try:
    import pytest
except ImportError as error:
    raise MissingExtraError("the test kit (prefsync.testing)", "testing") from error

if TYPE_CHECKING:
    from prefsync.testing.cache import CacheContract, CacheOutageContract
    from prefsync.testing.clock import FakeClock
    from prefsync.testing.devices import Device, Network, Reply, Stage, assert_synced, differences
    from prefsync.testing.doubles import (
        FailingCache,
        FailingNotifier,
        FailingRepository,
        Hold,
        PausingCache,
        PausingNotifier,
        PausingRepository,
    )
    from prefsync.testing.limiter import RateLimiterContract
    from prefsync.testing.mount import MountClient, MountContract, MountHost
    from prefsync.testing.notifier import (
        NotifierContract,
        NotifierOutageContract,
        UnreliableNotifierContract,
    )
    from prefsync.testing.outage import Outage
    from prefsync.testing.repository import RepositoryContract, RepositoryOutageContract
    from prefsync.testing.tickets import TicketsContract, TicketsOutageContract
    from prefsync.testing.tokens import TokenMint, hmac_sha256
    from prefsync.testing.unreliable import Mishaps, UnreliableNotifier
    from prefsync.testing.verifier import TokenVerifierContract

# A failing assertion of a contract then shows its values, as one in a test file does.
_WITH_ASSERTIONS: Final = (
    "_notifier",
    "_repository",
    "cache",
    "limiter",
    "mount",
    "realtime",
    "samples",
    "tickets",
    "verifier",
)
pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in _WITH_ASSERTIONS))

__all__ = [
    "CacheContract",
    "CacheOutageContract",
    "Device",
    "FailingCache",
    "FailingNotifier",
    "FailingRepository",
    "FakeClock",
    "Hold",
    "Mishaps",
    "MountClient",
    "MountContract",
    "MountHost",
    "Network",
    "NotifierContract",
    "NotifierOutageContract",
    "Outage",
    "PausingCache",
    "PausingNotifier",
    "PausingRepository",
    "RateLimiterContract",
    "Reply",
    "RepositoryContract",
    "RepositoryOutageContract",
    "Stage",
    "TicketsContract",
    "TicketsOutageContract",
    "TokenMint",
    "TokenVerifierContract",
    "UnreliableNotifier",
    "UnreliableNotifierContract",
    "assert_synced",
    "differences",
    "hmac_sha256",
]

# Where each name is: those who test an app need no contract, and all contracts together take most of a second.
_HOMES: Final = {
    "CacheContract": "cache",
    "CacheOutageContract": "cache",
    "FakeClock": "clock",
    "Device": "devices",
    "Network": "devices",
    "Reply": "devices",
    "Stage": "devices",
    "assert_synced": "devices",
    "differences": "devices",
    "FailingCache": "doubles",
    "FailingNotifier": "doubles",
    "FailingRepository": "doubles",
    "Hold": "doubles",
    "PausingCache": "doubles",
    "PausingNotifier": "doubles",
    "PausingRepository": "doubles",
    "RateLimiterContract": "limiter",
    "MountClient": "mount",
    "MountContract": "mount",
    "MountHost": "mount",
    "NotifierContract": "notifier",
    "NotifierOutageContract": "notifier",
    "UnreliableNotifierContract": "notifier",
    "Outage": "outage",
    "RepositoryContract": "repository",
    "RepositoryOutageContract": "repository",
    "TicketsContract": "tickets",
    "TicketsOutageContract": "tickets",
    "TokenMint": "tokens",
    "hmac_sha256": "tokens",
    "Mishaps": "unreliable",
    "UnreliableNotifier": "unreliable",
    "TokenVerifierContract": "verifier",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value

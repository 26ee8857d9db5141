"""The test kit: what each port promises, as pytest classes that any adapter can run, and doubles to force races with.

Importing this needs pytest (extra ``testing``). A contract is subclassed, and told by a fixture which adapter to test:

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

from prefsync.errors import MissingExtraError

try:
    import pytest
except ImportError as error:
    raise MissingExtraError("the test kit (prefsync.testing)", "testing") from error

# A failing assertion of a contract then shows its values, as one in a test file does.
_WITH_ASSERTIONS = (
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

from prefsync.testing.cache import CacheContract, CacheOutageContract  # noqa: E402  # first the line above
from prefsync.testing.clock import FakeClock  # noqa: E402
from prefsync.testing.doubles import (  # noqa: E402
    FailingCache,
    FailingNotifier,
    FailingRepository,
    Hold,
    PausingCache,
    PausingNotifier,
    PausingRepository,
)
from prefsync.testing.limiter import RateLimiterContract  # noqa: E402
from prefsync.testing.mount import MountClient, MountContract, MountHost  # noqa: E402
from prefsync.testing.notifier import (  # noqa: E402
    NotifierContract,
    NotifierOutageContract,
    UnreliableNotifierContract,
)
from prefsync.testing.outage import Outage  # noqa: E402
from prefsync.testing.repository import RepositoryContract, RepositoryOutageContract  # noqa: E402
from prefsync.testing.tickets import TicketsContract, TicketsOutageContract  # noqa: E402
from prefsync.testing.tokens import TokenMint, hmac_sha256  # noqa: E402
from prefsync.testing.unreliable import Mishaps, UnreliableNotifier  # noqa: E402
from prefsync.testing.verifier import TokenVerifierContract  # noqa: E402

__all__ = [
    "CacheContract",
    "CacheOutageContract",
    "FailingCache",
    "FailingNotifier",
    "FailingRepository",
    "FakeClock",
    "Hold",
    "Mishaps",
    "MountClient",
    "MountContract",
    "MountHost",
    "NotifierContract",
    "NotifierOutageContract",
    "Outage",
    "PausingCache",
    "PausingNotifier",
    "PausingRepository",
    "RateLimiterContract",
    "RepositoryContract",
    "RepositoryOutageContract",
    "TicketsContract",
    "TicketsOutageContract",
    "TokenMint",
    "TokenVerifierContract",
    "UnreliableNotifier",
    "UnreliableNotifierContract",
    "hmac_sha256",
]

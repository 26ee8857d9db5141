"""The wire protocol as tests: one suite that every mount passes, so that none of them drifts from the others.

It covers sections 1, 2 and 4 of the protocol, without the push transports. The app under test declares the namespaces
of the example apps. A mount needs one class that sends a request to it and one that runs it:

Example:
    ```python
    import pytest
    from prefsync.testing.mount import MountContract, MountHost


    @pytest.fixture(scope="session")
    def anyio_backend() -> str:
        return "asyncio"


    class TestMyMount(MountContract):
        @pytest.fixture(scope="class")
        @classmethod
        def host(cls, tmp_path_factory) -> MountHost:
            return MyHost(tmp_path_factory.mktemp("prefsync"))
    ```

Where the host's processes share a notifier, :class:`LinkedContract` belongs beside :class:`MountContract`.

Two apps of one host run for the length of the class, so ``anyio_backend`` must have a scope of ``class`` or wider.
"""

from prefsync.testing.mount.bodies import BodiesContract
from prefsync.testing.mount.browser import BrowserContract
from prefsync.testing.mount.callers import KEY, Caller, mint, newcomer
from prefsync.testing.mount.changes import ChangesContract
from prefsync.testing.mount.client import Answer, Headers, MountClient, MountHost
from prefsync.testing.mount.coding import CodingContract
from prefsync.testing.mount.conditions import ConditionsContract
from prefsync.testing.mount.documents import DocumentsContract
from prefsync.testing.mount.errors import ErrorsContract
from prefsync.testing.mount.fidelity import FidelityContract
from prefsync.testing.mount.hostile import HostileJsonContract
from prefsync.testing.mount.https import HttpsContract
from prefsync.testing.mount.isolation import IsolationContract
from prefsync.testing.mount.limits import LimitsContract
from prefsync.testing.mount.rates import RatesContract
from prefsync.testing.mount.retries import RetriesContract
from prefsync.testing.mount.schema import SchemaContract
from prefsync.testing.mount.scopes import ScopesContract
from prefsync.testing.mount.tokens import TokensContract
from prefsync.testing.mount.values import ValuesContract
from prefsync.testing.mount.waiting import LinkedContract, WaitingContract

__all__ = [
    "KEY",
    "Answer",
    "Caller",
    "Headers",
    "LinkedContract",
    "MountClient",
    "MountContract",
    "MountHost",
    "mint",
    "newcomer",
]


class MountContract(
    DocumentsContract,
    FidelityContract,
    ConditionsContract,
    RetriesContract,
    BodiesContract,
    HostileJsonContract,
    ValuesContract,
    LimitsContract,
    CodingContract,
    ChangesContract,
    WaitingContract,
    SchemaContract,
    BrowserContract,
    ErrorsContract,
    TokensContract,
    ScopesContract,
    IsolationContract,
    RatesContract,
    HttpsContract,
):
    """All that protocol.md, section 2, promises of plain HTTP."""

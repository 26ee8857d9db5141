"""The contract of :class:`prefsync.ports.PreferenceRepository`."""

from __future__ import annotations

import pytest

from prefsync.testing._repository.documents import DocumentPromises
from prefsync.testing._repository.erasure import ErasurePromises
from prefsync.testing._repository.keys import KeyPromises
from prefsync.testing._repository.log import LogPromises, TrimPromises
from prefsync.testing._repository.outage import OutagePromises
from prefsync.testing._repository.relay import RelayPromises
from prefsync.testing._repository.together import TogetherPromises

__all__ = ["RepositoryContract", "RepositoryOutageContract"]


@pytest.mark.anyio
class RepositoryContract(
    DocumentPromises, LogPromises, TrimPromises, KeyPromises, ErasurePromises, RelayPromises, TogetherPromises
):
    """What every repository promises. Subclass it, name the class ``Test...`` and give the fixtures.

    The database must be one for this run of this class alone: the contract trims, erases and takes the relay's turns at
    times of its own, and expects to find nothing of anybody else's.

    Fixtures of the subclass:
        repository: The adapter, open.
        twin: Another open instance on the same data, where there can be one; else leave it out.

    Attributes:
        durable: Whether the data outlives closing and opening again; set it to ``False`` where it does not.
    """


@pytest.mark.anyio
class RepositoryOutageContract(OutagePromises):
    """What a repository promises while its database is out of reach; for adapters whose database can be.

    Fixtures of the subclass:
        repository: The adapter, open.
        outage: Takes the database away and brings it back, see :class:`prefsync.testing.Outage`.
    """

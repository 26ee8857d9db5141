"""What all parts of the repository's contract share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from prefsync.testing.samples import fresh_subject, other_tasks, settled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prefsync.document import Subject
    from prefsync.ports import PreferenceRepository

__all__ = ["RepositoryFixtures"]


class RepositoryFixtures:
    """The fixtures that a repository's contract works with; ``repository`` comes from the subclass."""

    durable: ClassVar[bool] = True

    # Whether no task may be left; not where the outage has tasks of its own.
    watches_tasks: ClassVar[bool] = True

    def in_use(self, repository: Any) -> int:
        """Return how many connections are out, for adapters that have any."""
        del repository
        return 0

    @pytest.fixture
    def twin(self, repository: PreferenceRepository) -> PreferenceRepository:
        """Another open instance on the same data; override it where there can be one."""
        return repository

    @pytest.fixture
    def subject(self) -> Subject:
        """A subject of which nothing is stored."""
        return fresh_subject()

    @pytest.fixture(autouse=True)
    async def _nothing_is_left(
        self, repository: PreferenceRepository, twin: PreferenceRepository
    ) -> AsyncIterator[None]:
        tasks = other_tasks()
        yield
        for one in (repository, twin):
            await settled(lambda one=one: self.in_use(one) == 0, "a connection is still out")  # type: ignore[misc]
        if self.watches_tasks:
            await settled(lambda: other_tasks() <= tasks, f"still running: {other_tasks() - tasks}")

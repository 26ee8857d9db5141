"""Old changes are forgotten batch by batch, each from where the last one ended, whatever fails in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from sqlalchemy import create_engine, text

from prefsync import UnavailableError, trimming
from prefsync.adapters.sqlalchemy import SqlAlchemyRepository
from prefsync.adapters.sqlalchemy.tables import metadata
from prefsync.adapters.sqlalchemy.trim_operations import TrimOperations
from prefsync.resilience import Guard
from prefsync.testing import FakeClock
from prefsync.testing.samples import NOW, fresh_subject, settled, store
from prefsync.trimming import Trimmer

if TYPE_CHECKING:
    from prefsync.ports import Trimmed

IDLE = 25
BATCH = 10
FEW = 4
DAY = 24 * 3_600


class Watched(SqlAlchemyRepository):
    """Remembers how it was asked to trim, and fails when it is told to."""

    def __init__(self) -> None:
        super().__init__("sqlite://")
        self.limits: list[int] = []
        self.cursors: list[str] = []
        self.ended = self.removed = 0
        self.fails = False

    async def trim(
        self, *, changes_before: int, requests_before: int, limit: int, cursor: str = ""
    ) -> Trimmed:
        """See the port."""
        self.limits.append(limit)
        self.cursors.append(cursor)
        if self.fails:
            self.fails = False
            raise UnavailableError("database")
        trimmed = await super().trim(
            changes_before=changes_before, requests_before=requests_before, limit=limit, cursor=cursor
        )
        self.removed += trimmed.removed
        self.ended += not trimmed.has_more
        return trimmed


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trimming, "_BATCH", BATCH)
    monkeypatch.setattr(trimming, "_SMALL_BATCH", FEW)
    for pause in ("_EVERY", "_PAUSE", "_FAILED_PAUSE"):
        monkeypatch.setattr(trimming, pause, 0.001)


async def test_what_stays_is_passed_once_a_day() -> None:
    """Each batch goes on where the last one ended, in the next round too; after a day the log is walked anew."""
    clock = FakeClock(NOW + 40 * DAY * 1_000)
    async with Watched() as repository, anyio.create_task_group() as tasks:
        idle = [fresh_subject() for _ in range(IDLE)]
        for number, subject in enumerate(idle):
            await store(repository, subject, {"plugins": {"n": 0}}, now=NOW + number)
        tasks.start_soon(Trimmer(repository, Guard("database", 30, clock), clock).run)
        await settled(lambda: repository.ended > 3, "the rounds do not end")
        begun = [number for number, cursor in enumerate(repository.cursors) if not cursor]
        assert begun == [0]
        assert len(set(repository.cursors)) == IDLE // BATCH + 2
        await store(repository, idle[0], {"plugins": {"n": 1}}, now=NOW + IDLE)
        assert repository.removed == 0
        clock.advance(DAY)
        await settled(lambda: repository.removed == 1, "what need not stay any more is still there")
        assert repository.cursors.count("") == 2
        tasks.cancel_scope.cancel()


async def test_a_batch_that_failed_is_tried_again_in_small_ones() -> None:
    """A database that cannot do so much within a call is asked for less, until the round is at its end."""
    clock = FakeClock(NOW + 40 * DAY * 1_000)
    async with Watched() as repository, anyio.create_task_group() as tasks:
        subject = fresh_subject()
        for number in range(IDLE):
            await store(repository, subject, {"plugins": {"n": number}}, now=NOW + number)
        repository.fails = True
        tasks.start_soon(Trimmer(repository, Guard("database", 30, clock), clock).run)
        await settled(lambda: repository.ended > 1, "the rounds do not end")
        tasks.cancel_scope.cancel()
        assert repository.removed == IDLE - 1
        small = -(-IDLE // FEW)
        assert repository.limits[: small + 2] == [BATCH, *[FEW] * small, BATCH]
        assert repository.cursors[:2] == ["", ""]


def test_the_log_is_read_by_its_indexes() -> None:
    """Neither a look nor a removal goes through the whole log, or sorts it."""
    engine = create_engine("sqlite://")
    trim = TrimOperations()
    steps = [
        trim.walk("5+1", before=10, limit=3),
        trim.forget_changes({("", "anna"): 5}),
        trim.forget_requests(10, 3),
    ]
    with engine.begin() as connection:
        metadata.create_all(connection)
        for step in steps:
            statement, parameters = next(step)
            plan = connection.execute(text(f"EXPLAIN QUERY PLAN {statement.sql}"), dict(parameters))
            told = [str(row[-1]) for row in plan]
            assert any("SEARCH" in line for line in told)
            for line in told:
                assert not line.startswith(("SCAN preference", "SCAN c", "SCAN later", "USE TEMP")), told
    engine.dispose()

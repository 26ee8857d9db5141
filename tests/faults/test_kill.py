"""No acknowledged write is lost to a kill: a short run of ``nox -s kill``."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.conftest import refuse
from tests.faults.fleet import Fleet
from tests.faults.history import judge
from tests.faults.kill import DAWDLE, crash_postgres, kill_workers
from tests.servers import ServerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Two workers of each mount."""
    with ExitStack() as stack:
        try:
            fleet = Fleet(stack, **DAWDLE)
        except ServerUnavailableError as error:
            refuse(str(error))
        yield fleet


async def test_workers_killed(fleet: Fleet, report: Callable[[str], None]) -> None:
    """Ten times a worker is killed while clients write; what was acknowledged is there, the rest whole or not at all."""
    verdict = await kill_workers(fleet, 10, print)
    report(f"10 workers killed:       {verdict}")
    judge(verdict.faults)


async def test_postgres_crashes(fleet: Fleet, report: Callable[[str], None]) -> None:
    """Three times PostgreSQL is stopped at once; likewise."""
    verdict = await crash_postgres(fleet, 3, print)
    report(f"3 crashes of PostgreSQL: {verdict}")
    judge(verdict.faults)

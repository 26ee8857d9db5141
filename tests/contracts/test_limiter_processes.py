"""One limit over several processes that ask as fast as they can."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.once]

PROCESSES = 3
LIMIT, WINDOW = 40, 1

LENGTH = 3.5
"""Seconds for which they ask: into the fourth window."""


async def test_no_window_sees_more_than_the_limit_whichever_process_asks(
    redis_url: str, redis_prefix: str
) -> None:
    """Over three processes exactly the limit passes at once, never more in any window, and as much in each new one."""
    words = [redis_url, redis_prefix, str(LIMIT), str(WINDOW), str(LENGTH)]
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    command = (sys.executable, "-m", "tests.contracts.asking", *words)
    folder = Path(__file__).parents[2]
    running = [await asyncio.create_subprocess_exec(*command, cwd=folder, **pipes) for _ in range(PROCESSES)]
    for process in running:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    answers = await asyncio.gather(*(process.communicate(b"begin\n") for process in running))
    printed = [told.decode() for told, _ in answers]
    assert all(process.returncode == 0 for process in running)
    by_process = [[tuple(map(float, line.split())) for line in text.splitlines() if line] for text in printed]
    assert sum(bool(passed) for passed in by_process) > 1, "several had a part in it"
    passed = [times for some in by_process for times in some]
    befores = sorted(before for before, _ in passed)
    afters = sorted(after for _, after in passed)
    for first, last in zip(befores, afters[LIMIT:], strict=False):
        assert last - first >= WINDOW, "more than the limit in one window"
    assert sum(after < befores[0] + WINDOW for after in afters) == LIMIT, "less than the limit at once"
    assert len(passed) >= LIMIT * 3, "less than the limit in a later window"

"""Cancelled requests hand nobody another's answer: a short run of ``nox -s hammer``."""

from __future__ import annotations

import logging

import pytest

from tests.hammer import SETTINGS, check, hammer, hosts

pytestmark = [pytest.mark.anyio, pytest.mark.once]

REQUESTS = 3_000


@pytest.mark.parametrize("mount", ["FastAPI", "Flask"])
async def test_no_answer_holds_what_is_anothers(
    postgres_url: str, redis_url: str, mount: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With two connections, 24 requests at once and one in ten cancelled, every answer is its asker's."""
    caplog.set_level(logging.ERROR, "werkzeug")  # a line for each request
    async with hosts(postgres_url, redis_url)[mount].open(SETTINGS) as client:
        check(await hammer(client, REQUESTS), REQUESTS)

"""Schemathesis walks through both mounts by their OpenAPI documents: what these allow is taken, as they describe it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.config import SchemathesisConfig

from prefsync.http.links import add_links
from prefsync.testing.mount import KEY, mint
from prefsync.testing.mount.callers import BOTH
from tests.http.conftest import gunicorn_process, uvicorn_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemathesis.schemas import BaseSchema

pytestmark = pytest.mark.once

EXAMPLES = 10
"""Requests for each operation."""

WALKS, STEPS = 15, 8
"""Ways along the links, and requests on each."""

# What a request that the document allows may get: limits are counted after the merge, conditions may fail. Queries with
# more parameters than the protocol knows are taken, and bad bodies are the catalogue's.
CONFIG = {
    "checks": {"positive_data_acceptance": {"expected-statuses": [200, 304, 412, 422]}},
    "generation": {"mode": "positive"},
}

BUDGET: dict[str, Any] = {
    "deadline": None,
    "derandomize": True,  # the same requests in each run
    "database": None,
    "phases": [Phase.explicit, Phase.generate],
    "suppress_health_check": list(HealthCheck),
}

AUTHORIZATION = {
    "Authorization": f"Bearer {mint({'sub': 'schemathesis', 'exp': 4_000_000_000, 'scope': BOTH})}"
}


@pytest.fixture(scope="module", params=[uvicorn_process, gunicorn_process], ids=["fastapi", "flask"])
def schema(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    """Run an example app, and read its document. Left out is the stream that does not end."""
    database = f"sqlite:///{tmp_path_factory.mktemp('schemathesis')}/prefsync.sqlite3"
    limits = {"PREFSYNC_RATE_LIMIT": "1000000/minute", "PREFSYNC_JWT_KEY": KEY}
    with request.param({"PREFSYNC_DATABASE_URL": database, **limits}) as server:
        with urlopen(f"{server.url}/openapi.json") as answer:  # noqa: S310  # an address of this test's own
            document = json.load(answer)
        document["paths"] = {
            path: item
            for path, item in document["paths"].items()
            if path.startswith("/preferences") and not path.endswith("/events")
        }
        add_links(document, "/preferences")
        found = schemathesis.openapi.from_dict(document, config=SchemathesisConfig.from_dict(CONFIG))
        found.config.update(base_url=server.url)
        yield found


def test_each_operation_takes_what_its_description_allows(schema: BaseSchema) -> None:
    """Status, headers and body of every answer are those that the document describes."""
    asked: dict[str, int] = {}
    for operation in (result.ok() for result in schema.get_all_operations()):

        @settings(max_examples=EXAMPLES, **BUDGET)
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            case.call_and_validate(headers=AUTHORIZATION)
            label = f"{case.operation.method} {case.operation.path}"
            asked[label] = asked.get(label, 0) + 1

        check()
    assert len(asked) == 23
    assert all(count >= EXAMPLES for count in asked.values())


def test_the_links_lead_on(schema: BaseSchema) -> None:
    """What one answer says, its entity tag or its revision, is good for the requests that its links name."""
    statuses: list[int] = []
    machine: Any = schema.as_state_machine()

    class Walk(machine):  # type: ignore[misc]  # made when the document is known
        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            del case
            return {"headers": AUTHORIZATION}

        def after_call(self, response: Any, case: Any) -> None:
            del case
            statuses.append(response.status_code)

    Walk.run(settings=settings(max_examples=WALKS, stateful_step_count=STEPS, **BUDGET))
    assert len(statuses) > WALKS
    assert {200, 304} <= set(statuses)

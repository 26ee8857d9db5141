"""What a Flask host answers while its database or its Redis is away, and that it recovers by itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.flask.conftest import client_of, eventually, gunicorn

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import PrivatePostgres, PrivateRedis

pytestmark = pytest.mark.once


def test_a_database_that_is_away_at_first_use(private_postgres: Callable[[], PrivatePostgres]) -> None:
    """Requests get 503 with Retry-After, and a view of the host's too, without the server's name; then all works."""
    database = private_postgres()
    database.stop()
    with gunicorn({"PREFSYNC_DATABASE_URL": database.url}) as server, client_of(server) as client:
        for path in ("/preferences", "/preferences/events", "/theme"):
            answer = client.get(path)
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["Retry-After"]) > 0
            assert answer.json()["type"] == "urn:prefsync:problem:unavailable"
            assert str(database.port) not in answer.text
        assert str(database.port) in server.output, "the log does not say which database is away"
        assert client.get("/plain").is_success
        database.start()
        eventually(lambda: client.get("/preferences").is_success)
        assert client.get("/theme").json()["theme"] == "system"
        assert "Traceback" not in server.output


def test_a_redis_that_is_killed(postgres_url: str, private_redis: Callable[[], PrivateRedis]) -> None:
    """No request fails while Redis dies, is away and comes back."""
    cache = private_redis()
    storage = {"PREFSYNC_DATABASE_URL": postgres_url, "PREFSYNC_REDIS_URL": cache.url}
    with gunicorn(storage) as server, client_of(server, "redis-user") as client:

        def use(seconds: float) -> None:
            until = time.monotonic() + seconds
            size = 0
            while time.monotonic() < until:
                size = size % 16 + 1
                assert client.patch("/preferences/editor", json={"tab_size": size}).is_success
                assert client.get("/preferences/editor").json()["tab_size"] == size
                assert client.get("/theme").is_success

        use(1)
        cache.kill()
        use(3)
        cache.start()
        use(2)
        assert "Traceback" not in server.output

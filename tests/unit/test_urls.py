"""URLs as errors, logs and screens show them: where they lead to, and no secret."""

from __future__ import annotations

import pytest

from prefsync.urls import shown


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("sqlite:///prefsync.sqlite3", "sqlite:///prefsync.sqlite3"),
        ("sqlite:////var/a@b/file.db", "sqlite:////var/a@b/file.db"),
        ("postgresql://db:5432/app", "postgresql://db:5432/app"),
        ("postgresql://me@db/app", "postgresql://me@db/app"),
        ("postgresql+asyncpg://me:SECRET@db:5432/app", "postgresql+asyncpg://me:***@db:5432/app"),
        ("redis://:SECRET@cache/0", "redis://:***@cache/0"),
        ("postgresql://me@db/app?password=SECRET", "postgresql://me@db/app?password=***"),
        ("postgresql://[::1]:5432/app?password=a@SECRET", "postgresql://[::1]:5432/app?password=***"),
        ("postgresql://a:5432,b:5433/app?password=a@SECRET", "postgresql://a:5432,b:5433/app?password=***"),
        (
            "postgresql://me:a@db/app?x=1&token=b@SECRET&SECRET",
            "postgresql://me:***@db/app?x=***&token=***&***",
        ),
        ("postgresql://me:a/SECRET@db/app", "postgresql://me:***@db/app"),
        ("postgresql://me:a?SECRET@db/app", "postgresql://me:***@db/app"),
        ("postgresql://me:a#SECRET@db/app", "postgresql://me:***@db/app"),
        ("postgresql://me:a@SECRET@db/app", "postgresql://me:***@db/app"),
        ("postgresql://me@server:SECRET@db:5432/app", "postgresql://me@server:***@db:5432/app"),
        ("postgresql://me@db:5432/app?x=a@b:SECRET@c", "postgresql://me@db:5432/app?x=***"),
        ("https://issuer.example/keys", "https://issuer.example/keys"),
        (
            "https://issuer.example:8443/@acme/keys?code=a@SECRET",
            "https://issuer.example:8443/@acme/keys?code=***",
        ),
        ("https://SECRET@issuer.example/keys#SECRET", "https://***@issuer.example/keys"),
        ("https://SECRET:SECRET@issuer.example/", "https://***@issuer.example/"),
        ("https://SECRET@SECRET:SECRET@issuer.example/", "https://***@issuer.example/"),
        ("https://issuer.example/?", "https://issuer.example/"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, seen: str) -> None:
    """Passwords and whatever stands in a query are hidden, also where they should have been quoted."""
    assert shown(url) == seen
    assert "SECRET" not in shown(url)

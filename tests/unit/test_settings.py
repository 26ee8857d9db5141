"""Settings: what is read, and how what cannot be used is told."""

from __future__ import annotations

from typing import Any

import pytest

from prefsync.errors import ConfigurationError
from prefsync.ports import Rate
from prefsync.settings import Settings

# What is wrong, and what its message must say so that it can be mended without looking anything up.
WRONG: list[tuple[str, str, str]] = [
    ("PREFSYNC_RATE_LIMIT", "fast", "100/minute"),
    ("PREFSYNC_RATE_LIMIT", "0/minute", "100/minute"),
    ("PREFSYNC_RATE_LIMIT", "-1/minute", "100/minute"),
    ("PREFSYNC_RATE_LIMIT", "1/0minute", "100/minute"),
    ("PREFSYNC_RATE_LIMIT", "1.5/minute", "100/minute"),
    ("PREFSYNC_RATE_LIMIT", "100", "100/minute"),
    ("PREFSYNC_CACHE_TTL", "0", "a number of seconds above 0"),
    ("PREFSYNC_CACHE_TTL", "-1", "a number of seconds above 0"),
    ("PREFSYNC_CACHE_TTL", "nan", "a number of seconds above 0"),
    ("PREFSYNC_CACHE_TTL", "inf", "a number of seconds above 0"),
    ("PREFSYNC_CACHE_TTL", "5 min", "a number of seconds above 0"),
    ("PREFSYNC_JWT_LEEWAY", "61", "an integer from 0 to 60"),
    ("PREFSYNC_JWT_LEEWAY", "-1", "an integer from 0 to 60"),
    ("PREFSYNC_JWT_LEEWAY", "1.5", "an integer from 0 to 60"),
    ("PREFSYNC_JWT_LEEWAY", "\N{SUPERSCRIPT TWO}", "an integer from 0 to 60"),
    ("PREFSYNC_POOL_SIZE", "0", "an integer from 1 to 1000"),
    ("PREFSYNC_POOL_SIZE", "many", "an integer from 1 to 1000"),
    ("PREFSYNC_NEAR_CACHE", "big", "64MiB"),
    ("PREFSYNC_NEAR_CACHE", "64MiB", "leave it unset"),
    ("PREFSYNC_JWKS_URL", "https://issuer.example/jwks", "leave it unset"),
    ("PREFSYNC_NOTIFIER_URL", "redis://localhost", "postgresql://user:password@host/database"),
    ("PREFSYNC_NOTIFIER_URL", "postgres", "postgresql://user:password@host/database"),
    ("PREFSYNC_DATABASE", "sqlite:///x", "did you mean PREFSYNC_DATABASE_URL?"),
    ("PREFSYNC_RATELIMIT", "1/minute", "did you mean PREFSYNC_RATE_LIMIT?"),
    ("PREFSYNC_SOMETHING_QUITE_DIFFERENT", "1", "the settings are PREFSYNC_ALLOWED_ORIGINS"),
]


@pytest.mark.parametrize(("name", "value", "mend"), WRONG)
def test_what_cannot_be_used_is_told_with_its_mend(name: str, value: str, mend: str) -> None:
    """Every message names the variable and says in one line what to write instead."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({name: value})
    message = str(caught.value)
    assert name in message
    assert mend in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("values", "mend"),
    [
        ({"cache_ttl": 0}, "cache_ttl cannot be used: write a number of seconds above 0"),
        ({"pool_size": 0}, "pool_size cannot be used: write an integer from 1 to 1000"),
        ({"pool_size": True}, "pool_size cannot be used: write an integer"),
        ({"rate_limit": "often"}, "rate_limit cannot be used: write requests per time"),
        ({"jwt_leeway": 90}, "jwt_leeway cannot be used: write an integer from 0 to 60"),
        ({"near_cache": 1}, "PREFSYNC_NEAR_CACHE is not supported"),
        ({"jwks_url": "https://x"}, "PREFSYNC_JWKS_URL is not supported"),
    ],
)
def test_settings_made_by_hand_are_read_as_strictly(values: dict[str, Any], mend: str) -> None:
    """The constructor refuses what the environment refuses, by the name that was used."""
    with pytest.raises(ConfigurationError, match=mend):
        Settings(**values)


def test_no_message_tells_a_secret() -> None:
    """A key or a URL that stands in a wrong place is not repeated."""
    for name in ("PREFSYNC_JWT_KEYS", "PREFSYNC_REDIS"):
        with pytest.raises(ConfigurationError) as caught:
            Settings.from_environment({name: "hunter2"})
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/minute", Rate(100, 60)),
        ("100 per minute", Rate(100, 60)),
        (" 5 / 10 seconds ", Rate(5, 10)),
        ("1/HOUR", Rate(1, 3_600)),
        ("7/2days", Rate(7, 172_800)),
    ],
)
def test_rates_are_read(text: str, rate: Rate) -> None:
    """Requests per time, in the usual ways to write it."""
    assert Settings.from_environment({"PREFSYNC_RATE_LIMIT": text}).rate_limit == rate


def test_everything_can_be_set_by_the_environment() -> None:
    """Each variable has its setting; foreign ones, those of our tests and empty ones count as unset."""
    settings = Settings.from_environment(
        {
            "PREFSYNC_DATABASE_URL": "postgresql://db/app",
            "PREFSYNC_REDIS_URL": "redis://cache",
            "PREFSYNC_NOTIFIER_URL": "postgresql+asyncpg://direct/app?sslmode=require",
            "PREFSYNC_REDIS_PREFIX": "app",
            "PREFSYNC_CACHE_TTL": "1.5",
            "PREFSYNC_JWT_KEY": "k",
            "PREFSYNC_JWT_ALGORITHMS": "RS256, ES256",
            "PREFSYNC_JWT_ISSUER": "",
            "PREFSYNC_JWT_LEEWAY": "0",
            "PREFSYNC_NEAR_CACHE": "0",
            "PREFSYNC_POOL_SIZE": " 5 ",
            "PREFSYNC_TEST_POSTGRES_URL": "postgresql://tests",
            "PATH": "/bin",
        }
    )
    assert settings == Settings(
        database_url="postgresql://db/app",
        redis_url="redis://cache",
        notifier_url="postgresql://direct/app?sslmode=require",
        redis_prefix="app",
        cache_ttl=1.5,
        jwt_key="k",
        jwt_algorithms=("RS256", "ES256"),
        jwt_leeway=0,
        pool_size=5,
    )
    assert Settings.from_environment({}) == Settings()


def test_a_frameworks_configuration_can_hold_values_of_their_own_type() -> None:
    """A mapping may hold numbers, lists and rates, and ``None`` for what is unset."""
    settings = Settings.from_mapping(
        {
            "PREFSYNC_CACHE_TTL": 60,
            "PREFSYNC_JWT_ALGORITHMS": ["RS256"],
            "PREFSYNC_RATE_LIMIT": Rate(1, 2),
            "PREFSYNC_REDIS_URL": None,
            "DEBUG": True,
        }
    )
    assert settings == Settings(cache_ttl=60, jwt_algorithms=("RS256",), rate_limit=Rate(1, 2))

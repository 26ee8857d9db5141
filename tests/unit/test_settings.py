"""Settings: what is read, and how what cannot be used is told."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from prefsync.adapters.postgres import PostgresNotifier
from prefsync.adapters.redis import RedisLink
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
    ("PREFSYNC_JWKS_URL", "http://issuer.example/jwks", "write https://host/path"),
    ("PREFSYNC_JWKS_URL", "ftp://issuer.example/jwks", "write https://host/path"),
    ("PREFSYNC_JWKS_URL", "issuer.example/jwks", "write https://host/path"),
    ("PREFSYNC_JWKS_URL", "https:///jwks", "write https://host/path"),
    ("PREFSYNC_JWKS_URL", "https://issuer.example:x/jwks", "write https://host/path"),
    ("PREFSYNC_JWKS_URL", "https://issuer.example/a b", "write https://host/path"),
    ("PREFSYNC_JWKS_URL", "https://issuer.example/\n", "write https://host/path"),
    (
        "PREFSYNC_JWKS_URL",
        "https://127.0.0.1.evil.example@issuer.example/jwks",
        "leave user and password out",
    ),
    ("PREFSYNC_JWKS_URL", "http://127.0.0.1.evil.example/jwks", "write https://host/path"),
    ("PREFSYNC_JWKS_URL", "https://issuer.example/jwks#1", "leave out the fragment"),
    ("PREFSYNC_JWKS_URL", "https://issuer.example/jwks", "needs PREFSYNC_JWT_ISSUER"),
    ("PREFSYNC_JWT_DISCOVERY", "maybe", "write true or false"),
    ("PREFSYNC_JWT_DISCOVERY", "true", "needs PREFSYNC_JWT_ISSUER"),
    ("PREFSYNC_INTROSPECTION_URL", "http://issuer.example/introspect", "write https://host/path"),
    ("PREFSYNC_INTROSPECTION_URL", "https://issuer.example/introspect", "set all three, or none"),
    ("PREFSYNC_INTROSPECTION_CLIENT_ID", "me", "set all three, or none"),
    ("PREFSYNC_INTROSPECTION_CLIENT_SECRET", "tiger", "set all three, or none"),
    ("PREFSYNC_RESOURCE_URL", "http://api.example/preferences", "write https://host/path"),
    ("PREFSYNC_RESOURCE_URL", "https://api.example/preferences?x", "leave out the fragment and the query"),
    ("PREFSYNC_NOTIFIER_URL", "redis://localhost", "postgresql://user:password@host/database"),
    ("PREFSYNC_NOTIFIER_URL", "postgres", "postgresql://user:password@host/database"),
    ("PREFSYNC_REQUIRE_HTTPS", "maybe", "write true or false"),
    ("PREFSYNC_HSTS_MAX_AGE", "-1", "an integer from 0 to"),
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
        ({"jwks_url": "http://x"}, "jwks_url cannot be used: write https://host/path"),
        ({"jwt_discovery": "perhaps"}, "jwt_discovery cannot be used: write true or false"),
    ],
)
def test_settings_made_by_hand_are_read_as_strictly(values: dict[str, Any], mend: str) -> None:
    """The constructor refuses what the environment refuses, by the name that was used."""
    with pytest.raises(ConfigurationError, match=mend):
        Settings(**values)


ISSUER = {"PREFSYNC_JWT_ISSUER": "https://issuer.example"}
ASKED = {
    "PREFSYNC_INTROSPECTION_URL": "https://issuer.example/introspect",
    "PREFSYNC_INTROSPECTION_CLIENT_ID": "prefsync",
    "PREFSYNC_INTROSPECTION_CLIENT_SECRET": "tiger",
}
WAYS = {
    "PREFSYNC_JWT_KEY": {"PREFSYNC_JWT_KEY": "k"},
    "PREFSYNC_JWKS_URL": {**ISSUER, "PREFSYNC_JWKS_URL": "https://issuer.example/jwks"},
    "PREFSYNC_JWT_DISCOVERY": {**ISSUER, "PREFSYNC_JWT_DISCOVERY": "true"},
    "PREFSYNC_INTROSPECTION_URL": ASKED,
}


@pytest.mark.parametrize(("one", "other"), [*itertools.combinations(WAYS, 2)])
def test_tokens_are_verified_in_one_way(one: str, other: str) -> None:
    """A key, a key set, discovery and introspection exclude one another: both are named, and none wins."""
    Settings.from_environment(WAYS[one])
    with pytest.raises(ConfigurationError, match=f"{one} and {other} exclude one another"):
        Settings.from_environment({**WAYS[one], **WAYS[other]})


@pytest.mark.parametrize(
    ("settings", "mend"),
    [
        ({**WAYS["PREFSYNC_JWT_DISCOVERY"], "PREFSYNC_JWT_ISSUER": "acme"}, "PREFSYNC_JWT_ISSUER is no URL"),
        (
            {**WAYS["PREFSYNC_JWT_DISCOVERY"], "PREFSYNC_JWT_ISSUER": "http://issuer.example"},
            "PREFSYNC_JWT_ISSUER is no URL",
        ),
        (
            {**WAYS["PREFSYNC_JWT_DISCOVERY"], "PREFSYNC_JWT_ISSUER": "https://issuer.example?x"},
            "the query",
        ),
        ({**ASKED, "PREFSYNC_JWT_PROFILE": "at+jwt"}, "PREFSYNC_JWT_PROFILE is about JWTs"),
        ({**ASKED, "PREFSYNC_INTROSPECTION_CLIENT_SECRET": ""}, "set all three, or none"),
    ],
)
def test_token_settings_that_contradict_one_another(settings: dict[str, str], mend: str) -> None:
    """They are refused at start, with what to change, and no secret is repeated."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment(settings)
    assert mend in str(caught.value)
    assert "tiger" not in str(caught.value)


@pytest.mark.parametrize("word", ["true", " YES ", "1", "on", True], ids=repr)
def test_flags_are_read(word: Any) -> None:
    """In the usual ways to write them."""
    assert Settings.from_mapping({**ISSUER, "PREFSYNC_JWT_DISCOVERY": word}).jwt_discovery is True


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/keys", "http://localhost/keys", "http://[::1]:9/keys"])
def test_this_machine_may_be_asked_in_the_clear(url: str) -> None:
    """Development has no certificates."""
    assert Settings.from_mapping({**ISSUER, "PREFSYNC_JWKS_URL": url}).jwks_url == url


def test_secrets_are_not_shown() -> None:
    """Settings that get into a log or a traceback do not give away what tokens are verified or introspected with."""
    assert "tiger" not in repr(Settings.from_environment(ASKED))
    assert "tiger" not in repr(Settings(jwt_key="tiger"))
    for name in ("database_url", "redis_url", "notifier_url", "jwks_url", "introspection_url"):
        scheme = "postgresql" if name == "notifier_url" else "https"
        url = f"{scheme}://issuer.example/keys?code=tiger"
        asked = (
            {"introspection_client_id": "a", "introspection_client_secret": "b"}
            if "introspection" in name
            else {}
        )
        given: dict[str, Any] = {name: url, "jwt_issuer": "https://issuer.example", **asked}
        assert "tiger" not in repr(Settings(**given))


def test_no_message_tells_a_secret() -> None:
    """A key or a URL that stands in a wrong place is not repeated."""
    for name in ("PREFSYNC_JWT_KEYS", "PREFSYNC_REDIS"):
        with pytest.raises(ConfigurationError) as caught:
            Settings.from_environment({name: "hunter2"})
        assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        RedisLink("redis://:hunter2/3@cache:6379/0")
    assert "hunter2" not in str(caught.value)
    for url in ("postgresql://me:hunter2/3@db/app", "postgresql://[me:hunter2@db/app"):
        with pytest.raises(ConfigurationError) as caught:
            PostgresNotifier(url)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "hosts", ["", "db", "db:", "db:5432", "me:a%2Fb@db:5432", "[::1]", "[::1]:5432", "a:5432,[::1]:1,c"]
)
def test_what_may_stand_in_the_url_of_a_notifier(hosts: str) -> None:
    """No host, one, or several, each with a port or without."""
    PostgresNotifier(f"postgresql://{hosts}/app")


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
            "PREFSYNC_REQUIRE_HTTPS": "Yes",
            "PREFSYNC_HSTS_MAX_AGE": "0",
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
        require_https=True,
        hsts_max_age=0,
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

"""Settings, from the environment or from a mapping (design.md section 10)."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from prefsync.errors import ConfigurationError
from prefsync.ports import Rate

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Settings"]

PREFIX: Final = "PREFSYNC_"

# Read by the tests of prefsync itself, never by a host.
_TEST_PREFIX: Final = "PREFSYNC_TEST_"

_RATE: Final = re.compile(r"\s*(\d+)\s*(?:/|per)\s*(\d*)\s*(second|minute|hour|day)s?\s*", re.IGNORECASE)
_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}

_SIZE: Final = re.compile(r"\s*(\d+)\s*(|B|KiB|MiB|GiB)\s*")
_ORIGIN: Final = re.compile(r"https?://[^/\s?#@]+", re.IGNORECASE)
_UNITS: Final = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}

# The design's security section: 100 requests a minute a user.
_DEFAULT_RATE: Final = Rate(100, 60)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What a host can set; each has the environment variable ``PREFSYNC_`` and its name in capitals.

    Attributes:
        database_url: ``postgresql://...`` or ``sqlite:///file``.
        redis_url: ``redis://...``, or ``redis+cluster://...`` of a Redis Cluster; without it, cache, notifier and
            limits are this process's own.
        notifier_url: ``postgresql://...``: changes are announced by LISTEN and NOTIFY there instead of over Redis, or
            instead of within this process.
        redis_prefix: Begins every key and channel in Redis, and every channel in PostgreSQL; deployments that share
            one need different ones.
        cache_ttl: Seconds that a cached document lives.
        rate_limit: Requests that may pass for one subject, and failing tokens for one address, ``100/minute``.
        jwt_key: A shared secret, or a public key in PEM.
        jwt_algorithms: What may have signed a token; required with anything but a shared secret.
        jwks_url: The issuer's key set. Not supported yet: setting it is an error.
        jwt_issuer: What a token's ``iss`` must be.
        jwt_audience: What a token's ``aud`` must name.
        jwt_tenant_claim: The claim that names the tenant.
        jwt_leeway: Seconds by which clocks may differ.
        near_cache: Bytes of a cache inside each process. Not supported yet: anything but 0 is an error.
        pool_size: The most connections to the database.
        allowed_origins: Origins besides the app's own whose pages may open a WebSocket, ``https://app.example``.
        max_sessions: The most open streams of one process.
        max_sessions_per_subject: The most open streams of one subject in one process.
    """

    database_url: str = "sqlite:///prefsync.sqlite3"
    redis_url: str | None = None
    notifier_url: str | None = None
    redis_prefix: str = "prefsync"
    cache_ttl: float = 300
    rate_limit: Rate = _DEFAULT_RATE
    jwt_key: str | None = None
    jwt_algorithms: tuple[str, ...] = ("HS256",)
    jwks_url: str | None = None
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwt_tenant_claim: str | None = None
    jwt_leeway: int = 30
    near_cache: int = 0
    pool_size: int = 10
    allowed_origins: tuple[str, ...] = ()
    max_sessions: int = 10_000
    max_sessions_per_subject: int = 64

    def __post_init__(self) -> None:
        for name, read in _READERS.items():
            try:
                object.__setattr__(self, name, read(getattr(self, name)))
            except ValueError as error:
                raise ConfigurationError(f"the setting {name} cannot be used: {error}") from None
        for name, value in (("JWKS_URL", self.jwks_url), ("NEAR_CACHE", self.near_cache)):
            if value:
                raise ConfigurationError(f"{PREFIX}{name} is not supported by this version; leave it unset")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read the variables that begin with ``PREFSYNC_``.

        Args:
            environment: Instead of the process's own.

        Raises:
            ConfigurationError: A variable is not one of ours, or its value cannot be read.
        """
        environment = os.environ if environment is None else environment
        return cls.from_mapping(
            {name: value for name, value in environment.items() if not name.startswith(_TEST_PREFIX)}
        )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Settings:
        """Read the entries that begin with ``PREFSYNC_``, of a framework's configuration say.

        Raises:
            ConfigurationError: An entry is not one of ours, or its value cannot be read.
        """
        names = {PREFIX + field.name.upper(): field.name for field in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in mapping.items():
            if not name.startswith(PREFIX):
                continue
            if name not in names:
                close = difflib.get_close_matches(name, names, n=1)
                hint = (
                    f"did you mean {close[0]}?" if close else f"the settings are {', '.join(sorted(names))}"
                )
                raise ConfigurationError(f"{name} is no setting of prefsync; {hint}")
            if value is None or value == "":
                continue
            read = _READERS.get(names[name], str)
            try:
                values[names[name]] = read(value)
            except ValueError as error:
                raise ConfigurationError(f"{name}={_shown(name, value)} cannot be used: {error}") from None
        return cls(**values)


def _shown(name: str, value: object) -> str:
    return "..." if name.endswith(("_KEY", "_URL")) else repr(value)


def _rate(value: object) -> Rate:
    if isinstance(value, Rate):
        return value
    match = _RATE.fullmatch(str(value))
    if not match or int(match[1]) < 1 or (match[2] and int(match[2]) < 1):
        raise ValueError("write requests per time, 100/minute say")
    return Rate(int(match[1]), int(match[2] or 1) * _SECONDS[match[3].lower()])


def _seconds(value: object) -> float:
    try:
        seconds = float(str(value))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 10**9:
        raise ValueError("write a number of seconds above 0")
    return seconds


def _between(least: int, most: int) -> Any:
    def read(value: object) -> int:
        text = str(value).strip()
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise ValueError(f"write an integer from {least} to {most}")
        return int(text)

    return read


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(value.replace(",", " ").split())
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        return tuple(value)
    raise ValueError("write names, RS256 say, with commas between them")


def _origins(value: object) -> tuple[str, ...]:
    origins = _names(value)
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(
                "write origins as browsers send them, https://app.example say, with commas between them"
            )
    return origins


def _size(value: object) -> int:
    match = _SIZE.fullmatch(str(value))
    if not match:
        raise ValueError("write a size, 64MiB say")
    return int(match[1]) * _UNITS[match[2]]


def _postgres_url(value: object) -> str | None:
    if value is None:
        return None
    scheme, separator, rest = str(value).partition("://")
    if scheme.partition("+")[0] not in {"postgres", "postgresql"} or not separator:
        raise ValueError("write postgresql://user:password@host/database; over Redis, leave it unset")
    return f"postgresql://{rest}"


_READERS: Final[dict[str, Any]] = {
    "notifier_url": _postgres_url,
    "cache_ttl": _seconds,
    "rate_limit": _rate,
    "jwt_algorithms": _names,
    "jwt_leeway": _between(0, 60),
    "near_cache": _size,
    "pool_size": _between(1, 1_000),
    "allowed_origins": _origins,
    "max_sessions": _between(1, 1_000_000),
    "max_sessions_per_subject": _between(1, 1_000_000),
}

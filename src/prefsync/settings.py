"""Settings, from the environment or from a mapping (design.md section 10)."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Literal

from prefsync.errors import ConfigurationError
from prefsync.ports import Rate
from prefsync.urls import check_secure

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Settings"]

PREFIX: Final = "PREFSYNC_"

APP_VARIABLE: Final = "PREFSYNC_APP"
"""Which app the command line is about; no setting of the app's."""

# Read by the tests of prefsync itself, never by a host.
_TEST_PREFIX: Final = "PREFSYNC_TEST_"

_RATE: Final = re.compile(r"\s*(\d+)\s*(?:/|per)\s*(\d*)\s*(second|minute|hour|day)s?\s*", re.IGNORECASE)
_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}

_SIZE: Final = re.compile(r"\s*(\d+)\s*(|B|KiB|MiB|GiB)\s*")
_ORIGIN: Final = re.compile(r"https?://[^/\s?#@]+", re.IGNORECASE)
_UNITS: Final = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}

# Seconds; what lists of sites for browsers to know beforehand ask for (hstspreload.org).
_YEAR: Final = 365 * 24 * 3_600

# The design's security section: 100 requests a minute a user.
_DEFAULT_RATE: Final = Rate(100, 60)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What a host can set; each has the environment variable ``PREFSYNC_`` and its name in capitals.

    Attributes:
        database_url: ``postgresql://...`` or ``sqlite:///file``.
        tables: What to do about the database's tables at start: ``create`` them where there are none, ``upgrade`` older
            ones too, or ``check`` alone.
        redis_url: ``redis://...``, or ``redis+cluster://...`` of a Redis Cluster; without it, cache, notifier and
            limits are this process's own.
        notifier_url: ``postgresql://...``: changes are announced by LISTEN and NOTIFY there instead of over Redis, or
            instead of within this process.
        redis_prefix: Begins every key and channel in Redis, and every channel in PostgreSQL; deployments that share
            one need different ones.
        cache_ttl: Seconds that a cached document lives.
        rate_limit: Requests that may pass for one subject, and failing tokens for one address, ``100/minute``.
        rate_limit_reads: Requests of a subject's that are neither of the next two, counted apart from all others; with
            all others where left out.
        rate_limit_writes: Likewise writes, over HTTP or a socket.
        rate_limit_streams: Likewise streams that are opened (WebSocket, server-sent events, Socket.IO), and tickets.
        jwt_key: A shared secret, or a public key in PEM.
        jwt_algorithms: What may have signed a token; required with anything but a shared secret.
        jwks_url: The issuer's key set, instead of a key.
        jwt_discovery: Whether the issuer's own metadata says where its key set is.
        jwt_issuer: What a token's ``iss`` must be.
        jwt_audience: What a token's ``aud`` must name.
        jwt_tenant_claim: The claim that names the tenant.
        jwt_leeway: Seconds by which clocks may differ.
        jwt_profile: ``at+jwt``: tokens must keep RFC 9068.
        introspection_url: Where the issuer is asked about each token (RFC 7662), instead of a key.
        introspection_client_id: Who asks, as the issuer knows it.
        introspection_client_secret: Proves it.
        resource_url: The URL that clients reach the mount at; tells them where to get a token (RFC 9728).
        near_cache: Bytes of a cache inside each process, ``64MiB``; 0: none. Reads are answered from it without asking
            anybody, and may be older by the time that an announcement takes.
        pool_size: The most connections to the database.
        allowed_origins: Origins besides the app's own whose pages may open a WebSocket, ``https://app.example``.
        require_https: Whether plain HTTP is refused, except from this machine.
        hsts_max_age: Seconds for which browsers are told to use HTTPS alone, where it is required; 0 tells them nothing.
        max_sessions: The most open streams of one process.
        max_sessions_per_subject: The most open streams of one subject in one process.
        max_waiting: Under a WSGI server, the most event streams and long polls of one process, each of which holds a
            thread; half of the threads where left out.
        telemetry: Whether OpenTelemetry is told of how prefsync fares; needs the extra ``telemetry``.
    """

    database_url: str = field(default="sqlite:///prefsync.sqlite3", repr=False)
    tables: Literal["create", "upgrade", "check"] = "create"
    redis_url: str | None = field(default=None, repr=False)
    notifier_url: str | None = field(default=None, repr=False)
    redis_prefix: str = "prefsync"
    cache_ttl: float = 300
    rate_limit: Rate = _DEFAULT_RATE
    rate_limit_reads: Rate | None = None
    rate_limit_writes: Rate | None = None
    rate_limit_streams: Rate | None = None
    jwt_key: str | None = field(default=None, repr=False)
    jwt_algorithms: tuple[str, ...] = ("HS256",)
    jwks_url: str | None = field(default=None, repr=False)
    jwt_discovery: bool = False
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwt_tenant_claim: str | None = None
    jwt_leeway: int = 30
    jwt_profile: str | None = None
    introspection_url: str | None = field(default=None, repr=False)
    introspection_client_id: str | None = None
    introspection_client_secret: str | None = field(default=None, repr=False)
    resource_url: str | None = None
    near_cache: int = 0
    pool_size: int = 10
    allowed_origins: tuple[str, ...] = ()
    require_https: bool = False
    hsts_max_age: int = _YEAR
    max_sessions: int = 10_000
    max_sessions_per_subject: int = 64
    max_waiting: int | None = None
    telemetry: bool = False

    def __post_init__(self) -> None:
        for name, read in _READERS.items():
            try:
                object.__setattr__(self, name, read(getattr(self, name)))
            except ValueError as error:
                raise ConfigurationError(f"the setting {name} cannot be used: {error}") from None
        self._check_token_settings()

    def _check_token_settings(self) -> None:
        """Refuse what contradicts itself: it must never depend on an order of precedence which tokens are taken."""
        given = {
            "JWT_KEY": self.jwt_key is not None,
            "JWKS_URL": self.jwks_url is not None,
            "JWT_DISCOVERY": self.jwt_discovery,
            "INTROSPECTION_URL": self.introspection_url is not None,
        }
        ways = [PREFIX + name for name, is_given in given.items() if is_given]
        if len(ways) > 1:
            raise ConfigurationError(f"{' and '.join(ways)} exclude one another: keep the one that is meant")
        if (self.jwks_url is not None or self.jwt_discovery) and self.jwt_issuer is None:
            raise ConfigurationError(f"{ways[0]} needs {PREFIX}JWT_ISSUER: whose tokens these keys are for")
        if self.jwt_discovery:
            try:
                check_secure(self.jwt_issuer or "", query=False)
            except ValueError as error:
                raise ConfigurationError(
                    f"{PREFIX}JWT_DISCOVERY asks the issuer, and {PREFIX}JWT_ISSUER is no URL for that: {error}"
                ) from None
        for name in ("introspection_client_id", "introspection_client_secret"):
            if (self.introspection_url is None) != (getattr(self, name) is None):
                raise ConfigurationError(
                    f"{PREFIX}INTROSPECTION_URL, {PREFIX}INTROSPECTION_CLIENT_ID and"
                    f" {PREFIX}INTROSPECTION_CLIENT_SECRET go together: set all three, or none"
                )
        if self.jwt_profile is not None and self.introspection_url is not None:
            raise ConfigurationError(f"{PREFIX}JWT_PROFILE is about JWTs, and introspected tokens are none")

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
            {
                name: value
                for name, value in environment.items()
                if not name.startswith(_TEST_PREFIX) and name != APP_VARIABLE
            }
        )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Settings:
        """Read the entries that begin with ``PREFSYNC_``, of a framework's configuration say.

        Raises:
            ConfigurationError: An entry is not one of ours, or its value cannot be read.
        """
        names = {PREFIX + each.name.upper(): each.name for each in fields(cls)}
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
    return "..." if name.endswith(("_KEY", "_SECRET", "_URL")) else repr(value)


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


def _optional(read: Any) -> Any:
    return lambda value: None if value is None else read(value)


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


def _flag(value: object) -> bool:
    words = {
        "true": True,
        "1": True,
        "yes": True,
        "on": True,
        "false": False,
        "0": False,
        "no": False,
        "off": False,
    }
    found = words.get(str(value).strip().lower())
    if found is None:
        raise ValueError("write true or false")
    return found


def _secure_url(value: object) -> str | None:
    if value is not None:
        check_secure(str(value))
    return None if value is None else str(value)


def _resource_url(value: object) -> str | None:
    if value is not None:
        check_secure(str(value), query=False)
    return None if value is None else str(value)


def _tables(value: object) -> Any:
    if value not in {"create", "upgrade", "check"}:
        raise ValueError("write create, upgrade or check")
    return value


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
    "tables": _tables,
    "notifier_url": _postgres_url,
    "cache_ttl": _seconds,
    "rate_limit": _rate,
    "rate_limit_reads": _optional(_rate),
    "rate_limit_writes": _optional(_rate),
    "rate_limit_streams": _optional(_rate),
    "jwt_algorithms": _names,
    "jwt_discovery": _flag,
    "jwks_url": _secure_url,
    "introspection_url": _secure_url,
    "resource_url": _resource_url,
    "jwt_leeway": _between(0, 60),
    "near_cache": _size,
    "pool_size": _between(1, 1_000),
    "allowed_origins": _origins,
    "require_https": _flag,
    "hsts_max_age": _between(0, 10 * _YEAR),
    "max_sessions": _between(1, 1_000_000),
    "max_sessions_per_subject": _between(1, 1_000_000),
    "telemetry": _flag,
    "max_waiting": _optional(_between(0, 1_000_000)),
}

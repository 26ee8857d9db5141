"""``check``: what is set up, whether it answers, and in plain words what to change."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio

from prefsync.cli.ends import Exit, RefusedError, exit_of, lines_of
from prefsync.clock import SystemClock
from prefsync.errors import ConfigurationError, PrefsyncError
from prefsync.parts import build_postgres_notifier
from prefsync.ports import Lost
from prefsync.urls import is_loopback, shown

if TYPE_CHECKING:
    from argparse import Namespace

    from sqlalchemy import Connection

    from prefsync.adapters.redis import RedisClusterLink, RedisLink
    from prefsync.cli.printing import Printer
    from prefsync.cli.target import Target
    from prefsync.settings import Settings

__all__ = ["Finding", "check"]

# Seconds by which clocks may differ without any effect, and without one that users see (docs/architecture.md).
_UNSEEN: Final = 1.0
_HARMFUL: Final = 5.0

# Seconds that one part may take to answer.
_PATIENCE: Final = 10.0

_OK: Final = "ok"
_WARNING: Final = "warning"
_FAULT: Final = "fault"

_CLOCKS: Final = {
    "postgresql": "SELECT EXTRACT(EPOCH FROM clock_timestamp())",
    "mysql": "SELECT UNIX_TIMESTAMP(NOW(6))",
    "mariadb": "SELECT UNIX_TIMESTAMP(NOW(6))",
}

_IS_ENCRYPTED: Final = {
    "postgresql": "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    "mysql": "SELECT variable_value <> '' FROM performance_schema.session_status WHERE variable_name = 'Ssl_cipher'",
    "mariadb": "SELECT variable_value <> '' FROM information_schema.session_status WHERE variable_name = 'Ssl_cipher'",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        about: What.
        level: ``ok``, ``warning`` or ``fault``.
        text: How it is.
        mend: What to change, where something is wrong.
        code: What the command then exits with.
    """

    about: str
    level: str
    text: str
    mend: str = ""
    code: Exit = Exit.FAILED


def check(target: Target, _given: Namespace, printer: Printer) -> Exit:
    """Look at settings, connections, tables, clocks and encryption, and say what to change. Changes nothing."""
    settings = target.settings
    found = [_app(target), *target.run(partial(_database, target)), *_workers(settings)]
    found += [*target.run(partial(_redis, settings)), *target.run(partial(_notifier, settings))]
    found += _tokens(settings, has_own=target.has_app and target.runtime.verifier is None)
    found += _encryption(settings)
    worst = next((finding.code for finding in found if finding.level == _FAULT), Exit.OK)
    words = []
    for finding in found:
        words.append(f"{finding.level + ':':9}{finding.about}: {finding.text}")
        if finding.mend:
            words.append(f"{'':9}{finding.mend}")
    value = [
        {"about": one.about, "level": one.level, "text": one.text, "mend": one.mend or None} for one in found
    ]
    printer.result({"ok": worst is Exit.OK, "findings": value}, words)
    return worst


def _app(target: Target) -> Finding:
    if not target.has_app:
        return Finding("app", _WARNING, "none was named", "to check it too: --app module:attribute")
    return Finding("app", _OK, f"namespaces {', '.join(target.runtime.schema.namespaces)}")


async def _database(target: Target) -> list[Finding]:
    from prefsync.cli.database import sql_repository

    try:
        repository = sql_repository(target)
    except RefusedError as error:
        return [Finding("database", _WARNING, str(error), "fine in tests; else set PREFSYNC_DATABASE_URL")]
    try:
        with anyio.fail_after(_PATIENCE):
            return await repository.on_connection(partial(_look, mode=repository.tables))
    except PrefsyncError as error:
        return [Finding("database", _FAULT, lines_of(error)[0], code=exit_of(error))]
    except TimeoutError:
        mend = "see whether it is overloaded, or a firewall drops what is sent to it"
        return [Finding("database", _FAULT, f"no answer in {_PATIENCE:g} s", mend, Exit.UNAVAILABLE)]


def _look(connection: Connection, mode: str) -> list[Finding]:
    from sqlalchemy import text

    began = time.perf_counter()
    connection.execute(text("SELECT 1"))
    took = (time.perf_counter() - began) * 1_000
    dialect = connection.dialect.name
    found = [Finding("database", _OK, f"{dialect} answers in {took:.1f} ms")]
    found += _tables(connection, mode)
    if dialect in _CLOCKS:
        before = time.time()
        theirs = float(connection.execute(text(_CLOCKS[dialect])).scalar_one())
        found.append(_clock("database", before, theirs, time.time()))
    if dialect in _IS_ENCRYPTED and not is_loopback(connection.engine.url.host or "localhost"):
        encrypted = bool(connection.execute(text(_IS_ENCRYPTED[dialect])).scalar())
        mend = (
            "" if encrypted else "add ?sslmode=verify-full (PostgreSQL) or ?ssl=true to PREFSYNC_DATABASE_URL"
        )
        said = "encrypted" if encrypted else "not encrypted, and not to this machine"
        found.append(Finding("connection to the database", _OK if encrypted else _WARNING, said, mend))
    connection.rollback()
    return found


def _tables(connection: Connection, mode: str) -> list[Finding]:
    from sqlalchemy.exc import DBAPIError

    from prefsync.adapters.sqlalchemy.refusals import read_only
    from prefsync.adapters.sqlalchemy.tables import erasures
    from prefsync.adapters.sqlalchemy.versions import Standing
    from prefsync.cli.database import tables_of

    version, differences = tables_of(connection)
    match version.standing:
        case Standing.EMPTY if mode != "check":
            return [Finding("tables", _OK, "there are none yet; whoever starts first makes them")]
        case Standing.OLDER if mode == "upgrade":
            return [Finding("tables", _OK, f"at {version.revision}; whoever starts first upgrades them")]
        case Standing.EMPTY | Standing.OLDER:
            said = f"at {version.revision}, older than needed" if version.revision else "there are none"
            return [Finding("tables", _FAULT, said, "run `prefsync db upgrade`", Exit.TABLES)]
        case Standing.INCOMPATIBLE:
            said = version.fault or f"at {version.revision}, of a newer prefsync"
            mend = "use another database or schema" if version.fault else "deploy the newer prefsync-kit"
            return [Finding("tables", _FAULT, said, mend, Exit.TABLES)]
        case _:
            found = [Finding("tables", _OK, f"at {version.revision}")]
    if differences:
        said = f"differ from {version.revision}: {'; '.join(differences)}"
        found = [Finding("tables", _FAULT, said, "undo what was changed by hand")]
    connection.rollback()
    try:
        connection.execute(erasures.update().values(floor=erasures.c.floor))
    except DBAPIError as error:
        refused = read_only(error.orig)
        mend = "connect to the primary, or make room" if refused else "let its user write to the tables"
        found.append(Finding("writes", _FAULT, str(refused or "refused"), mend))
    connection.rollback()
    return found


def _clock(about: str, before: float, theirs: float, after: float) -> Finding:
    """Judge a clock by what it told, at some moment between two of this machine's."""
    ahead = theirs - after if theirs > after else min(0.0, theirs - before)
    level = _OK if abs(ahead) < _UNSEEN else _WARNING if abs(ahead) < _HARMFUL else _FAULT
    said = (
        "agrees"
        if level == _OK
        else f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    )
    return Finding(f"clock of the {about}", level, said, "" if level == _OK else "let NTP set both clocks")


def _workers(settings: Settings) -> list[Finding]:
    workers = os.environ.get("WEB_CONCURRENCY", "1")
    if settings.redis_url is not None or not workers.isdigit() or int(workers) < 2:  # noqa: PLR2004  # several
        return []
    return [
        Finding(
            "workers",
            _WARNING,
            f"{workers} (WEB_CONCURRENCY), each with cache and limits of its own",
            "set PREFSYNC_REDIS_URL",
        )
    ]


def _link(settings: Settings) -> RedisLink | RedisClusterLink | None:
    """Return a link like the app's, with more patience: that Redis is slow is to be told, not that it is away."""
    if settings.redis_url is None:
        return None
    from prefsync.adapters.redis import RedisClusterLink, RedisLink

    kind = RedisClusterLink if settings.redis_url.partition("://")[0].endswith("+cluster") else RedisLink
    return kind(settings.redis_url, prefix=settings.redis_prefix, time_limit=_PATIENCE)


async def _redis(settings: Settings) -> list[Finding]:
    link = _link(settings)
    if link is None:
        mend = "for several processes set PREFSYNC_REDIS_URL"
        return [Finding("cache, notifier and limits", _OK, f"this process's own; {mend}")]
    from prefsync.adapters.redis.link import TIME_LIMIT

    found = []
    try:
        with anyio.fail_after(_PATIENCE):
            async with link:
                began, before = time.perf_counter(), time.time()
                reply: Any = await link.client.gather("TIME")
                took = time.perf_counter() - began
                slow = (
                    ""
                    if took < TIME_LIMIT
                    else f"slower than {TIME_LIMIT:g} s is taken for away: move it nearer"
                )
                found.append(
                    Finding("Redis", _WARNING if slow else _OK, f"answers in {took * 1_000:.1f} ms", slow)
                )
                theirs = int(reply[0]) + int(reply[1]) / 1_000_000
                found.append(_clock("Redis server", before, theirs, time.time()))
    except (PrefsyncError, OSError, TimeoutError) as error:
        said = str(error) or f"no answer in {_PATIENCE:g} s"
        mend = "check PREFSYNC_REDIS_URL and that it runs; without it reads come from the database"
        return [Finding("Redis", _FAULT, said, mend, Exit.UNAVAILABLE)]
    url = urlsplit(settings.redis_url or "")
    if (
        url.scheme.startswith("redis")
        and not url.scheme.startswith("rediss")
        and not is_loopback(url.hostname or "")
    ):
        said = "not encrypted, and not to this machine"
        found.append(
            Finding("connection to Redis", _WARNING, said, "write rediss:// where the server has TLS")
        )
    return found


async def _notifier(settings: Settings) -> list[Finding]:
    notifier = build_postgres_notifier(settings, SystemClock())
    if notifier is None:
        return []
    async with notifier, notifier.subscribe(pulse=True) as heard:
        with anyio.move_on_after(_PATIENCE):
            async for one in heard:
                if isinstance(one, Lost):
                    break
                return [Finding("notifier", _OK, "PostgreSQL listens")]
    mend = "check PREFSYNC_NOTIFIER_URL; it must lead to the server itself, not to a pooler"
    return [Finding("notifier", _FAULT, "no subscription could be made", mend, Exit.UNAVAILABLE)]


def _tokens(settings: Settings, *, has_own: bool) -> list[Finding]:
    if has_own:
        return [Finding("tokens", _OK, "the app authenticates by its own means")]
    ways = {
        "a key set": shown(settings.jwks_url or (settings.jwt_discovery and settings.jwt_issuer) or ""),
        "introspection": shown(settings.introspection_url or ""),
        "PREFSYNC_JWT_KEY": settings.jwt_key and ", ".join(settings.jwt_algorithms),
    }
    way = next((f"verified by {name} ({value})" for name, value in ways.items() if value), None)
    if way is None:
        return [
            Finding(
                "tokens",
                _FAULT,
                "nothing can verify them",
                "set PREFSYNC_JWT_KEY, or name your issuer (PREFSYNC_JWT_ISSUER, PREFSYNC_JWT_DISCOVERY=true)",
                Exit.USAGE,
            )
        ]
    if settings.jwt_key is None and settings.jwt_audience is None:
        said = "tokens that the issuer gave out for other services are taken too"
        return [Finding("tokens", _OK, way), Finding("audience", _WARNING, said, "set PREFSYNC_JWT_AUDIENCE")]
    try:
        _refuse_key(settings)
    except ConfigurationError as error:
        return [Finding("tokens", _FAULT, str(error), code=Exit.USAGE)]
    return [Finding("tokens", _OK, way)]


def _refuse_key(settings: Settings) -> None:
    from prefsync.verifiers import build_verifier

    build_verifier(settings, SystemClock())


def _encryption(settings: Settings) -> list[Finding]:
    if settings.require_https:
        return [Finding("HTTPS", _OK, "required")]
    said = "not required here: plain HTTP is served, unless your proxy sees to it"
    return [Finding("HTTPS", _OK, f"{said} (PREFSYNC_REQUIRE_HTTPS=true)")]

"""What a run was made with: figures without it say nothing."""

from __future__ import annotations

import asyncio
import contextlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import asyncpg

__all__ = ["describe"]

_PACKAGES: Final = (
    "uvicorn",
    "uvloop",
    "httptools",
    "fastapi",
    "asyncpg",
    "redis",
    "limits",
    "pyjwt",
    "pydantic",
)


def describe(postgres_url: str, redis_version: str) -> dict[str, str]:
    """Return versions by name, and the processor."""
    found = {
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "PostgreSQL": asyncio.run(_postgres(postgres_url)),
        "Redis": redis_version,
        "prefsync": _commit(),
    }
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


async def _postgres(url: str) -> str:
    connection: Any = await asyncpg.connect(url)
    try:
        number, fsync, commit = await connection.fetchrow(
            "SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit')"
        )
    finally:
        await connection.close()
    return f"{number.split(' ')[0]} (fsync {fsync}, synchronous_commit {commit})"


def _commit() -> str:
    """Return what is checked out, where git knows."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            check=True,
            capture_output=True,
            text=True,
        )
        return told.stdout.strip()
    return "unknown"

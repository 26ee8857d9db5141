"""Counters that are read before and after a measurement.

A meter returns counters by name; names of several meters must differ. ``commands:`` begins the names of Redis commands.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import psutil
import redis

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["COMMAND", "Meter", "RedisMeter", "all_of", "cpu_seconds", "generator_meter", "processor_meter"]

Meter: TypeAlias = "Callable[[], dict[str, float]]"

COMMAND = "command:"

# Of the meter itself, and of connections that come and go.
_NOT_COUNTED = {"info", "client|setinfo", "hello", "auth", "select"}


def all_of(*meters: Meter) -> Meter:
    """Return a meter that reads all of these."""

    def read() -> dict[str, float]:
        return {name: value for meter in meters for name, value in meter().items()}

    return read


def processor_meter(pid: int) -> Meter:
    """Return a meter of a process and its children.

    It reads ``cpu``, seconds of processor time, and ``waited``, seconds ready to run while the core was somebody else's
    (0 where the system does not tell).
    """
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]

    def read() -> dict[str, float]:
        times = [process.cpu_times() for process in processes]
        return {
            "cpu": sum(spent.user + spent.system for spent in times),
            "waited": sum(_waited(process.pid) for process in processes),
        }

    return read


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process took so far; to the nanosecond where the system tells, else to 10 ms."""
    spent = psutil.Process(pid).cpu_times()
    return _scheduled(pid, 0) or spent.user + spent.system


def _waited(pid: int) -> float:
    return _scheduled(pid, 1)


def _scheduled(pid: int, figure: int) -> float:
    # https://docs.kernel.org/scheduler/sched-stats.html, "/proc/<pid>/schedstat": ns on the CPU, ns waiting for one.
    threads = Path("/proc").glob(f"{pid}/task/*/schedstat")
    return sum(int(thread.read_text().split()[figure]) for thread in threads) / 1e9


def generator_meter() -> dict[str, float]:
    """Read how long this process has had work to do, waiting for its core included: ``generator``, in seconds."""
    return {"generator": time.process_time() + _waited(os.getpid())}


class RedisMeter:
    """Counts commands as the server does, those inside of scripts included, and how often it read from a client.

    What several requests send in one pipeline is one read, so reads are round trips (but for pipelines beyond 16 KiB).

    Args:
        url: Of the server.
    """

    def __init__(self, url: str) -> None:
        self._client: Any = redis.Redis.from_url(url)

    def __call__(self) -> dict[str, float]:
        """Read ``redis_trips`` and a counter for each command."""
        commands = self._client.info("commandstats")
        counters = {
            COMMAND + name.removeprefix("cmdstat_"): float(told["calls"])
            for name, told in commands.items()
            if name.removeprefix("cmdstat_") not in _NOT_COUNTED
        }
        return {"redis_trips": float(self._client.info("stats")["total_reads_processed"]), **counters}

    @property
    def version(self) -> str:
        """The server's version."""
        return str(self._client.info("server")["redis_version"])

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

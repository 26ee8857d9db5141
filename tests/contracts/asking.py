"""A process that asks a limiter for a time, and prints when each request that passed was counted."""

from __future__ import annotations

import asyncio
import sys
import time

from prefsync.adapters.limits import LimitsRateLimiter
from prefsync.ports import Rate
from tests.contracts.support import patient_link

AT_ONCE = 8


async def ask(url: str, prefix: str, rate: Rate, seconds: float) -> list[str]:
    """Return the times before and after each request that passed, by the clock that all processes share."""
    passed: list[str] = []
    async with LimitsRateLimiter(rate, patient_link(url, prefix)) as limiter:
        await limiter.acquire("warm up")
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()  # the word to begin
        end = time.monotonic() + seconds

        async def work() -> None:
            while time.monotonic() < end:
                before = time.monotonic()
                permit = await limiter.acquire("key")
                if permit.allowed:
                    passed.append(f"{before} {time.monotonic()}")
                else:
                    await asyncio.sleep(0.005)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return passed


def main() -> None:
    """Ask as the command line says."""
    url, prefix, limit, window, seconds = sys.argv[1:]
    passed = asyncio.run(ask(url, prefix, Rate(int(limit), int(window)), float(seconds)))
    sys.stdout.write("\n".join(passed))


if __name__ == "__main__":
    main()

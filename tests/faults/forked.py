"""A program that forks while its runtime is at work, and tells what became of parent and children.

Run as a process of its own, ``python -m tests.faults.forked KIND DATABASE_URL REDIS_URL PREFIX``; see ``KINDS``. It prints
one line of JSON for each process. What goes wrong is on its standard error.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from prefsync import Parts, Preferences, Runtime, Settings, Subject
from prefsync.adapters.sqlalchemy import SqlAlchemyRepository
from prefsync.ports import Announcement

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

KINDS = {
    "asyncpg by URL": "postgresql",
    "PostgreSQL as notifier": "postgresql",
    "the host's AsyncEngine on asyncpg": "postgresql+asyncpg",
    "the host's Engine on psycopg": "postgresql+psycopg",
    "SQLite by URL": "sqlite",
}
CHILDREN = 2

# Seconds after which what should happen by itself counts as missing.
LIMIT = 20.0

# Writes that each process hears of before it is content: enough for connections to be used again and again.
WRITES = 5


class Counter(Preferences, namespace="counter"):
    """What is written, a higher number each time."""

    n: int = 0


class Process:
    """A process's runtime on an event loop in a daemon thread, which writes all the time and listens to all.

    Args:
        name: Whose preferences it writes.
        make: Makes its runtime.

    Attributes:
        heard: The last number heard of, by process.
        written: The last number whose write was acknowledged.
    """

    def __init__(self, name: str, make: Callable[[], Runtime]) -> None:
        self.name = name
        self.heard: dict[str, int] = {}
        self.written = 0
        self._stopping = False
        is_ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._work(make, is_ready)), daemon=True)
        self._thread.start()
        if not is_ready.wait(LIMIT):
            raise TimeoutError("the runtime does not open")

    async def _work(self, make: Callable[[], Runtime], is_ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._done = asyncio.Event()
        self._news = asyncio.Condition()
        async with make() as self.runtime:
            listening = asyncio.create_task(self._listen())
            writing = asyncio.create_task(self._write())
            is_ready.set()
            await self._done.wait()
            self._stopping = True
            await writing
            listening.cancel()
            await asyncio.wait([listening])
        source = getattr(self.runtime.repository, "_source", None)
        if isinstance(source, AsyncEngine):
            await source.dispose()
        elif isinstance(source, Engine):
            source.dispose()

    async def _write(self) -> None:
        handle = self.runtime.handle(Subject(self.name))
        n = 0
        while not self._stopping:
            n += 1
            await handle.update(Counter, n=n)
            self.written = n
            await asyncio.sleep(0.005)

    async def _listen(self) -> None:
        async with self.runtime.notifier.subscribe() as announcements:
            async for announcement in announcements:
                if isinstance(announcement, Announcement) and announcement.change is not None:
                    self.heard[announcement.subject.user] = announcement.change.assigned["counter"]["n"]
                    async with self._news:
                        self._news.notify_all()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(LIMIT)

    def hear_more(self, *names: str) -> None:
        """Wait until so many more writes of processes were heard of."""
        goal = {name: self.heard.get(name, 0) + WRITES for name in names}

        async def wait() -> None:
            async with self._news:
                await self._news.wait_for(
                    lambda: all(self.heard.get(name, 0) >= least for name, least in goal.items())
                )

        self._call(wait())

    def read(self, name: str) -> int:
        """Return what a process has stored."""
        return self._call(self.runtime.handle(Subject(name)).get(Counter)).n

    def end(self) -> None:
        """Close the runtime, and what of it is the host's, in order."""
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(LIMIT)


def recipe(kind: str, database: str, redis: str, prefix: str) -> Callable[[], Runtime]:
    """Return what makes a runtime, again and again, of the same arguments."""
    url = database if KINDS[kind] == "sqlite" else database.replace("postgresql", KINDS[kind], 1)
    parts = None
    if kind.startswith("the host's"):
        make_engine = create_async_engine if "Async" in kind else create_engine
        parts = Parts(repository=SqlAlchemyRepository(make_engine(url, pool_size=2)))
    if kind == "PostgreSQL as notifier":
        settings = Settings(database_url=url, notifier_url=database, redis_prefix=prefix)
    else:
        settings = Settings(database_url=url, redis_url=redis, redis_prefix=prefix)
    return lambda: Runtime([Counter], settings=settings, parts=parts, authenticates=False)


def be_child(name: str, make: Callable[[], Runtime], parents_end: int) -> None:
    """Work as the parent does, beside it and the other children, and go on when it has ended its own."""
    gc.collect()
    mine = Process(name, make)
    mine.hear_more(name, "parent")
    os.read(parents_end, 1)
    mine.hear_more(name)
    mine.end()
    tell(name=name, written=mine.written, heard=mine.heard)


def tell(**facts: Any) -> None:
    """Print a line of JSON."""
    sys.stdout.write(f"{json.dumps(facts)}\n")
    sys.stdout.flush()


def main() -> None:
    """Fork again and again in the midst of work, end that work, and see what the children have stored."""
    make = recipe(*sys.argv[1:])
    parent = Process("parent", make)
    os.register_at_fork(after_in_child=parent.runtime.abandon)
    parent.hear_more("parent")
    end_read, end_write = os.pipe()
    children = {}
    for number in range(CHILDREN):
        name = f"child {number}"
        pid = os.fork()
        if pid == 0:
            os.close(end_write)
            del parent
            be_child(name, make, end_read)
            sys.exit()  # as any program ends, its garbage collected
        children[name] = pid
        parent.hear_more("parent", name)
    parent.hear_more("parent")
    parent.end()
    os.close(end_write)
    statuses = [os.waitpid(pid, 0)[1] for pid in children.values()]
    reader = Process("parent", recipe(*sys.argv[1:]))  # an async engine stays with the loop that used it
    stored = {name: reader.read(name) for name in children}
    reader.end()
    tell(name="parent", statuses=statuses, stored=stored)


if __name__ == "__main__":
    main()

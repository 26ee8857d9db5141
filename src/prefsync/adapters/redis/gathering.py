"""Commands of concurrent requests, sent together."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from hiredis import pack_command
from redis.exceptions import ResponseError

from prefsync.adapters.redis.wire import RoleLostError, Wire
from prefsync.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from prefsync.resilience import Breaker

__all__ = ["GatheringClient"]

logger = logging.getLogger("prefsync")

# While this many batches are on their way, further commands wait and travel together in the next one. More of them
# mean smaller batches, and sending one costs more than the commands in it.
_IN_FLIGHT: Final = 2

# Connecting is several round trips: TCP, TLS, credentials, database.
_CONNECTING: Final = 2

# A packed command, and who waits for the reply.
_Command: TypeAlias = tuple[bytes, "asyncio.Future[Any]"]


class _Batch:
    """Commands that travel together."""

    __slots__ = ("answered", "commands", "deadline", "is_second_try")

    def __init__(self, commands: list[_Command], deadline: float, *, is_second_try: bool) -> None:
        self.commands = commands
        self.deadline = deadline
        self.is_second_try = is_second_try
        self.answered = 0


class GatheringClient:
    """Sends the commands of all tasks in one round of the event loop together, on one connection.

    A caller that is cancelled leaves no reply to the next one (the fault of CVE-2023-28858): replies belong to
    commands by their order on the connection, whoever still waits. Commands that block a connection (``BLPOP``,
    ``SUBSCRIBE``) do not belong here.

    Args:
        source: Whose kind of connection to make.
        breaker: Knows whether Redis answers.
        time_limit: Seconds that a round trip may take.
    """

    def __init__(self, source: Redis, breaker: Breaker, time_limit: float) -> None:
        self._make_connection: Callable[[], Any] = source.connection_pool.make_connection
        self._breaker = breaker
        self._time_limit = time_limit
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Command] = []
        self._again: list[_Command] = []
        self._travelling: deque[_Batch] = deque()
        self._scheduled = False
        self._wire: Wire | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def gather(self, *args: str | bytes | float) -> asyncio.Future[Any]:
        """Send a command with those of others; the reply can be awaited later.

        Raises:
            UnavailableError: When awaited, where Redis is out of reach.
            ResponseError: When awaited, where Redis answered with an error.
            TypeError: When awaited, where this cannot be written as a command; others are sent.
            UnicodeError: Likewise.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        try:
            self._breaker.check()
            self._waiting.append((pack_command(args), future))  # type: ignore[arg-type]  # declared for one word only
        except (UnavailableError, TypeError, UnicodeError) as error:
            future.set_exception(error)
            return future
        if not self._scheduled:
            self._scheduled = True
            # Not at once but a round later: what a request starts in tasks of its own travels along.
            self._loop.call_soon(self._loop.call_soon, self._depart)
        return future

    def _depart(self) -> None:
        self._scheduled = False
        if not self._waiting or len(self._travelling) >= _IN_FLIGHT:
            return
        if self._wire is None:
            if self._connecting is None:
                self._connecting = self._loop.create_task(self._connect())
            return
        commands, self._waiting = self._waiting, []
        self._send(self._wire, commands)

    def _send(self, wire: Wire, commands: list[_Command], *, is_second_try: bool = False) -> None:
        deadline = self._loop.time() + self._time_limit
        self._travelling.append(_Batch(commands, deadline, is_second_try=is_second_try))
        wire.write(b"".join([packed for packed, _ in commands]))
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._look_at_the_clock)

    def _answered(self, reply: Any) -> None:
        if not self._travelling:
            raise ResponseError("Redis answered what nobody had asked")
        batch = self._travelling[0]
        _, future = batch.commands[batch.answered]
        batch.answered += 1
        if not future.done():
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)
        if isinstance(reply, RoleLostError):
            self._breaker.failed()
            if self._wire is not None:
                self._wire.abort()
        elif batch.answered == len(batch.commands):
            self._travelling.popleft()
            self._breaker.succeeded()
            self._depart()

    def _look_at_the_clock(self) -> None:
        self._timer = None
        if not self._travelling:
            return
        deadline = self._travelling[0].deadline
        if self._loop.time() < deadline:
            self._timer = self._loop.call_at(deadline, self._look_at_the_clock)
            return
        # Not tried again: a server that is frozen would only be waited for twice.
        late, self._travelling = self._travelling, deque()
        self._fail([command for batch in late for command in _unanswered(batch)], TimeoutError())
        if self._wire is not None:
            self._wire.abort()

    def _lost(self, wire: Wire, reason: Exception | None) -> None:
        if wire is not self._wire:
            return
        self._wire = None
        batches, self._travelling = self._travelling, deque()
        # Once on a fresh connection, for one that a restarted server closed. What was done already may be done twice;
        # nothing that is sent here minds.
        self._again = [c for batch in batches if not batch.is_second_try for c in _unanswered(batch)]
        failed = [c for batch in batches if batch.is_second_try for c in _unanswered(batch)]
        if failed:
            self._fail(failed, reason or ConnectionResetError())
        if (self._again or self._waiting) and self._connecting is None:
            self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(_CONNECTING * self._time_limit):
                self._wire = await Wire.open(self._make_connection(), self._answered, self._lost)
        except Exception as error:  # noqa: BLE001  # whatever it is, those who wait have to hear of it
            logger.debug("no connection to Redis: %r", error)
            commands = self._again + self._waiting
            self._again, self._waiting = [], []
            self._fail(commands, error)
        else:
            again, self._again = self._again, []
            if again:
                self._send(self._wire, again, is_second_try=True)
            self._depart()
        finally:
            self._connecting = None

    def _fail(self, commands: list[_Command], reason: Exception) -> None:
        self._breaker.failed()
        for _, future in commands:
            if not future.done():
                error = UnavailableError(self._breaker.part)
                error.__cause__ = reason
                future.set_exception(error)

    async def close(self) -> None:
        """Wait for what is under way, and close the connection."""
        while self._connecting is not None or self._waiting or self._travelling:
            under_way = [*self._waiting, *(c for batch in self._travelling for c in _unanswered(batch))]
            pending = {future for _, future in under_way if not future.done()}
            if self._connecting is not None:
                await asyncio.wait({self._connecting})
            elif pending:
                await asyncio.wait(pending)
            else:
                await asyncio.sleep(0)  # all of it was cancelled; the replies are still to come
        if self._timer is not None:
            self._timer.cancel()
        if self._wire is not None:
            wire, self._wire = self._wire, None
            await wire.close()


def _unanswered(batch: _Batch) -> list[_Command]:
    return batch.commands[batch.answered :]

"""Tickets in the repository's database, for deployments without Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from sqlalchemy import text

from prefsync.adapters.sqlalchemy.operations import Statement
from prefsync.clock import Clock, SystemClock
from prefsync.ports import TicketStore

if TYPE_CHECKING:
    from prefsync.adapters.sqlalchemy.operations import Operation
    from prefsync.adapters.sqlalchemy.repository import SqlAlchemyRepository

__all__ = ["SqlAlchemyTickets"]

_PUT: Final = Statement(
    text("INSERT INTO preference_tickets (name, content, expires_at) VALUES (:name, :content, :expires)"),
    returns_rows=False,
)
_TAKE: Final = Statement(
    text("DELETE FROM preference_tickets WHERE name = :name RETURNING content, expires_at")
)
_LOOK: Final = Statement(text("SELECT content, expires_at FROM preference_tickets WHERE name = :name"))
_REMOVE: Final = Statement(text("DELETE FROM preference_tickets WHERE name = :name"), returns_rows=False)
_FORGET: Final = Statement(
    text("DELETE FROM preference_tickets WHERE expires_at <= :now"), returns_rows=False
)

# Those that nobody takes are removed by every so many-th put.
_PUTS_BETWEEN: Final = 50


class SqlAlchemyTickets(TicketStore):
    """Tickets that every process on the same database can take.

    Args:
        repository: Whose database; the host's to open and close.
        clock: For tests.
    """

    def __init__(self, repository: SqlAlchemyRepository, clock: Clock | None = None) -> None:
        self._repository = repository
        self._clock = clock or SystemClock()
        self._puts = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave the repository open: it is its owner's."""

    async def put(self, name: str, content: bytes, life: int) -> None:
        self._puts += 1
        await self._repository.run(self._put(name, content, self._clock.now(), life))

    async def take(self, name: str) -> bytes | None:
        return await self._repository.run(self._take(name, self._clock.now()))

    def _put(self, name: str, content: bytes, now: int, life: int) -> Operation[None]:
        if self._puts % _PUTS_BETWEEN == 1:
            yield _FORGET, {"now": now}
        yield _PUT, {"name": name, "content": content, "expires": now + life * 1_000}

    def _take(self, name: str, now: int) -> Operation[bytes | None]:
        if self._repository.returns_deleted:
            rows = yield _TAKE, {"name": name}
            found = bool(rows)
        else:
            rows = yield _LOOK, {"name": name}
            ((found,),) = yield _REMOVE, {"name": name}  # by one of those who saw it
        if not found:
            return None
        content, expires = rows[0]
        return bytes(content) if expires > now else None

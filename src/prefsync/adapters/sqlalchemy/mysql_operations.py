"""What the repository does on MySQL and MariaDB, where ids are bytes, and changed rows are not returned."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from prefsync.adapters.sqlalchemy.operations import KeyClaimedError, Operations, statement
from prefsync.adapters.sqlalchemy.parameters import document_parameters, key_of
from prefsync.document import Document
from prefsync.ports import CLOCKS_DIFFER, Outcome
from prefsync.strictjson import canonical, decode

if TYPE_CHECKING:
    from prefsync.adapters.sqlalchemy.operations import Operation
    from prefsync.document import Subject
    from prefsync.ports import Write

__all__ = ["MysqlOperations"]


class MysqlOperations(Operations):
    """The same on MySQL 8.0 and later, and MariaDB 10.6 and later."""

    # Text compared with bytes would be compared by the text's collation, which pads with spaces.
    id_read = "CONVERT({0} USING utf8mb4)"
    locked = " FOR UPDATE"
    returns_deleted = False
    or_nothing = " ON DUPLICATE KEY UPDATE id = id"

    revisions_read = (
        "SELECT CONVERT(p.tenant_id USING utf8mb4), CONVERT(p.user_id USING utf8mb4), p.revision"
        " FROM JSON_TABLE(:keys, '$[*]' COLUMNS"
        " (tenant VARCHAR(255) CHARACTER SET utf8mb4 PATH '$[0]',"
        " username VARCHAR(255) CHARACTER SET utf8mb4 PATH '$[1]')) AS k"
        " JOIN user_preferences AS p"
        " ON p.tenant_id = CAST(k.tenant AS BINARY) AND p.user_id = CAST(k.username AS BINARY)"
    )

    def __init__(self) -> None:
        super().__init__()
        subject = "tenant_id = :tenant AND user_id = :user"
        self._insert = statement(
            "INSERT INTO user_preferences"
            " (tenant_id, user_id, document, revision, revisions, created_at, updated_at)"
            " VALUES (:tenant, :user, :document, :revision, :revisions, :at, :at)",
            returns_rows=False,
        )
        # Waits for an erase that is under way.
        self._shared_floor = statement(
            "SELECT floor FROM preference_erasures WHERE id = 1 LOCK IN SHARE MODE"
        )
        # What another process committed meanwhile, whatever this transaction saw before.
        self._identity_now = statement(
            "SELECT name FROM preference_deployment WHERE id = 1 LOCK IN SHARE MODE"
        )
        self._newest = statement(
            f"SELECT revision, document, revisions FROM user_preferences WHERE {subject} FOR UPDATE"
        )
        self._erased = statement(f"SELECT revision FROM user_preferences WHERE {subject} FOR UPDATE")
        self._erase_row = statement(f"DELETE FROM user_preferences WHERE {subject}", returns_rows=False)
        self._raise_floor = statement(
            "INSERT INTO preference_erasures (id, floor) VALUES (1, :floor)"
            " ON DUPLICATE KEY UPDATE floor = GREATEST(floor, :floor)",
            returns_rows=False,
        )
        self._take_turn = statement(
            "UPDATE preference_relay SET turn_at = :now WHERE id = 1 AND (turn_at <= :before OR turn_at > :ahead)",
            returns_rows=False,
        )
        self._relayed_until = statement("SELECT relayed_until FROM preference_relay WHERE id = 1")

    def identity(self) -> Operation[str]:
        """See the port."""
        rows = yield self._identity, {}
        if not rows:
            yield self._name_it, {"name": uuid.uuid4().hex}
            rows = yield self._identity_now, {}
        return str(rows[0][0])

    def write(self, subject: Subject, write: Write) -> Operation[Outcome]:
        """See the port. A first write finds out by the key that it is not the first."""
        if write.change is None or write.expected.revision:
            return (yield from super().write(subject, write))
        rows = yield self._shared_floor, {}
        if rows and write.document.revision <= rows[0][0]:
            return Outcome.CONFLICT
        try:
            yield self._insert, document_parameters(subject, write)
        except KeyClaimedError:
            return Outcome.CONFLICT
        return (yield from self._log_and_claim(subject, write))

    def load_newest(self, subject: Subject) -> Operation[Document]:
        """See the base. A plain read would show what the transaction saw first."""
        rows = yield self._newest, key_of(subject)
        if not rows:
            return (yield from self.load(subject))
        ((revision, document, revisions),) = rows
        return Document(revision, canonical(decode(document)), decode(revisions))

    def erase(self, subject: Subject) -> Operation[int]:
        """See the port. Runs inside a transaction."""
        yield self._lock_floor, {}
        rows = yield self._erased, key_of(subject)
        yield self._erase_row, key_of(subject)
        return (yield from self._end_erase(subject, rows))

    def take_relay_turn(self, now: int, pause: int) -> Operation[int | None]:
        """See the port."""
        rows = yield self._turn, {}
        if not rows:
            yield self._begin_relaying, {}
        elif now - pause < rows[0][0] <= now + CLOCKS_DIFFER:
            return None
        ((taken,),) = yield self._take_turn, {"now": now, "before": now - pause, "ahead": now + CLOCKS_DIFFER}
        if not taken:
            return None
        rows = yield self._relayed_until, {}
        return int(rows[0][0])

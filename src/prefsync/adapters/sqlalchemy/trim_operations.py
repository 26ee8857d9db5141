"""How old changes and claimed keys are forgotten, so that a batch costs no more than its size, however long the log is.

The log is walked by its index on the time. What has to stay, the newest change of a subject that nobody has changed for
long, is passed and not looked at again until somebody begins anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from prefsync.adapters.sqlalchemy.operations import statement
from prefsync.adapters.sqlalchemy.parameters import key_of
from prefsync.strictjson import encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefsync.adapters.sqlalchemy.operations import Operation
    from prefsync.document import Subject

__all__ = ["MysqlTrimOperations", "PostgresTrimOperations", "TrimOperations", "Walked"]

_SUBJECT = "tenant_id = :tenant AND user_id = :user"


@dataclass(frozen=True, slots=True)
class Walked:
    """A part of the log that was looked at.

    Attributes:
        old: What can go: of each subject, by tenant and user, the changes up to a revision.
        cursor: Where the next part begins.
        has_more: Whether there is one.
    """

    old: Mapping[tuple[str, str], int]
    cursor: str
    has_more: bool


class TrimOperations:
    """The operations as SQLite runs them."""

    id_read: ClassVar = "{0}"

    # The keys travel as one JSON text, whatever their number. No change that was not its subject's newest is again.
    remove_changes: ClassVar = (
        "DELETE FROM preference_changes WHERE (tenant_id, user_id, revision) IN ("
        "SELECT c.tenant_id, c.user_id, c.revision FROM json_each(:old) AS k CROSS JOIN preference_changes AS c"
        " WHERE c.tenant_id = json_extract(k.value, '$[0]') AND c.user_id = json_extract(k.value, '$[1]')"
        " AND c.revision <= json_extract(k.value, '$[2]'))"
    )
    remove_requests: ClassVar = (
        "DELETE FROM preference_requests WHERE (tenant_id, user_id, idempotency_key) IN ("
        "SELECT tenant_id, user_id, idempotency_key FROM preference_requests WHERE at < :before"
        " ORDER BY at LIMIT :most)"
    )
    remove_surplus: ClassVar = (
        f"DELETE FROM preference_changes WHERE {_SUBJECT} AND revision <= ("
        f"SELECT revision FROM preference_changes WHERE {_SUBJECT} ORDER BY revision DESC LIMIT 1 OFFSET :keep)"
    )

    def __init__(self) -> None:
        tenant, user = map(self.id_read.format, ("looked.tenant_id", "looked.user_id"))
        self._look = statement(
            f"SELECT {tenant}, {user}, looked.revision, looked.at, EXISTS (SELECT 1 FROM preference_changes AS later"
            " WHERE later.tenant_id = looked.tenant_id AND later.user_id = looked.user_id"
            " AND later.revision > looked.revision) FROM ("
            "SELECT tenant_id, user_id, revision, at FROM preference_changes WHERE at >= :since AND at < :before"
            " ORDER BY at LIMIT :most OFFSET :passed) AS looked"
        )
        self._remove_changes = statement(self.remove_changes, returns_rows=False)
        self._remove_requests = statement(self.remove_requests, returns_rows=False)
        self._remove_surplus = statement(self.remove_surplus, returns_rows=False)

    def walk(self, cursor: str, before: int, limit: int) -> Operation[Walked]:
        """Look at no more than so many changes and tell which of them can go.

        Args:
            cursor: Where an earlier walk ended, or nothing: the oldest time that is not behind, and how many changes
                of that very ms are.
            before: Changes from then on, in ms since 1970, are young.
            limit: How many.
        """
        since, passed = map(int, cursor.split("+")) if cursor else (0, 0)
        rows = yield self._look, {"since": since, "before": before, "most": limit, "passed": passed}
        if not rows:
            return Walked({}, cursor, has_more=False)
        last: int = max(row[3] for row in rows)
        old: dict[tuple[str, str], int] = {}
        stay = passed if last == since else 0
        for tenant, user, revision, at, has_later in rows:
            # No change is younger than its revision says: the time finds them by an index, the revision decides.
            if has_later and revision < before:
                old[tenant, user] = max(revision, old.get((tenant, user), 0))
            elif at == last:
                stay += 1
        return Walked(old, f"{last}+{stay}", has_more=len(rows) >= limit)

    def forget_changes(self, old: Mapping[tuple[str, str], int]) -> Operation[int]:
        """Remove what a walk found, and with it whatever the same subject logged before: no hole is left."""
        # In one order, so that processes which do the same wait for one another, and not in a circle.
        keys: list[Any] = [[tenant, user, revision] for (tenant, user), revision in sorted(old.items())]
        rows = yield self._remove_changes, {"old": encode(keys).decode()}
        return int(rows[0][0])

    def forget_requests(self, before: int, limit: int) -> Operation[int]:
        """Remove the oldest claimed keys from before a time, at most so many."""
        rows = yield self._remove_requests, {"before": before, "most": limit}
        return int(rows[0][0])

    def trim_subject(self, subject: Subject, keep: int) -> Operation[int]:
        """See the port."""
        rows = yield self._remove_surplus, {**key_of(subject), "keep": max(1, keep)}
        return int(rows[0][0])


class PostgresTrimOperations(TrimOperations):
    """The same on PostgreSQL."""

    remove_changes = (
        "DELETE FROM preference_changes AS c USING jsonb_array_elements(CAST(:old AS jsonb)) AS k"
        " WHERE c.tenant_id = k->>0 AND c.user_id = k->>1 AND c.revision <= CAST(k->>2 AS bigint)"
    )


class MysqlTrimOperations(TrimOperations):
    """The same on MySQL 8.0 and later, and MariaDB 10.6 and later, where ids are bytes."""

    id_read = "CONVERT({0} USING utf8mb4)"

    # Joined in this order: by a subquery MariaDB would look at each row of the table.
    remove_changes = (
        "DELETE c FROM JSON_TABLE(:old, '$[*]' COLUMNS"
        " (tenant VARCHAR(255) CHARACTER SET utf8mb4 PATH '$[0]',"
        " username VARCHAR(255) CHARACTER SET utf8mb4 PATH '$[1]', revision BIGINT PATH '$[2]')) AS k"
        " STRAIGHT_JOIN preference_changes AS c"
        " ON c.tenant_id = CAST(k.tenant AS BINARY) AND c.user_id = CAST(k.username AS BINARY)"
        " AND c.revision <= k.revision"
    )
    remove_requests = (
        "DELETE FROM preference_requests WHERE at < :before"
        " ORDER BY at, tenant_id, user_id, idempotency_key LIMIT :most"
    )
    # In a derived table: neither server looks at the table that it deletes from.
    remove_surplus = (
        f"DELETE FROM preference_changes WHERE {_SUBJECT} AND revision <= (SELECT revision FROM ("
        f"SELECT revision FROM preference_changes WHERE {_SUBJECT}"
        " ORDER BY revision DESC LIMIT 1 OFFSET :keep) AS kept)"
    )

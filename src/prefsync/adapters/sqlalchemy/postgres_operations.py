"""What the repository does on PostgreSQL, where a write is one statement, and so are the writes of many subjects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from prefsync.adapters.sqlalchemy.operations import KeyClaimedError, Operations, statement
from prefsync.adapters.sqlalchemy.parameters import (
    change_parameters,
    document_parameters,
    key_of,
    request_parameters,
    writes_parameters,
)
from prefsync.ports import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefsync.adapters.sqlalchemy.operations import Operation, Statement
    from prefsync.document import Subject
    from prefsync.ports import Write

__all__ = ["MOST_WRITES_TOGETHER", "PostgresOperations"]

MOST_WRITES_TOGETHER: Final = 16
"""In one statement. Its rows are found by their place, one by one, only where they are far fewer than the table's."""


class PostgresOperations(Operations):
    """The same on PostgreSQL, where a write is one statement and one round trip."""

    json_read = "CAST({0} AS text)"
    json_write = "CAST({0} AS jsonb)"
    locked = " FOR UPDATE"
    writes_in_one_statement = True
    revisions_read = (
        "SELECT p.tenant_id, p.user_id, p.revision FROM jsonb_array_elements(CAST(:keys AS jsonb)) AS k"
        " JOIN user_preferences AS p ON p.tenant_id = k->>0 AND p.user_id = k->>1"
    )

    def __init__(self) -> None:
        super().__init__()
        update = (
            "UPDATE user_preferences SET document = CAST(:document AS jsonb), revision = :revision,"
            " revisions = CAST(:revisions AS jsonb), updated_at = :at"
            " WHERE tenant_id = :tenant AND user_id = :user AND revision = :expected RETURNING 1"
        )
        insert = (
            "INSERT INTO user_preferences"
            " (tenant_id, user_id, document, revision, revisions, created_at, updated_at)"
            " SELECT CAST(:tenant AS varchar), CAST(:user AS varchar), CAST(:document AS jsonb),"
            " CAST(:revision AS bigint), CAST(:revisions AS jsonb), CAST(:at AS bigint), CAST(:at AS bigint)"
            " WHERE CAST(:expected AS bigint) = 0 AND CAST(:revision AS bigint) >"
            # Read as of now and not as of the statement's start, after waiting for an erase that is under way.
            " COALESCE((SELECT floor FROM preference_erasures WHERE id = 1 FOR SHARE), 0)"
            " ON CONFLICT (tenant_id, user_id) DO NOTHING RETURNING 1"
        )
        log = (
            ", logged AS (INSERT INTO preference_changes"
            " (tenant_id, user_id, revision, previous, patch, replaced, origin, at)"
            " SELECT CAST(:tenant AS varchar), CAST(:user AS varchar), CAST(:revision AS bigint),"
            " CAST(:previous AS bigint), CAST(:patch AS jsonb), CAST(:replaced AS jsonb),"
            " CAST(:origin AS varchar), CAST(:at AS bigint) FROM written)"
        )
        # No ON CONFLICT: a key that is taken fails the whole statement, and with it the write.
        claim = (
            ", claimed AS (INSERT INTO preference_requests (tenant_id, user_id, idempotency_key, digest, answer, at)"
            " SELECT CAST(:tenant AS varchar), CAST(:user AS varchar), CAST(:key AS varchar),"
            " CAST(:digest AS bytea), CAST(:answer AS bytea), CAST(:at AS bigint) FROM written)"
        )
        end = " SELECT 1 FROM written"
        # Locked, so that no other write comes between the look at the revision and the claim.
        same = (
            "SELECT 1 WHERE COALESCE((SELECT revision FROM user_preferences"
            " WHERE tenant_id = :tenant AND user_id = :user FOR UPDATE), 0) = CAST(:expected AS bigint)"
        )
        self._write_statements: Final = {
            (is_first, has_key): statement(
                f"WITH written AS ({insert if is_first else update}){log}{claim if has_key else ''}{end}"
            )
            for is_first in (False, True)
            for has_key in (False, True)
        }
        self._claim_statement: Final = statement(f"WITH written AS ({same}){claim}{end}")
        self._together: Final = {
            (has_key, waits): _storing_together(has_key=has_key, waits=waits)
            for has_key in (False, True)
            for waits in (False, True)
        }

    def write(self, subject: Subject, write: Write) -> Operation[Outcome]:
        """See the port. One statement, atomic by itself."""
        parameters: dict[str, Any]
        if write.earlier:
            return (yield from self._write_several(subject, write))
        if write.change is None:
            store = self._claim_statement
            parameters = {**key_of(subject), "expected": write.expected.revision}
        else:
            store = self._write_statements[write.expected.revision == 0, write.request is not None]
            parameters = {**document_parameters(subject, write), **change_parameters(subject, write.change)}
        if write.request is not None:
            parameters |= request_parameters(subject, write.request)
        try:
            rows = yield store, parameters
        except KeyClaimedError:
            return Outcome.KEY_CLAIMED
        return Outcome.WRITTEN if rows else Outcome.CONFLICT

    def _write_several(self, subject: Subject, write: Write) -> Operation[Outcome]:
        has_key = write.request is not None
        rows = yield self._together[has_key, True], writes_parameters([(subject, write)])
        if rows:
            return Outcome.WRITTEN
        if write.request is not None and (yield from self.request(subject, write.request.key)):
            return Outcome.KEY_CLAIMED
        return Outcome.CONFLICT

    def write_together(self, writes: Sequence[tuple[Subject, Write]]) -> Operation[set[int]]:
        """Store changes of different subjects that have something stored; one statement, atomic by itself.

        Returns:
            Which of them are written. Of the others nothing is known: each has to be tried by itself.
        """
        has_key = any(write.request is not None for _, write in writes)
        rows = yield self._together[has_key, False], writes_parameters(writes)
        return {number for (number,) in rows}


def _storing_together(*, has_key: bool, waits: bool) -> Statement:
    """Return what stores several writes, given as one JSON text, and returns the numbers of those that it stored.

    Args:
        has_key: Whether there are idempotency keys among them.
        waits: Whether to wait for a row that somebody else has locked; else it is left out. Batches of two processes
            that waited for one another's rows would be a deadlock, and one subject's slow writer would hold up
            everybody else's.
    """
    given = (
        "given AS (SELECT * FROM jsonb_to_recordset(CAST(:writes AS jsonb)) AS given ("
        "number integer, tenant varchar, username varchar, expected bigint, revision bigint, at bigint,"
        " document jsonb, revisions jsonb, changes jsonb,"
        f" key varchar, digest varchar, answer varchar, claimed_at bigint) LIMIT {MOST_WRITES_TOGETHER})"
    )
    # In a subquery, so that the rows are looked up one by one.
    held = (
        ", held AS (SELECT given.*, here.place FROM given CROSS JOIN LATERAL ("
        "SELECT ctid AS place FROM user_preferences WHERE tenant_id = given.tenant"
        " AND user_id = given.username AND revision = given.expected FOR UPDATE"
        f"{'' if waits else ' SKIP LOCKED'}) AS here)"
    )
    # No other transaction that knows of these subjects gets here while their rows are locked.
    claimed = (
        ", claimed AS (INSERT INTO preference_requests (tenant_id, user_id, idempotency_key, digest, answer, at)"
        " SELECT tenant, username, key, decode(digest, 'base64'), decode(answer, 'base64'), claimed_at FROM held"
        " WHERE key IS NOT NULL"
        # What the update below does not see either, because of somebody who changed a row and not its revision.
        " AND EXISTS (SELECT 1 FROM user_preferences AS seen WHERE seen.ctid = held.place)"
        " ON CONFLICT DO NOTHING RETURNING tenant_id, user_id)"
    )
    if_claimed = (
        " AND (held.key IS NULL OR (held.tenant, held.username) IN (SELECT tenant_id, user_id FROM claimed))"
    )
    update = (
        ", written AS (UPDATE user_preferences AS stored SET document = held.document,"
        " revision = held.revision, revisions = held.revisions, updated_at = held.at"
        " FROM held WHERE stored.ctid = held.place"
        f"{if_claimed if has_key else ''} RETURNING held.*)"
    )
    log = (
        ", logged AS (INSERT INTO preference_changes"
        " (tenant_id, user_id, revision, previous, patch, replaced, origin, at)"
        " SELECT written.tenant, written.username, made.* FROM written CROSS JOIN LATERAL"
        " jsonb_to_recordset(written.changes) AS made (revision bigint, previous bigint,"
        " patch jsonb, replaced jsonb, origin varchar, at bigint))"
    )
    return statement(
        f"WITH {given}{held}{claimed if has_key else ''}{update}{log} SELECT number FROM written"
    )

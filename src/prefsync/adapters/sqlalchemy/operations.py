"""What the repository does, each operation written once, without a driver and without ``await``.

An operation is a generator: it yields a statement and is sent its rows. Whoever runs it decides on what: a
connection of SQLAlchemy's, in a worker thread or under an async engine, the driver's own prepared
connection, or one in the middle of the host's transaction.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias, TypeVar

from sqlalchemy import TextClause, text

from prefsync.adapters.sqlalchemy.parameters import (
    change_parameters,
    document_parameters,
    key_of,
    request_parameters,
)
from prefsync.document import Change, Document, Subject
from prefsync.ports import CLOCKS_DIFFER, ChangeLog, LoggedRevision, Outcome, RequestRecord, Write
from prefsync.strictjson import canonical, decode, encode

__all__ = ["KeyClaimedError", "Operation", "Statement", "operations_for"]

T = TypeVar("T")

Rows: TypeAlias = Sequence[Sequence[Any]]


@dataclass(frozen=True, eq=False, slots=True)
class Statement:
    """One SQL statement with named parameters.

    Attributes:
        sql: With ``:name`` for each parameter.
        returns_rows: Whether there are rows to fetch; else one row with the number of rows changed is sent back.
    """

    sql: TextClause
    returns_rows: bool = True


Step: TypeAlias = tuple[Statement, Mapping[str, Any]]
Operation: TypeAlias = Generator[Step, Rows, T]


class KeyClaimedError(Exception):
    """A unique key was violated: whoever runs the statement says it by this, whatever its driver calls it."""


def _statement(sql: str, *, returns_rows: bool = True) -> Statement:
    return Statement(text(sql), returns_rows)


# The relay is told of a subject again and again as long as its last change is young, and keys are hashes.
_subject = lru_cache(maxsize=10_000)(Subject)


class Operations:
    """The operations as SQLite and any other database with standard SQL runs them."""

    # How a JSON column is read and written as text.
    json_read = "{0}"
    json_write = "{0}"

    revisions_read = (
        "SELECT p.tenant_id, p.user_id, p.revision FROM json_each(:keys) AS k JOIN user_preferences AS p"
        " ON p.tenant_id = json_extract(k.value, '$[0]') AND p.user_id = json_extract(k.value, '$[1]')"
    )

    # Whether a write is one statement that is atomic by itself; else it needs a transaction around it.
    writes_in_one_statement = False

    def __init__(self) -> None:
        read, write = self.json_read.format, self.json_write.format
        subject = "tenant_id = :tenant AND user_id = :user"
        # Always one row, and the floor with it: a subject without preferences costs no second question.
        self._load = _statement(
            f"SELECT p.revision, {read('p.document')}, {read('p.revisions')},"
            " (SELECT floor FROM preference_erasures WHERE id = 1) FROM (SELECT 1 AS one) AS always"
            " LEFT JOIN user_preferences AS p ON p.tenant_id = :tenant AND p.user_id = :user"
        )
        self._floor = _statement("SELECT floor FROM preference_erasures WHERE id = 1")
        self._insert = _statement(
            "INSERT INTO user_preferences"
            " (tenant_id, user_id, document, revision, revisions, created_at, updated_at)"
            f" SELECT :tenant, :user, {write(':document')}, :revision, {write(':revisions')}, :at, :at"
            " WHERE :revision > COALESCE((SELECT floor FROM preference_erasures WHERE id = 1), 0)"
            " ON CONFLICT (tenant_id, user_id) DO NOTHING",
            returns_rows=False,
        )
        self._update = _statement(
            f"UPDATE user_preferences SET document = {write(':document')}, revision = :revision,"
            f" revisions = {write(':revisions')}, updated_at = :at WHERE {subject} AND revision = :expected",
            returns_rows=False,
        )
        self._log = _statement(
            "INSERT INTO preference_changes"
            " (tenant_id, user_id, revision, previous, patch, replaced, origin, at) VALUES"
            f" (:tenant, :user, :revision, :previous, {write(':patch')}, {write(':replaced')}, :origin, :at)",
            returns_rows=False,
        )
        self._claim = _statement(
            "INSERT INTO preference_requests (tenant_id, user_id, idempotency_key, digest, answer, at)"
            " VALUES (:tenant, :user, :key, :digest, :answer, :at)",
            returns_rows=False,
        )
        self._revision = _statement(f"SELECT revision FROM user_preferences WHERE {subject}")
        self._request = _statement(
            f"SELECT digest, answer, at FROM preference_requests WHERE {subject} AND idempotency_key = :key"
        )
        self._changes = _statement(
            "SELECT p.revision AS newest, c.revision, c.previous, c.at, c.origin, "
            f"{read('c.patch')}, {read('c.replaced')}"
            " FROM user_preferences AS p LEFT JOIN preference_changes AS c"
            " ON c.tenant_id = p.tenant_id AND c.user_id = p.user_id AND c.revision > :since"
            " WHERE p.tenant_id = :tenant AND p.user_id = :user ORDER BY c.revision LIMIT :most"
        )
        # First of all, so that no first write comes between what an erase looks at: it waits for the row to be free.
        self._lock_floor = _statement(
            "UPDATE preference_erasures SET floor = floor WHERE id = 1", returns_rows=False
        )
        self._erase_row = _statement(f"DELETE FROM user_preferences WHERE {subject} RETURNING revision")
        self._erase_rest = [
            _statement(f"DELETE FROM {table} WHERE {subject}", returns_rows=False)
            for table in ("preference_changes", "preference_requests")
        ]
        self._raise_floor = _statement(
            "INSERT INTO preference_erasures (id, floor) VALUES (1, :floor)"
            " ON CONFLICT (id) DO UPDATE SET floor ="
            " CASE WHEN preference_erasures.floor < excluded.floor THEN excluded.floor"
            " ELSE preference_erasures.floor END",
            returns_rows=False,
        )
        # The newest change of a subject is the one whose revision the document has.
        self._trim_changes = _statement(
            "DELETE FROM preference_changes WHERE (tenant_id, user_id, revision) IN ("
            "SELECT c.tenant_id, c.user_id, c.revision FROM preference_changes AS c"
            # No change is younger than its revision says: the time finds them by an index, the revision decides.
            " WHERE c.at < :before AND c.revision < :before"
            " AND c.revision <> (SELECT p.revision FROM user_preferences AS p"
            " WHERE p.tenant_id = c.tenant_id AND p.user_id = c.user_id) ORDER BY c.revision LIMIT :most)",
            returns_rows=False,
        )
        self._trim_requests = _statement(
            "DELETE FROM preference_requests WHERE (tenant_id, user_id, idempotency_key) IN ("
            "SELECT tenant_id, user_id, idempotency_key FROM preference_requests WHERE at < :before"
            " ORDER BY at LIMIT :most)",
            returns_rows=False,
        )
        self._trim_subject = _statement(
            f"DELETE FROM preference_changes WHERE {subject} AND revision <= ("
            f"SELECT revision FROM preference_changes WHERE {subject} ORDER BY revision DESC LIMIT 1 OFFSET :keep)",
            returns_rows=False,
        )
        # All of the last ms that fits, so that a reader who goes on after it misses nothing.
        self._logged_since = _statement(
            "WITH newest AS (SELECT tenant_id, user_id, MAX(revision) AS revision, MAX(at) AS at"
            " FROM preference_changes WHERE at >= :since GROUP BY tenant_id, user_id)"
            " SELECT tenant_id, user_id, revision, at FROM newest"
            " WHERE at <= COALESCE((SELECT at FROM newest ORDER BY at LIMIT 1 OFFSET :most), :forever) ORDER BY at"
        )
        self._revisions = _statement(self.revisions_read)
        self._begin_relaying = _statement(
            "INSERT INTO preference_relay (id, turn_at, relayed_until) VALUES (1, 0, 0) ON CONFLICT (id) DO NOTHING",
            returns_rows=False,
        )
        self._take_turn = _statement(
            "UPDATE preference_relay SET turn_at = :now WHERE id = 1 AND (turn_at <= :before OR turn_at > :ahead)"
            " RETURNING relayed_until"
        )
        self._turn = _statement("SELECT turn_at FROM preference_relay WHERE id = 1")
        self._end_turn = _statement(
            "UPDATE preference_relay SET relayed_until = :until WHERE id = 1 AND relayed_until < :until",
            returns_rows=False,
        )
        self._identity = _statement("SELECT name FROM preference_deployment WHERE id = 1")
        self._name_it = _statement(
            "INSERT INTO preference_deployment (id, name) VALUES (1, :name) ON CONFLICT (id) DO NOTHING",
            returns_rows=False,
        )
        self._ping = _statement("SELECT 1")

    def identity(self) -> Operation[str]:
        """See the port. The first who asks gives the name."""
        rows = yield self._identity, {}
        if not rows:
            yield self._name_it, {"name": uuid.uuid4().hex}
            rows = yield self._identity, {}
        return str(rows[0][0])

    def load(self, subject: Subject) -> Operation[Document]:
        """See the port."""
        ((revision, document, revisions, floor),) = yield self._load, key_of(subject)
        if revision is None:
            return Document(floor=floor or 0)
        return Document(revision, canonical(decode(document)), decode(revisions))

    def write(self, subject: Subject, write: Write) -> Operation[Outcome]:
        """See the port. Runs inside a transaction that is rolled back for any outcome but ``WRITTEN``."""
        if write.change is None:
            rows = yield self._revision, key_of(subject)
            if (rows[0][0] if rows else 0) != write.expected.revision:
                return Outcome.CONFLICT
        else:
            statement = self._update if write.expected.revision else self._insert
            rows = yield statement, document_parameters(subject, write)
            if rows[0][0] != 1:
                return Outcome.CONFLICT
            yield self._log, change_parameters(subject, write.change)
        if write.request is not None:
            try:
                yield self._claim, request_parameters(subject, write.request)
            except KeyClaimedError:
                return Outcome.KEY_CLAIMED
        return Outcome.WRITTEN

    def changes(self, subject: Subject, since: int, limit: int) -> Operation[ChangeLog]:
        """See the port."""
        rows = yield self._changes, {**key_of(subject), "since": since, "most": limit + 1}
        newest = rows[0][0] if rows else 0
        found = [row[1:] for row in rows if row[1] is not None]
        if since != newest and (not found or found[0][1] != since):
            return ChangeLog(newest, complete=False)
        changes = tuple(_change(*row) for row in found[:limit])
        return ChangeLog(newest, changes, has_more=len(found) > limit)

    def request(self, subject: Subject, key: str) -> Operation[RequestRecord | None]:
        """See the port."""
        rows = yield self._request, {**key_of(subject), "key": key}
        if not rows:
            return None
        digest, answer, at = rows[0]
        return RequestRecord(key, bytes(digest), bytes(answer), at)

    def erase(self, subject: Subject) -> Operation[int]:
        """See the port. Runs inside a transaction."""
        yield self._lock_floor, {}
        rows = yield self._erase_row, key_of(subject)
        for statement in self._erase_rest:
            yield statement, key_of(subject)
        if rows:
            yield self._raise_floor, {"floor": rows[0][0] + 1}
        rows = yield self._floor, {}
        return rows[0][0] if rows else 0

    def trim(self, changes_before: int, requests_before: int, limit: int) -> Operation[int]:
        """See the port."""
        changes = yield self._trim_changes, {"before": changes_before, "most": limit}
        requests = yield self._trim_requests, {"before": requests_before, "most": limit}
        return int(changes[0][0]) + int(requests[0][0])

    def trim_subject(self, subject: Subject, keep: int) -> Operation[int]:
        """See the port."""
        rows = yield self._trim_subject, {**key_of(subject), "keep": max(1, keep)}
        return int(rows[0][0])

    def logged_since(self, at: int, limit: int) -> Operation[list[LoggedRevision]]:
        """See the port."""
        rows = yield self._logged_since, {"since": at, "most": limit - 1, "forever": 2**62}
        return [
            LoggedRevision(_subject(user, tenant or None), revision, when)
            for tenant, user, revision, when in rows
        ]

    def revisions(self, subjects: Sequence[Subject]) -> Operation[list[int]]:
        """See the port. The subjects travel as one JSON text, whatever their number."""
        keys = encode([[subject.tenant or "", subject.user] for subject in subjects]).decode()
        rows = yield self._revisions, {"keys": keys}
        found = {(tenant, user): revision for tenant, user, revision in rows}
        return [found.get((subject.tenant or "", subject.user), 0) for subject in subjects]

    def take_relay_turn(self, now: int, pause: int) -> Operation[int | None]:
        """See the port. Looks before it writes: it is seldom anybody's turn."""
        rows = yield self._turn, {}
        if not rows:
            yield self._begin_relaying, {}
        elif now - pause < rows[0][0] <= now + CLOCKS_DIFFER:
            return None
        rows = yield self._take_turn, {"now": now, "before": now - pause, "ahead": now + CLOCKS_DIFFER}
        return int(rows[0][0]) if rows else None

    def end_relay_turn(self, relayed_until: int) -> Operation[None]:
        """See the port."""
        yield self._end_turn, {"until": relayed_until}

    def ping(self) -> Operation[None]:
        """See the port."""
        yield self._ping, {}


class PostgresOperations(Operations):
    """The same on PostgreSQL, where a write is one statement and one round trip."""

    json_read = "CAST({0} AS text)"
    json_write = "CAST({0} AS jsonb)"
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
            (is_first, has_key): _statement(
                f"WITH written AS ({insert if is_first else update}){log}{claim if has_key else ''}{end}"
            )
            for is_first in (False, True)
            for has_key in (False, True)
        }
        self._claim_statement: Final = _statement(f"WITH written AS ({same}){claim}{end}")

    def write(self, subject: Subject, write: Write) -> Operation[Outcome]:
        """See the port. One statement, atomic by itself."""
        parameters: dict[str, Any]
        if write.change is None:
            statement = self._claim_statement
            parameters = {**key_of(subject), "expected": write.expected.revision}
        else:
            statement = self._write_statements[write.expected.revision == 0, write.request is not None]
            parameters = {**document_parameters(subject, write), **change_parameters(subject, write.change)}
        if write.request is not None:
            parameters |= request_parameters(subject, write.request)
        try:
            rows = yield statement, parameters
        except KeyClaimedError:
            return Outcome.KEY_CLAIMED
        return Outcome.WRITTEN if rows else Outcome.CONFLICT


def _change(revision: int, previous: int, at: int, origin: str | None, patch: str, replaced: str) -> Change:
    parts = canonical(decode(patch))
    return Change(
        revision, previous, at, origin, parts["assigned"], parts["unset"], canonical(decode(replaced))
    )


def operations_for(dialect: str) -> Operations:
    """Return the operations for a dialect of SQLAlchemy's.

    Raises:
        KeyError: There are none.
    """
    return {"postgresql": PostgresOperations, "sqlite": Operations}[dialect]()

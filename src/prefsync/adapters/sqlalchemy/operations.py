"""What the repository does, each operation written once, without a driver and without ``await``.

An operation is a generator: it yields a statement and is sent its rows. Whoever runs it decides on what: a
connection of SQLAlchemy's, in a worker thread or under an async engine, the driver's own prepared
connection, or one in the middle of the host's transaction.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import TextClause, text

from prefsync.adapters.sqlalchemy.parameters import (
    change_parameters,
    document_parameters,
    key_of,
    request_parameters,
)
from prefsync.document import Change, Document, Subject
from prefsync.ports import (
    CLOCKS_DIFFER,
    ChangeLog,
    Committed,
    Kept,
    LoggedRevision,
    Outcome,
    RequestRecord,
    Write,
)
from prefsync.strictjson import canonical, decode, encode

__all__ = ["KeyClaimedError", "Operation", "Operations", "Statement", "moved", "statement"]

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


def statement(sql: str, *, returns_rows: bool = True) -> Statement:
    """Return a statement by its SQL."""
    return Statement(text(sql), returns_rows)


# The relay is told of a subject again and again as long as its last change is young, and keys are hashes.
_subject = lru_cache(maxsize=10_000)(Subject)


class Operations:
    """The operations as SQLite and any other database with standard SQL runs them."""

    # How a JSON column is read and written as text.
    json_read = "{0}"
    json_write = "{0}"

    # How an id is read as text.
    id_read = "{0}"

    # How an INSERT of a row with an id ends that leaves one that is there as it is.
    or_nothing = " ON CONFLICT (id) DO NOTHING"

    revisions_read = (
        "SELECT p.tenant_id, p.user_id, p.revision FROM json_each(:keys) AS k JOIN user_preferences AS p"
        " ON p.tenant_id = json_extract(k.value, '$[0]') AND p.user_id = json_extract(k.value, '$[1]')"
    )

    # Whether rows that are deleted can be returned.
    returns_deleted = True

    # What makes a reader wait for a row's writer, and see what that one leaves; SQLite has one writer anyway.
    locked = ""

    # Whether a write is one statement that is atomic by itself; else it needs a transaction around it.
    writes_in_one_statement = False

    def __init__(self) -> None:
        read, write = self.json_read.format, self.json_write.format
        subject = "tenant_id = :tenant AND user_id = :user"
        # Always one row, and the floor with it: a subject without preferences costs no second question.
        self._load = statement(
            f"SELECT p.revision, {read('p.document')}, {read('p.revisions')},"
            " (SELECT floor FROM preference_erasures WHERE id = 1) FROM (SELECT 1 AS one) AS always"
            " LEFT JOIN user_preferences AS p ON p.tenant_id = :tenant AND p.user_id = :user"
        )
        self._floor = statement("SELECT floor FROM preference_erasures WHERE id = 1")
        self._insert = statement(
            "INSERT INTO user_preferences"
            " (tenant_id, user_id, document, revision, revisions, created_at, updated_at)"
            f" SELECT :tenant, :user, {write(':document')}, :revision, {write(':revisions')}, :at, :at"
            " WHERE :revision > COALESCE((SELECT floor FROM preference_erasures WHERE id = 1), 0)"
            " ON CONFLICT (tenant_id, user_id) DO NOTHING",
            returns_rows=False,
        )
        self._update = statement(
            f"UPDATE user_preferences SET document = {write(':document')}, revision = :revision,"
            f" revisions = {write(':revisions')}, updated_at = :at WHERE {subject} AND revision = :expected",
            returns_rows=False,
        )
        self._log = statement(
            "INSERT INTO preference_changes"
            " (tenant_id, user_id, revision, previous, patch, replaced, origin, at) VALUES"
            f" (:tenant, :user, :revision, :previous, {write(':patch')}, {write(':replaced')}, :origin, :at)",
            returns_rows=False,
        )
        self._claim = statement(
            "INSERT INTO preference_requests (tenant_id, user_id, idempotency_key, digest, answer, at)"
            " VALUES (:tenant, :user, :key, :digest, :answer, :at)",
            returns_rows=False,
        )
        self._revision = statement(f"SELECT revision FROM user_preferences WHERE {subject}")
        self._request = statement(
            f"SELECT digest, answer, at FROM preference_requests WHERE {subject} AND idempotency_key = :key"
        )
        self._changes = statement(
            "SELECT p.revision AS newest, c.revision, c.previous, c.at, c.origin, "
            f"{read('c.patch')}, {read('c.replaced')}"
            " FROM user_preferences AS p LEFT JOIN preference_changes AS c"
            " ON c.tenant_id = p.tenant_id AND c.user_id = p.user_id AND c.revision > :since"
            " WHERE p.tenant_id = :tenant AND p.user_id = :user ORDER BY c.revision LIMIT :most"
        )
        self._kept = [
            statement(
                f"SELECT revision, {read('document')}, {read('revisions')}, created_at, updated_at"
                f" FROM user_preferences WHERE {subject}"
            ),
            statement(
                f"SELECT revision, previous, at, origin, {read('patch')}, {read('replaced')}"
                f" FROM preference_changes WHERE {subject} ORDER BY revision"
            ),
            statement(
                f"SELECT {self.id_read.format('idempotency_key')}, digest, answer, at"
                f" FROM preference_requests WHERE {subject} ORDER BY at, idempotency_key"
            ),
        ]
        # First of all, so that no first write comes between what an erase looks at: it waits for the row to be free.
        self._lock_floor = statement(
            "UPDATE preference_erasures SET floor = floor WHERE id = 1", returns_rows=False
        )
        self._erase_row = statement(f"DELETE FROM user_preferences WHERE {subject} RETURNING revision")
        self._erase_rest = [
            statement(f"DELETE FROM {table} WHERE {subject}", returns_rows=False)
            for table in ("preference_changes", "preference_requests")
        ]
        self._raise_floor = statement(
            "INSERT INTO preference_erasures (id, floor) VALUES (1, :floor)"
            " ON CONFLICT (id) DO UPDATE SET floor ="
            " CASE WHEN preference_erasures.floor < excluded.floor THEN excluded.floor"
            " ELSE preference_erasures.floor END",
            returns_rows=False,
        )
        # All of the last ms that fits, so that a reader who goes on after it misses nothing.
        self._logged_since = statement(
            "WITH newest AS (SELECT tenant_id, user_id, MAX(revision) AS revision, MAX(at) AS at"
            " FROM preference_changes WHERE at >= :since GROUP BY tenant_id, user_id)"
            f" SELECT {self.id_read.format('tenant_id')}, {self.id_read.format('user_id')}, revision, at FROM newest"
            " WHERE at <= COALESCE((SELECT at FROM newest ORDER BY at LIMIT 1 OFFSET :most), :forever) ORDER BY at"
        )
        self._revisions = statement(self.revisions_read)
        self._begin_relaying = statement(
            f"INSERT INTO preference_relay (id, turn_at, relayed_until) VALUES (1, 0, 0){self.or_nothing}",
            returns_rows=False,
        )
        self._take_turn = statement(
            "UPDATE preference_relay SET turn_at = :now WHERE id = 1 AND (turn_at <= :before OR turn_at > :ahead)"
            " RETURNING relayed_until"
        )
        self._turn = statement("SELECT turn_at FROM preference_relay WHERE id = 1")
        self._end_turn = statement(
            "UPDATE preference_relay SET relayed_until = :until WHERE id = 1 AND relayed_until < :until",
            returns_rows=False,
        )
        self._identity = statement("SELECT name FROM preference_deployment WHERE id = 1")
        self._name_it = statement(
            f"INSERT INTO preference_deployment (id, name) VALUES (1, :name){self.or_nothing}",
            returns_rows=False,
        )
        self._ping = statement("SELECT 1")
        self._lock = statement(f"SELECT 1 FROM user_preferences WHERE {subject}{self.locked}")
        self._move_document = statement(
            f"UPDATE user_preferences SET revision = :revision, revisions = {write(':revisions')}, updated_at = :at"
            f" WHERE {subject} AND revision = :expected",
            returns_rows=False,
        )
        self._move_change = statement(
            "UPDATE preference_changes SET revision = :revision, previous = :previous, at = :at"
            f" WHERE {subject} AND revision = :expected",
            returns_rows=False,
        )

    def identity(self) -> Operation[str]:
        """See the port. The first who asks gives the name."""
        rows = yield self._identity, {}
        if not rows:
            yield self._name_it, {"name": uuid.uuid4().hex}
            rows = yield self._identity, {}
        return str(rows[0][0])

    def known_identity(self) -> Operation[str | None]:
        """Return the name of the database, if it was given one. Writes nothing."""
        rows = yield self._identity, {}
        return str(rows[0][0]) if rows else None

    def load_newest(self, subject: Subject) -> Operation[Document]:
        """Return what is stored now, for a write in a longer transaction that lost a race."""
        yield self._lock, key_of(subject)
        return (yield from self.load(subject))

    def move(self, before: Committed, after: Committed) -> Operation[None]:
        """Give what this transaction has written later revisions and times."""
        document, key = after.document, key_of(before.subject)
        given = {"revision": document.revision, "revisions": document.revisions_json.decode()}
        at, expected = after.changes[-1].at, before.document.revision
        yield self._move_document, {**key, **given, "at": at, "expected": expected}
        # The last one first: no two of them may have one revision on the way.
        for old, new in zip(reversed(before.changes), reversed(after.changes), strict=True):
            given = {"revision": new.revision, "previous": new.previous}
            yield self._move_change, {**key, **given, "at": new.at, "expected": old.revision}

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
            store = self._update if write.expected.revision else self._insert
            rows = yield store, document_parameters(subject, write)
            if rows[0][0] != 1:
                return Outcome.CONFLICT
        return (yield from self._log_and_claim(subject, write))

    def _log_and_claim(self, subject: Subject, write: Write) -> Operation[Outcome]:
        for change in write.changes:
            yield self._log, change_parameters(subject, change)
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

    def kept(self, subject: Subject) -> Operation[Kept]:
        """See the port."""
        row, log, claims = self._kept
        rows = yield row, key_of(subject)
        changes = yield log, key_of(subject)
        requests = yield claims, key_of(subject)
        kept = Kept(
            Document(),
            tuple(_change(*row) for row in changes),
            tuple(
                RequestRecord(key, bytes(digest), bytes(answer), at) for key, digest, answer, at in requests
            ),
        )
        if not rows:
            return kept
        revision, document, revisions, created_at, updated_at = rows[0]
        return replace(
            kept,
            document=Document(revision, canonical(decode(document)), decode(revisions)),
            created_at=created_at,
            updated_at=updated_at,
        )

    def erase(self, subject: Subject) -> Operation[int]:
        """See the port. Runs inside a transaction."""
        yield self._lock_floor, {}
        rows = yield self._erase_row, key_of(subject)
        return (yield from self._end_erase(subject, rows))

    def _end_erase(self, subject: Subject, rows: Rows) -> Operation[int]:
        for rest in self._erase_rest:
            yield rest, key_of(subject)
        if rows:
            yield self._raise_floor, {"floor": rows[0][0] + 1}
        rows = yield self._floor, {}
        return rows[0][0] if rows else 0

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


def moved(one: Committed, by: int) -> Committed:
    """Return what a transaction wrote as if it had written it so many ms later."""
    own = {change.revision for change in one.changes}
    changes = tuple(
        replace(
            change,
            revision=change.revision + by,
            previous=change.previous + by if change.previous in own else change.previous,
            at=change.at + by,
        )
        for change in one.changes
    )
    document = one.document
    revisions = {
        name: revision + by if revision in own else revision for name, revision in document.revisions.items()
    }
    later = Document(document.revision + by, document.values, revisions, document.floor)
    return Committed(one.subject, later, changes)


def _change(revision: int, previous: int, at: int, origin: str | None, patch: str, replaced: str) -> Change:
    parts = canonical(decode(patch))
    return Change(
        revision, previous, at, origin, parts["assigned"], parts["unset"], canonical(decode(replaced))
    )

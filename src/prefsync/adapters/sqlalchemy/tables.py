"""The tables, for every database alike (design.md section 3)."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text
from sqlalchemy.dialects.mysql import LONGBLOB, LONGTEXT, VARBINARY
from sqlalchemy.dialects.postgresql import JSONB

__all__ = ["changes", "deployment", "erasures", "metadata", "preferences", "relay", "requests"]

# Documents travel as text and are parsed by prefsync: every driver then returns the same, whatever its JSON codec is.
# On MySQL and MariaDB as text too: MariaDB has no other, and MySQL's JSON sorts members and rounds numbers.
_JSON: Final = Text().with_variant(JSONB(), "postgresql").with_variant(LONGTEXT(), "mysql", "mariadb")

# The ids as they are compared: byte for byte. PostgreSQL's default collation may hold for sorting only, but an index
# that need not consult a locale is also smaller and cannot be corrupted by an upgrade of the locale's library.
# On MySQL and MariaDB as bytes, four for each character at most: no collation that both have tells "a" from "a ".
_ID: Final = (
    String(255)
    .with_variant(String(255, collation="C"), "postgresql")
    .with_variant(VARBINARY(4 * 255), "mysql", "mariadb")
)
_IDEMPOTENCY_KEY: Final = (
    String(128)
    .with_variant(String(128, collation="C"), "postgresql")
    .with_variant(VARBINARY(4 * 128), "mysql", "mariadb")
)

_DIGEST: Final = LargeBinary(32).with_variant(VARBINARY(32), "mysql", "mariadb")
_BYTES: Final = LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")

# Transactions, and all of Unicode compared by code point, whatever the server's defaults are.
_ON_MYSQL: Final[dict[str, Any]] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}

metadata = MetaData(
    naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(table_name)s_%(column_0_N_name)s"},
)
"""Of all tables: for a host whose own Alembic history is to make them."""


def _key() -> tuple[Column[Any], Column[Any]]:
    # The empty string stands for "no tenant": part of a primary key cannot be null, and no tenant has that id.
    return Column("tenant_id", _ID, primary_key=True), Column("user_id", _ID, primary_key=True)


preferences = Table(
    "user_preferences",
    metadata,
    *_key(),
    Column(
        "document", _JSON, nullable=False, comment="stored values by namespace and field; never a default"
    ),
    Column("revision", BigInteger, nullable=False),
    Column("revisions", _JSON, nullable=False, comment="of each namespace"),
    Column("created_at", BigInteger, nullable=False, comment="ms since 1970"),
    Column("updated_at", BigInteger, nullable=False, comment="ms since 1970"),
    **_ON_MYSQL,
)

changes = Table(
    "preference_changes",
    metadata,
    *_key(),
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("previous", BigInteger, nullable=False),
    Column("patch", _JSON, nullable=False, comment='{"assigned": ..., "unset": ...} in stored values'),
    Column("replaced", _JSON, nullable=False, comment="what was stored there before"),
    Column("origin", String(64)),
    Column("at", BigInteger, nullable=False, comment="ms since 1970"),
    Index(None, "at"),
    **_ON_MYSQL,
)

requests = Table(
    "preference_requests",
    metadata,
    *_key(),
    Column("idempotency_key", _IDEMPOTENCY_KEY, primary_key=True),
    Column("digest", _DIGEST, nullable=False),
    Column("answer", _BYTES, nullable=False),
    Column("at", BigInteger, nullable=False, comment="ms since 1970"),
    Index(None, "at"),
    **_ON_MYSQL,
)

deployment = Table(
    "preference_deployment",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False, comment="always 1"),
    Column(
        "name", String(32), nullable=False, comment="names this database in the cache and on the notifier"
    ),
    **_ON_MYSQL,
)

relay = Table(
    "preference_relay",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False, comment="always 1"),
    Column("turn_at", BigInteger, nullable=False, comment="when a process last took its turn, ms since 1970"),
    Column("relayed_until", BigInteger, nullable=False, comment="up to when the log was relayed"),
    **_ON_MYSQL,
)

erasures = Table(
    "preference_erasures",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False, comment="always 1"),
    Column("floor", BigInteger, nullable=False, comment="no erased subject ever had a higher revision"),
    **_ON_MYSQL,
)

tickets = Table(
    "preference_tickets",
    metadata,
    Column("name", String(64), primary_key=True, comment="digest of the ticket"),
    Column("content", _BYTES, nullable=False),
    Column("expires_at", BigInteger, nullable=False, comment="ms since 1970"),
    Index(None, "expires_at"),
    **_ON_MYSQL,
)

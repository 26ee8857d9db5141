"""The first tables: documents, their changes, claimed requests, and one row each about the deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, PrimaryKeyConstraint, String, Text
from sqlalchemy.dialects.mysql import LONGBLOB, LONGTEXT, VARBINARY
from sqlalchemy.dialects.postgresql import JSONB

if TYPE_CHECKING:
    from alembic.operations import Operations

revision = "1_0001"
down_revision = None

JSON = Text().with_variant(JSONB(), "postgresql").with_variant(LONGTEXT(), "mysql", "mariadb")
ID = (
    String(255)
    .with_variant(String(255, collation="C"), "postgresql")
    .with_variant(VARBINARY(4 * 255), "mysql", "mariadb")
)
KEY = (
    String(128)
    .with_variant(String(128, collation="C"), "postgresql")
    .with_variant(VARBINARY(4 * 128), "mysql", "mariadb")
)
DIGEST = LargeBinary(32).with_variant(VARBINARY(32), "mysql", "mariadb")
BYTES = LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")
ON_MYSQL: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}


def upgrade(op: Operations) -> None:
    """Create them."""
    op.create_table(
        "user_preferences",
        *_subject(),
        Column(
            "document", JSON, nullable=False, comment="stored values by namespace and field; never a default"
        ),
        Column("revision", BigInteger, nullable=False),
        Column("revisions", JSON, nullable=False, comment="of each namespace"),
        Column("created_at", BigInteger, nullable=False, comment="ms since 1970"),
        Column("updated_at", BigInteger, nullable=False, comment="ms since 1970"),
        PrimaryKeyConstraint("tenant_id", "user_id", name="pk_user_preferences"),
        **ON_MYSQL,
    )
    op.create_table(
        "preference_changes",
        *_subject(),
        Column("revision", BigInteger, autoincrement=False, nullable=False),
        Column("previous", BigInteger, nullable=False),
        Column("patch", JSON, nullable=False, comment='{"assigned": ..., "unset": ...} in stored values'),
        Column("replaced", JSON, nullable=False, comment="what was stored there before"),
        Column("origin", String(64)),
        Column("at", BigInteger, nullable=False, comment="ms since 1970"),
        PrimaryKeyConstraint("tenant_id", "user_id", "revision", name="pk_preference_changes"),
        **ON_MYSQL,
    )
    op.create_index("ix_preference_changes_at", "preference_changes", ["at"])
    op.create_table(
        "preference_requests",
        *_subject(),
        Column("idempotency_key", KEY, nullable=False),
        Column("digest", DIGEST, nullable=False),
        Column("answer", BYTES, nullable=False),
        Column("at", BigInteger, nullable=False, comment="ms since 1970"),
        PrimaryKeyConstraint("tenant_id", "user_id", "idempotency_key", name="pk_preference_requests"),
        **ON_MYSQL,
    )
    op.create_index("ix_preference_requests_at", "preference_requests", ["at"])
    op.create_table(
        "preference_deployment",
        _one(),
        Column(
            "name", String(32), nullable=False, comment="names this database in the cache and on the notifier"
        ),
        PrimaryKeyConstraint("id", name="pk_preference_deployment"),
        **ON_MYSQL,
    )
    op.create_table(
        "preference_relay",
        _one(),
        Column(
            "turn_at", BigInteger, nullable=False, comment="when a process last took its turn, ms since 1970"
        ),
        Column("relayed_until", BigInteger, nullable=False, comment="up to when the log was relayed"),
        PrimaryKeyConstraint("id", name="pk_preference_relay"),
        **ON_MYSQL,
    )
    erasures = op.create_table(
        "preference_erasures",
        _one(),
        Column("floor", BigInteger, nullable=False, comment="no erased subject ever had a higher revision"),
        PrimaryKeyConstraint("id", name="pk_preference_erasures"),
        **ON_MYSQL,
    )
    op.bulk_insert(erasures, [{"id": 1, "floor": 0}])


def _subject() -> list[Column[Any]]:
    return [Column("tenant_id", ID, nullable=False), Column("user_id", ID, nullable=False)]


def _one() -> Column[int]:
    return Column("id", Integer, autoincrement=False, nullable=False, comment="always 1")

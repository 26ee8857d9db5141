"""One-time tickets for streams, in deployments without Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Column, LargeBinary, PrimaryKeyConstraint, String
from sqlalchemy.dialects.mysql import LONGBLOB

if TYPE_CHECKING:
    from alembic.operations import Operations

revision = "1_0002"
down_revision = "1_0001"

BYTES = LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")
ON_MYSQL: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}


def upgrade(op: Operations) -> None:
    """Create their table."""
    op.create_table(
        "preference_tickets",
        Column("name", String(64), nullable=False, comment="digest of the ticket"),
        Column("content", BYTES, nullable=False),
        Column("expires_at", BigInteger, nullable=False, comment="ms since 1970"),
        PrimaryKeyConstraint("name", name="pk_preference_tickets"),
        **ON_MYSQL,
    )
    op.create_index("ix_preference_tickets_expires_at", "preference_tickets", ["expires_at"])

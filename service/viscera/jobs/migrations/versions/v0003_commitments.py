"""Requests for storage commitment that a destination has not answered yet."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_COUNTER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make `commitments`."""
    op.create_table(
        "commitments",
        sa.Column("seq", _COUNTER, autoincrement=True, nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("delivery_id", sa.String(length=64), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["delivery_id"], ["deliveries.id"]),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("transaction_uid"),
    )
    op.create_index("commitments_by_delivery", "commitments", ["delivery_id"])

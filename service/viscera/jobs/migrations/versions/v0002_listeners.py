"""Open associations are kept for each listener process: several share a port."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make `listeners`; what is open now is told anew by each listener at its start."""
    op.create_table(
        "listeners",
        sa.Column("principal", sa.String(length=64), nullable=False),
        sa.Column("listener", sa.String(length=160), nullable=False),
        sa.Column("associations_open", sa.Integer(), server_default="0", nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("noted_boot", sa.String(length=36), server_default="", nullable=False),
        sa.Column("noted_uptime_s", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("principal", "listener"),
    )
    op.drop_column("peers", "associations_open")

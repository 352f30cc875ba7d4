"""Several series may be one job, a channel each: of an upload, or of a study."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Uploads of before hold one series."""
    op.add_column(
        "submissions", sa.Column("channels", sa.JSON(), server_default="[]", nullable=False)
    )
    op.create_index("submissions_by_study", "submissions", ["study_uid", "principal"])

"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite counts rows by itself only in a column of type INTEGER.
_COUNTER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make every table."""
    _events()
    _peers()
    _submissions()
    _choices()
    _instances()
    _jobs()
    _results()
    _submission_jobs()
    _deliveries()


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("sequence", _COUNTER, autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=True),
        sa.Column("submission_id", sa.String(length=64), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("stage", sa.String(length=32), server_default="", nullable=False),
        sa.Column("progress", sa.Float(), server_default="0", nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_index("events_by_job", "events", ["job_id", "sequence"], unique=False)
    op.create_index("events_by_submission", "events", ["submission_id"], unique=False)


def _peers() -> None:
    op.create_table(
        "peers",
        sa.Column("principal", sa.String(length=64), nullable=False),
        sa.Column("associations_open", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_arrival_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_arrival_boot", sa.String(length=36), server_default="", nullable=False),
        sa.Column("last_arrival_uptime_s", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("principal"),
    )


def _submissions() -> None:
    op.create_table(
        "submissions",
        sa.Column("seq", _COUNTER, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("origin", sa.String(length=8), nullable=False),
        sa.Column("principal", sa.String(length=64), nullable=False),
        sa.Column("series_uid", sa.String(length=64), server_default="", nullable=False),
        sa.Column("study_uid", sa.String(length=64), server_default="", nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("model", sa.String(length=128), server_default="", nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("refusal", sa.Text(), server_default="", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("claimed_through", _COUNTER, server_default="0", nullable=False),
        sa.Column("close_after_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("close_after_boot", sa.String(length=36), server_default="", nullable=False),
        sa.Column("close_after_uptime_s", sa.Float(), nullable=True),
        sa.Column("not_before_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before_boot", sa.String(length=36), server_default="", nullable=False),
        sa.Column("not_before_uptime_s", sa.Float(), nullable=True),
        sa.Column("owner", sa.String(length=160), server_default="", nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_boot", sa.String(length=36), server_default="", nullable=False),
        sa.Column("lease_uptime_s", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index(
        "submissions_by_series", "submissions", ["series_uid", "principal", "version"], unique=False
    )
    op.create_index("submissions_by_state", "submissions", ["state"], unique=False)
    op.create_index(
        "submissions_one_open",
        "submissions",
        ["principal", "series_uid"],
        unique=True,
        sqlite_where=sa.text("state = 'open' AND origin = 'dicom'"),
        postgresql_where=sa.text("state = 'open' AND origin = 'dicom'"),
    )


def _choices() -> None:
    op.create_table(
        "choices",
        sa.Column("seq", _COUNTER, autoincrement=True, nullable=False),
        sa.Column("submission_id", sa.String(length=64), nullable=False),
        sa.Column("what", sa.String(length=16), nullable=False),
        sa.Column("because", sa.Text(), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["submission_id"],
            ["submissions.id"],
        ),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("choices_by_submission", "choices", ["submission_id"], unique=False)


def _instances() -> None:
    op.create_table(
        "instances",
        sa.Column("seq", _COUNTER, autoincrement=True, nullable=False),
        sa.Column("path", sa.String(length=400), nullable=False),
        sa.Column("submission_id", sa.String(length=64), nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("series_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("position_lps", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("expected_count", sa.Integer(), nullable=True),
        sa.Column("arrived_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("arrived_boot", sa.String(length=36), server_default="", nullable=False),
        sa.Column("arrived_uptime_s", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["submission_id"],
            ["submissions.id"],
        ),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("path"),
    )
    op.create_index("instances_by_submission", "instances", ["submission_id"], unique=False)


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("seq", _COUNTER, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("submission_id", sa.String(length=64), nullable=False),
        sa.Column("origin", sa.String(length=8), nullable=False),
        sa.Column("principal", sa.String(length=64), nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("series_uid", sa.String(length=64), nullable=False),
        sa.Column("submission_version", sa.Integer(), nullable=False),
        sa.Column("stacks", sa.JSON(), nullable=False),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("parent_id", sa.String(length=64), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stage", sa.String(length=32), server_default="", nullable=False),
        sa.Column("progress", sa.Float(), server_default="0", nullable=False),
        sa.Column("engine", sa.String(length=64), server_default="", nullable=False),
        sa.Column("error_reason", sa.String(length=64), server_default="", nullable=False),
        sa.Column("error_message", sa.Text(), server_default="", nullable=False),
        sa.Column("decision", sa.String(length=16), server_default="", nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("committed_fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("forgotten_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before_boot", sa.String(length=36), server_default="", nullable=False),
        sa.Column("not_before_uptime_s", sa.Float(), nullable=True),
        sa.Column("owner", sa.String(length=160), server_default="", nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_boot", sa.String(length=36), server_default="", nullable=False),
        sa.Column("lease_uptime_s", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["submission_id"],
            ["submissions.id"],
        ),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("jobs_by_series", "jobs", ["series_uid", "principal"], unique=False)
    op.create_index("jobs_by_state", "jobs", ["state", "seq"], unique=False)
    op.create_index(
        "jobs_one_per_key",
        "jobs",
        ["origin", "principal", "key"],
        unique=True,
        sqlite_where=sa.text("state IN ('queued', 'running', 'done') AND forgotten_at IS NULL"),
        postgresql_where=sa.text("state IN ('queued', 'running', 'done') AND forgotten_at IS NULL"),
    )


def _results() -> None:
    op.create_table(
        "results",
        sa.Column("seq", _COUNTER, autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("path", sa.String(length=400), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_uid", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.id"],
        ),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("job_id", "path", name="results_once"),
    )


def _submission_jobs() -> None:
    op.create_table(
        "submission_jobs",
        sa.Column("submission_id", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.id"],
        ),
        sa.ForeignKeyConstraint(
            ["submission_id"],
            ["submissions.id"],
        ),
        sa.PrimaryKeyConstraint("submission_id", "job_id"),
    )
    op.create_index("submission_jobs_by_job", "submission_jobs", ["job_id"], unique=False)


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("seq", _COUNTER, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("result_seq", _COUNTER, nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), server_default="", nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before_boot", sa.String(length=36), server_default="", nullable=False),
        sa.Column("not_before_uptime_s", sa.Float(), nullable=True),
        sa.Column("owner", sa.String(length=160), server_default="", nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_boot", sa.String(length=36), server_default="", nullable=False),
        sa.Column("lease_uptime_s", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.id"],
        ),
        sa.ForeignKeyConstraint(
            ["result_seq"],
            ["results.seq"],
        ),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("deliveries_by_job", "deliveries", ["job_id", "destination"], unique=False)
    op.create_index("deliveries_by_state", "deliveries", ["state", "destination"], unique=False)

"""The tables as they are now; `migrations/` holds how they came to be.

A column set made by :func:`_moment` is one `moments.Moment`; one made by :func:`_lease` says who
works on the row, until when, and with which fencing token.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC in Python; SQLite keeps it as text without a zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times: they would be compared with UTC ones."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive time; the store takes aware UTC only")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Say again that it is UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# SQLite counts rows by itself only in a column of type INTEGER.
_Counter = BigInteger().with_variant(Integer, "sqlite")
metadata = MetaData()


def _moment(name: str) -> tuple[Column[datetime], Column[str], Column[float]]:
    return (
        Column(f"{name}_at", UtcDateTime),
        Column(f"{name}_boot", String(36), nullable=False, server_default=""),
        Column(f"{name}_uptime_s", Float),
    )


def _lease() -> tuple[Column[str] | Column[int] | Column[datetime] | Column[float], ...]:
    return (
        Column("owner", String(160), nullable=False, server_default=""),
        Column("fence", Integer, nullable=False, server_default="0"),
        *_moment("lease"),
    )


def _counted(name: str = "seq") -> Column[int]:
    return Column(name, _Counter, primary_key=True, autoincrement=True)


peers = Table(
    "peers",
    metadata,
    Column("principal", String(64), primary_key=True),
    *_moment("last_arrival"),
)

listeners = Table(
    "listeners",
    metadata,
    Column("principal", String(64), primary_key=True),
    # An owner as `owners.this_process` names it.
    Column("listener", String(160), primary_key=True),
    Column("associations_open", Integer, nullable=False, server_default="0"),
    *_moment("noted"),
)

submissions = Table(
    "submissions",
    metadata,
    _counted(),
    Column("id", String(64), nullable=False, unique=True),
    Column("origin", String(8), nullable=False),
    Column("principal", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False, server_default=""),
    Column("study_uid", String(64), nullable=False, server_default=""),
    Column("version", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("model", String(128), nullable=False, server_default=""),
    # [channel, series UID] of an upload that holds several series.
    Column("channels", JSON, nullable=False, server_default="[]"),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("closed_at", UtcDateTime),
    Column("refusal", Text, nullable=False, server_default=""),
    Column("attempts", Integer, nullable=False, server_default="0"),
    # Instances with a larger seq came after the claim and belong to the next version.
    Column("claimed_through", _Counter, nullable=False, server_default="0"),
    *_moment("close_after"),
    *_moment("not_before"),
    *_lease(),
    # One version at a time takes instances; uploads are told apart by their id alone.
    Index(
        "submissions_one_open",
        "principal",
        "series_uid",
        unique=True,
        sqlite_where=text("state = 'open' AND origin = 'dicom'"),
        postgresql_where=text("state = 'open' AND origin = 'dicom'"),
    ),
    Index("submissions_by_series", "series_uid", "principal", "version"),
    Index("submissions_by_state", "state"),
    Index("submissions_by_study", "study_uid", "principal"),
)

instances = Table(
    "instances",
    metadata,
    _counted(),
    Column("path", String(400), nullable=False, unique=True),
    Column("submission_id", ForeignKey("submissions.id"), nullable=False),
    Column("study_uid", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("sop_uid", String(64), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("position_lps", JSON(none_as_null=True)),
    Column("expected_count", Integer),
    *_moment("arrived"),
    Index("instances_by_submission", "submission_id"),
)

choices = Table(
    "choices",
    metadata,
    _counted(),
    Column("submission_id", ForeignKey("submissions.id"), nullable=False),
    Column("what", String(16), nullable=False),
    Column("because", Text, nullable=False),
    Column("frames", Integer, nullable=False),
    Column("model", String(128), nullable=False),
    Column("reason", String(64), nullable=False),
    Index("choices_by_submission", "submission_id"),
)

jobs = Table(
    "jobs",
    metadata,
    _counted(),
    Column("id", String(64), nullable=False, unique=True),
    Column("key", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("submission_id", ForeignKey("submissions.id"), nullable=False),
    Column("origin", String(8), nullable=False),
    Column("principal", String(64), nullable=False),
    Column("study_uid", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("submission_version", Integer, nullable=False),
    Column("stacks", JSON, nullable=False),
    Column("model", String(128), nullable=False),
    Column("state", String(16), nullable=False),
    Column("parent_id", String(64)),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("stage", String(32), nullable=False, server_default=""),
    Column("progress", Float, nullable=False, server_default="0"),
    Column("engine", String(64), nullable=False, server_default=""),
    Column("error_reason", String(64), nullable=False, server_default=""),
    Column("error_message", Text, nullable=False, server_default=""),
    Column("decision", String(16), nullable=False, server_default=""),
    Column("reasons", JSON, nullable=False),
    # The fence whose folder holds the results; 0: none is committed.
    Column("committed_fence", Integer, nullable=False, server_default="0"),
    Column("forgotten_at", UtcDateTime),
    *_moment("not_before"),
    *_lease(),
    # One answer to one question: what is asked again gets the job that is there.
    Index(
        "jobs_one_per_key",
        "origin",
        "principal",
        "key",
        unique=True,
        sqlite_where=text("state IN ('queued', 'running', 'done') AND forgotten_at IS NULL"),
        postgresql_where=text("state IN ('queued', 'running', 'done') AND forgotten_at IS NULL"),
    ),
    Index("jobs_by_state", "state", "seq"),
    Index("jobs_by_series", "series_uid", "principal"),
)

submission_jobs = Table(
    "submission_jobs",
    metadata,
    Column("submission_id", ForeignKey("submissions.id"), primary_key=True),
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Index("submission_jobs_by_job", "job_id"),
)

results = Table(
    "results",
    metadata,
    _counted(),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("path", String(400), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("sop_uid", String(64), nullable=False),
    UniqueConstraint("job_id", "path", name="results_once"),
)

deliveries = Table(
    "deliveries",
    metadata,
    _counted(),
    Column("id", String(64), nullable=False, unique=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("result_seq", ForeignKey("results.seq"), nullable=False),
    Column("destination", String(64), nullable=False),
    # 0 goes first: a report comes after the segmentation that it refers to.
    Column("rank", Integer, nullable=False),
    Column("state", String(24), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("last_error", Text, nullable=False, server_default=""),
    Column("ended_at", UtcDateTime),
    *_moment("not_before"),
    *_lease(),
    Index("deliveries_by_state", "state", "destination"),
    Index("deliveries_by_job", "job_id", "destination"),
)

# Of deliveries that are sent or await their commitment; what has ended has none.
commitments = Table(
    "commitments",
    metadata,
    _counted(),
    Column("transaction_uid", String(64), nullable=False, unique=True),
    Column("delivery_id", ForeignKey("deliveries.id"), nullable=False),
    Column("asked_at", UtcDateTime, nullable=False),
    Index("commitments_by_delivery", "delivery_id"),
)

events = Table(
    "events",
    metadata,
    _counted("sequence"),
    Column("job_id", String(64)),
    Column("submission_id", String(64)),
    Column("at", UtcDateTime, nullable=False),
    Column("state", String(16), nullable=False),
    Column("stage", String(32), nullable=False, server_default=""),
    Column("progress", Float, nullable=False, server_default="0"),
    Column("message", Text, nullable=False, server_default=""),
    Index("events_by_job", "job_id", "sequence"),
    Index("events_by_submission", "submission_id"),
)

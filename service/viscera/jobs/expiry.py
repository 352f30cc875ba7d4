"""What the retention sweep asks: what may go, and that it has gone."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, exists, or_, select, update

from viscera.domain.jobs import JobState
from viscera.domain.sources import SubmissionState
from viscera.jobs import schema
from viscera.jobs.addressing import UNDER_WAY
from viscera.jobs.gather import of_series
from viscera.jobs.part import Part, finds

_UNFINISHED = (JobState.QUEUED, JobState.RUNNING)


class Expiry(Part):
    """Implements `protocol.RetentionStore`."""

    def expired_submissions(self, keep_days: float) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Ids and spool paths of submissions whose jobs all ended `keep_days` ago.

        A version's instances belong to every later one, so a series goes as a whole.
        """
        cutoff = self._time.now().at - timedelta(days=keep_days)
        table, c = schema.submissions, schema.instances.c
        holding = exists().where(c.submission_id == table.c.id)
        query = select(table).where(holding, table.c.closed_at < cutoff).order_by(table.c.seq)
        with self._db.read() as connection:
            return tuple(
                (row.id, _own_paths(connection, row))
                for row in connection.execute(query).all()
                if not _alive(connection, row, cutoff)
            )

    def forget_instances(self, submission_id: str) -> None:
        """Its files are gone."""
        with self._db.write() as connection:
            c = schema.instances.c
            connection.execute(delete(schema.instances).where(c.submission_id == submission_id))

    def expired_jobs(self, keep_days: float) -> tuple[str, ...]:
        """Final jobs with nothing left to deliver."""
        c, d = schema.jobs.c, schema.deliveries.c
        cutoff = self._time.now().at - timedelta(days=keep_days)
        query = select(c.id).where(
            c.state.not_in(_UNFINISHED),
            c.finished_at < cutoff,
            c.forgotten_at.is_(None),
            ~exists().where(d.job_id == c.id, d.state.in_(UNDER_WAY)),
        )
        with self._db.read() as connection:
            return tuple(connection.scalars(query.order_by(c.seq)))

    def forget_job(self, job_id: str) -> None:
        """Its results are gone; the row stays as a tombstone without results."""
        with self._db.write() as connection:
            for table in (schema.deliveries, schema.results, schema.events):
                connection.execute(delete(table).where(table.c.job_id == job_id))
            connection.execute(
                update(schema.jobs)
                .where(schema.jobs.c.id == job_id, schema.jobs.c.state.not_in(_UNFINISHED))
                .values(forgotten_at=self._time.now().at, stacks=[], committed_fence=0)
            )

    def is_abandoned(self, upload: str) -> bool:
        """Whether it was refused before it was closed."""
        c = schema.submissions.c
        query = select(c.id).where(
            c.id == upload, c.state == SubmissionState.REFUSED, c.close_after_at.is_(None)
        )
        with self._db.read() as connection:
            return finds(connection, query)

    def live_fences(self, job_id: str) -> frozenset[int] | None:
        """Which of a job's result folders count or may count yet; None: no such job."""
        c = schema.jobs.c
        query = select(c.state, c.fence, c.committed_fence).where(c.id == job_id)
        with self._db.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        running = {row.fence} if row.state == JobState.RUNNING else set()
        return frozenset(running | {row.committed_fence} - {0})

    def hold_reserve(self) -> None:
        """Hold the database's disk reserve again where it was used up."""
        if self._db.reserve is not None:
            self._db.reserve.hold()


def _own_paths(connection: Connection, submission: Row[Any]) -> tuple[str, ...]:
    c = schema.instances.c
    query = select(c.path).where(c.submission_id == submission.id).order_by(c.seq)
    return tuple(connection.scalars(query))


def _alive(connection: Connection, submission: Row[Any], cutoff: datetime) -> bool:
    """Whether a version of the series is open or young, or one of its jobs is."""
    s, j, links = schema.submissions.c, schema.jobs.c, schema.submission_jobs.c
    group = select(s.id).where(of_series(submission))
    young = or_(s.closed_at.is_(None), s.closed_at >= cutoff)
    versions = select(s.id).where(of_series(submission), young)
    jobs = (
        select(j.id)
        .join(schema.submission_jobs, links.job_id == j.id)
        .where(links.submission_id.in_(group), _job_is_young(cutoff))
    )
    return any(finds(connection, query) for query in (versions, jobs))


def _job_is_young(cutoff: datetime) -> ColumnElement[bool]:
    j = schema.jobs.c
    return or_(j.state.in_(_UNFINISHED), j.finished_at.is_(None), j.finished_at >= cutoff)

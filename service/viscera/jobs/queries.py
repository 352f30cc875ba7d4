"""What doors and the command line ask."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select, update
from sqlalchemy.exc import IntegrityError

from viscera.domain.jobs import Address, Choice, Delivery, Job, JobState
from viscera.domain.sources import Submission
from viscera.errors import InvalidRequest, JobNotFound
from viscera.jobs import leases, moments, schema
from viscera.jobs.addressing import address
from viscera.jobs.gather import paths_of
from viscera.jobs.part import Part, job_event
from viscera.jobs.protocol import JobEvent
from viscera.jobs.retrying import is_lost, submission_with_instances
from viscera.jobs.rows import delivery_of, job_of, jobs_of, submission_of

_UNFINISHED = (JobState.QUEUED, JobState.RUNNING)
_LAST_SEQUENCE = 2**63 - 1  # as far as databases count; clients count further
_RETRYABLE = (JobState.REFUSED, JobState.FAILED, JobState.CANCELLED)


class Queries(Part):
    """Implements `protocol.QueryStore`. `principal` None sees everything."""

    def get_job(self, job_id: str, principal: str | None = None) -> Job:
        """Raises `JobNotFound`."""
        with self._db.read() as connection:
            return job_of(connection, _find(connection, job_id, principal))

    def list_jobs(
        self,
        principal: str | None = None,
        states: Sequence[JobState] = (),
        submission_id: str = "",
        series_uid: str = "",
        limit: int | None = 100,
        before_id: str = "",
    ) -> tuple[Job, ...]:
        """Newest first; `limit` None gives all.

        A submission's jobs include those that answered its question before it.
        """
        c = schema.jobs.c
        query = select(schema.jobs).order_by(c.seq.desc()).limit(limit)
        if principal is not None:
            query = query.where(c.principal == principal)
        if states:
            query = query.where(c.state.in_(states))
        if series_uid:
            query = query.where(c.series_uid == series_uid)
        if submission_id:
            query = query.where(c.id.in_(_jobs_of_submission(submission_id)))
        if before_id:
            before = select(c.seq).where(c.id == before_id).scalar_subquery()
            query = query.where(c.seq < before)
        with self._db.read() as connection:
            return jobs_of(connection, connection.execute(query).all())

    def get_submission(self, submission_id: str, principal: str | None = None) -> Submission:
        """Raises `JobNotFound`."""
        c = schema.submissions.c
        with self._db.read() as connection:
            query = select(schema.submissions).where(c.id == submission_id)
            row = connection.execute(query).one_or_none()
            if row is None or principal not in (None, row.principal):
                raise JobNotFound(f"no submission {submission_id}; it may be another principal's")
            return submission_of(row, paths_of(connection, row), self._spool_root)

    def events(self, job_id: str, after: int = 0) -> tuple[JobEvent, ...]:
        """What happened to a job after sequence number `after`."""
        c = schema.events.c
        after = min(after, _LAST_SEQUENCE)
        query = select(schema.events).where(c.job_id == job_id, c.sequence > after)
        with self._db.read() as connection:
            rows = connection.execute(query.order_by(c.sequence)).all()
        return tuple(_event_of(row) for row in rows)

    def cancel(self, job_id: str, principal: str | None = None) -> Job:
        """Cancel what is not final; the worker notices at its next report."""
        with self._db.write() as connection:
            _find(connection, job_id, principal)
            now = self._time.now()
            cancelled = connection.execute(
                update(schema.jobs)
                .where(schema.jobs.c.id == job_id, schema.jobs.c.state.in_(_UNFINISHED))
                .values(state=JobState.CANCELLED, finished_at=now.at, **leases.drop())
            )
            if cancelled.rowcount:
                job_event(connection, now, job_id, JobState.CANCELLED)
            return job_of(connection, _find(connection, job_id, principal))

    def retry(self, job_id: str, principal: str | None = None) -> Job:
        """Queue a refused, failed or cancelled job again with a fresh count of attempts.

        A done one too if files of its result are lost. Its results and deliveries stay: the new
        commit replaces the files, and what was delivered is not delivered again. One that is
        queued or running already stays as it is.

        Raises
        ------
        JobNotFound
            If there is none, or it is another principal's.
        InvalidRequest
            If it is done and its files are whole, superseded, answered by a later job, or its
            instances have expired.
        StorageUnavailable
            If the results' file system does not answer.
        """
        lost = self._lost_commit(job_id, principal)
        try:
            with self._db.write() as connection:
                return self._retry(connection, _find(connection, job_id, principal), lost)
        except IntegrityError as error:
            raise InvalidRequest(
                f"job {job_id}: a later job has the same sources and model; look at that one"
            ) from error

    def deliver_again(self, job_id: str, addresses: Sequence[Address]) -> tuple[Delivery, ...]:
        """Queue what a done job made for `addresses` anew; what is under way stays as it is.

        Raises
        ------
        JobNotFound
            If there is none.
        InvalidRequest
            If it is not done, or its results have expired.
        """
        with self._db.write() as connection:
            row = _find(connection, job_id, None)
            if row.state != JobState.DONE or row.forgotten_at is not None:
                gone = "its results have expired" if row.forgotten_at else f"it is {row.state}"
                raise InvalidRequest(f"job {job_id} has nothing to deliver: {gone}")
            address(connection, self._time.now(), job_id, addresses)
        return self.deliveries(job_id)

    def why(
        self, series_uid: str = "", limit: int = 1000
    ) -> tuple[tuple[Submission, tuple[Choice, ...], str], ...]:
        """For each submission, newest last: choices, and its refusal or an empty string.

        Parameters
        ----------
        series_uid
            Only of this series; empty: of all.
        limit
            The newest so many.
        """
        c = schema.submissions.c
        query = select(schema.submissions).order_by(c.seq.desc()).limit(limit)
        if series_uid:
            query = query.where(c.series_uid == series_uid)
        with self._db.read() as connection:
            return tuple(
                (
                    submission_of(row, paths_of(connection, row), self._spool_root),
                    _choices_of(connection, row.id),
                    row.refusal,
                )
                for row in reversed(connection.execute(query).all())
            )

    def deliveries(self, job_id: str) -> tuple[Delivery, ...]:
        """All deliveries of one job."""
        c = schema.deliveries.c
        query = select(schema.deliveries).where(c.job_id == job_id).order_by(c.seq)
        with self._db.read() as connection:
            rows = connection.execute(query).all()
            return tuple(delivery_of(connection, row) for row in rows)

    def counts(self) -> dict[JobState, int]:
        """Jobs by state; 0 where there is none."""
        c = schema.jobs.c
        with self._db.read() as connection:
            rows = connection.execute(select(c.state, func.count()).group_by(c.state)).all()
        found = {JobState(state): number for state, number in rows}
        return {state: found.get(state, 0) for state in JobState}

    def _lost_commit(self, job_id: str, principal: str | None) -> int:
        """Return the fence of a done job's commit whose files are lost; 0: they are whole."""
        with self._db.read() as connection:
            row = _find(connection, job_id, principal)
            job = job_of(connection, row)
        # Outside the transaction: nobody waits while files are read.
        done = job.state is JobState.DONE and is_lost(self._settings.results, job.results)
        return int(row.committed_fence) if done else 0

    def _retry(self, connection: Connection, row: Row[Any], lost: int) -> Job:
        c = schema.jobs.c
        if row.state in _UNFINISHED:
            return job_of(connection, row)
        is_lost_here = row.state == JobState.DONE and lost and row.committed_fence == lost
        if row.state not in _RETRYABLE and not is_lost_here:
            raise InvalidRequest(
                f"job {row.id} is {row.state}; only one that ended badly, or whose result's files "
                "are lost, is tried again"
            )
        submission = submission_with_instances(connection, row)
        if submission is None:
            raise InvalidRequest(
                f"the instances of job {row.id} have expired; send them again, then retry it if "
                "no other job has come of them"
            )
        now = self._time.now()
        again = connection.execute(
            update(schema.jobs)
            .where(c.id == row.id, c.state == row.state, c.fence == row.fence)
            .values(
                submission_id=submission.id,
                submission_version=submission.version,
                state=JobState.QUEUED,
                attempts=0,
                finished_at=None,
                stage="",
                progress=0.0,
                error_reason="",
                error_message="",
                forgotten_at=None,
                **moments.values("not_before", None),
                **leases.drop(),
            )
            .returning(*schema.jobs.c)
        ).one()
        job_event(connection, now, row.id, JobState.QUEUED, message="retried by hand")
        return job_of(connection, again)


def _find(connection: Connection, job_id: str, principal: str | None) -> Row[Any]:
    row = connection.execute(select(schema.jobs).where(schema.jobs.c.id == job_id)).one_or_none()
    if row is None or principal not in (None, row.principal):
        raise JobNotFound(f"no job {job_id}; it may be another principal's")
    return row


def _jobs_of_submission(submission_id: str) -> Select[tuple[str]]:
    links = schema.submission_jobs.c
    return select(links.job_id).where(links.submission_id == submission_id)


def _choices_of(connection: Connection, submission_id: str) -> tuple[Choice, ...]:
    c = schema.choices.c
    query = select(schema.choices).where(c.submission_id == submission_id).order_by(c.seq)
    return tuple(
        Choice(
            what=row.what,
            because=row.because,
            frames=row.frames,
            model=row.model,
            reason=row.reason,
        )
        for row in connection.execute(query)
    )


def _event_of(row: Row[Any]) -> JobEvent:
    return JobEvent(
        sequence=row.sequence,
        job_id=row.job_id,
        at=row.at,
        state=JobState(row.state),
        stage=row.stage,
        progress=row.progress,
        message=row.message,
    )

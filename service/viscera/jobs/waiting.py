"""What waits, and since when: for those who watch."""

from sqlalchemy import and_, func, select

from viscera.domain.jobs import DeliveryState, JobState
from viscera.domain.sources import SubmissionState
from viscera.jobs import moments, schema
from viscera.jobs.part import Part
from viscera.jobs.protocol import Backlog

_UNFINISHED = (JobState.QUEUED, JobState.RUNNING)
_UNSENT = (DeliveryState.QUEUED, DeliveryState.SENDING)


class Waiting(Part):
    """Implements `protocol.BacklogStore`."""

    def backlog(self) -> Backlog:
        """Read it all in one transaction."""
        jobs, series = schema.jobs, schema.submissions
        d = schema.deliveries.c
        overdue = and_(
            series.c.state == SubmissionState.OPEN,
            moments.passed(series, "close_after", self._time.now()),
        )
        unsent = select(func.min(jobs.c.finished_at)).join_from(
            jobs, schema.deliveries, d.job_id == jobs.c.id
        )
        with self._db.read() as connection:
            rows = connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state))
            found = {JobState(state): number for state, number in rows}
            return Backlog(
                jobs={state: found.get(state, 0) for state in JobState},
                refused_series=connection.scalar(
                    select(func.count()).where(series.c.state == SubmissionState.REFUSED)
                )
                or 0,
                oldest_job=connection.scalar(
                    select(func.min(jobs.c.created_at)).where(jobs.c.state.in_(_UNFINISHED))
                ),
                oldest_series=connection.scalar(
                    select(func.min(series.c.close_after_at)).where(overdue)
                ),
                oldest_result=connection.scalar(unsent.where(d.state.in_(_UNSENT))),
            )

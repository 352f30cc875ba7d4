"""Deliveries: one row per object and destination. What is committed: `commitment`."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    case,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)

from viscera.domain.jobs import Claim, Delivery, DeliveryState
from viscera.jobs import leases, moments, schema
from viscera.jobs.addressing import UNDER_WAY
from viscera.jobs.moments import Moment
from viscera.jobs.part import Part, finds
from viscera.jobs.rows import delivery_of

_table = schema.deliveries
_STORED = (DeliveryState.SENT, DeliveryState.AWAITING_COMMITMENT)


class Deliveries(Part):
    """Implements `protocol.DeliveryStore`."""

    def claim_delivery(
        self, owner: str, destinations: Sequence[str] = ()
    ) -> tuple[Claim, Delivery] | None:
        """Lease one delivery whose time has come: unsent first, then oldest, SEG before SR.

        Its state is then SENDING, or SENT where the destination has it and only the commitment
        is missing.

        Parameters
        ----------
        owner
            As `owners.this_process` names it.
        destinations
            Only these; empty: any. One that is down must not hold up the others.
        """
        with self._db.read() as connection:
            due = self._due_delivery(connection, destinations)
            if not finds(connection, select(_table.c.id).where(due)):
                return None
        with self._db.write() as connection:
            now = self._time.now()
            c = _table.c
            first = (
                select(c.id)
                .where(self._due_delivery(connection, destinations))
                # What is there and only waits to be asked about again holds up nothing new.
                .order_by(c.state.in_(_STORED), c.seq)
                .limit(1)
            )
            row = connection.execute(
                update(_table)
                .where(c.id == first.with_for_update(skip_locked=True).scalar_subquery())
                .values(
                    state=case(
                        (c.state.in_(_STORED), DeliveryState.SENT), else_=DeliveryState.SENDING
                    ),
                    attempts=c.attempts + 1,
                    **leases.take(_table, owner, now, self._settings.lease_s),
                )
                .returning(*c)
            ).one_or_none()
            if row is None:
                return None
            return Claim(row.id, row.owner, row.fence), delivery_of(connection, row)

    def waiting_by_destination(self) -> dict[str, int]:
        """How many deliveries are under way, by destination."""
        c = _table.c
        query = select(c.destination, func.count()).where(c.state.in_(UNDER_WAY))
        with self._db.read() as connection:
            rows = connection.execute(query.group_by(c.destination)).all()
        return {destination: number for destination, number in rows}

    def heartbeat_delivery(self, claim: Claim) -> None:
        """Extend the lease. Raises `LeaseLost`."""
        with self._db.write() as connection:
            leases.extend(connection, _table, claim, self._time.now(), self._settings.lease_s)

    def delivered(self, claim: Claim) -> float | None:
        """The destination has it. Raises `LeaseLost`.

        Returns
        -------
        float or None
            Seconds from the job's commit to now if this was the last of its deliveries to end.
        """
        return self._end_delivery(claim, DeliveryState.DELIVERED, "")

    def undeliverable(self, claim: Claim, error: str) -> float | None:
        """A fault that stays; returns what :meth:`delivered` does. Raises `LeaseLost`."""
        return self._end_delivery(claim, DeliveryState.FAILED, error)

    def deliver_later(
        self, claim: Claim, next_attempt_at: datetime, error: str, *, stored: bool = False
    ) -> None:
        """A transient fault. Raises `LeaseLost`.

        Parameters
        ----------
        stored
            Whether the destination has it, so that only its commitment is to be asked for.
        """
        state = DeliveryState.SENT if stored else DeliveryState.QUEUED
        with self._db.write() as connection:
            pause = moments.values("not_before", self._time.of(next_attempt_at))
            change = update(_table).where(sending(claim))
            change = change.values(state=state, last_error=error, **pause, **leases.drop())
            leases.must_change(connection, change, claim)

    def _end_delivery(self, claim: Claim, state: DeliveryState, error: str) -> float | None:
        with self._db.write() as connection:
            now = self._time.now()
            job = lock_job(connection, claim.id)
            change = update(_table).where(sending(claim))
            change = change.values(state=state, last_error=error, ended_at=now.at, **leases.drop())
            leases.must_change(connection, change, claim)
            forget_requests(connection, claim.id)
            return seconds_if_last(connection, job, now)

    def _due_delivery(
        self, connection: Connection, destinations: Sequence[str]
    ) -> ColumnElement[bool]:
        now = self._time.now()
        waited = or_(
            _table.c.state == DeliveryState.SENDING, moments.passed(_table, "not_before", now)
        )
        free = leases.free(connection, _table, now, self._settings.lease_s)
        due = and_(_table.c.state.in_(UNDER_WAY), waited, free, ~_something_goes_first())
        return and_(due, _table.c.destination.in_(destinations)) if destinations else due


def sending(claim: Claim) -> ColumnElement[bool]:
    """Whether a delivery is still the claimant's."""
    working = (DeliveryState.SENDING, DeliveryState.SENT)
    return and_(leases.mine(_table, claim), _table.c.state.in_(working))


def _something_goes_first() -> ColumnElement[bool]:
    """Whether an object of a lower rank of the same job is still on its way there."""
    other = _table.alias()
    return exists().where(
        other.c.job_id == _table.c.job_id,
        other.c.destination == _table.c.destination,
        other.c.rank < _table.c.rank,
        # What awaits its commitment is there: a PACS may take hours to commit.
        other.c.state.in_((DeliveryState.QUEUED, DeliveryState.SENDING)),
    )


def forget_requests(connection: Connection, delivery_id: str) -> None:
    """Forget what was asked about an object: what is reported on it changes nothing any more."""
    c = schema.commitments.c
    connection.execute(delete(schema.commitments).where(c.delivery_id == delivery_id))


def lock_job(connection: Connection, delivery_id: str) -> Row[Any] | None:
    """Return the delivery's job, locked, so that of two last deliveries one sees the other."""
    job_id = select(_table.c.job_id).where(_table.c.id == delivery_id).scalar_subquery()
    query = select(schema.jobs).where(schema.jobs.c.id == job_id)
    return connection.execute(query.with_for_update()).one_or_none()


def seconds_if_last(connection: Connection, job: Row[Any] | None, now: Moment) -> float | None:
    """Return the seconds since a job's commit where none of its deliveries is under way."""
    if job is None or job.finished_at is None:
        return None
    left = select(_table.c.id).where(_table.c.job_id == job.id, _table.c.state.in_(UNDER_WAY))
    if finds(connection, left):
        return None
    submissions, links = schema.submissions.c, schema.submission_jobs.c
    # A result that is delivered again was asked for by a later submission.
    asked_at = connection.scalar(
        select(func.max(submissions.closed_at))
        .join(schema.submission_jobs, links.submission_id == submissions.id)
        .where(links.job_id == job.id)
    )
    took: timedelta = now.at - max(job.finished_at, asked_at or job.finished_at)
    return max(0.0, took.total_seconds())

"""Planned jobs become rows; what they replace is superseded, what they correct is their parent."""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Row, and_, insert, select, update

from viscera.domain.jobs import DeliveryState, Job, JobKind, JobState, PlannedJob
from viscera.domain.sources import Arrival, Origin
from viscera.jobs import leases, moments, schema
from viscera.jobs.gather import versions_of
from viscera.jobs.moments import Moment
from viscera.jobs.part import finds, job_event
from viscera.jobs.rows import jobs_of, keep_stacks

_ALIVE = (JobState.QUEUED, JobState.RUNNING, JobState.DONE)
# The destination has it, or may have it: nobody can take it back.
_OUT = (
    DeliveryState.SENDING,
    DeliveryState.SENT,
    DeliveryState.AWAITING_COMMITMENT,
    DeliveryState.DELIVERED,
)
_ENDED = (DeliveryState.DELIVERED, DeliveryState.FAILED)


def queue_jobs(
    connection: Connection, now: Moment, submission: Row[Any], planned: Sequence[PlannedJob]
) -> tuple[Job, ...]:
    """Queue what is not there yet, and settle what earlier versions of the series began.

    A version that plans nothing (it was refused) replaces nothing: the earlier answer was right
    for the instances that it names.
    """
    there = {plan.key: _answering(connection, submission, plan.key) for plan in planned}
    kept = {row.id for row in there.values() if row is not None}
    replaced = [row for row in _earlier(connection, submission) if planned and row.id not in kept]
    parents = [r for r in replaced if not _supersede(connection, now, r, submission.version)]
    rows: list[Row[Any]] = []
    for plan in planned:
        row = there[plan.key]
        if row is None:
            parent = _corrected_by(plan, parents)
            row = _insert(connection, now, submission, plan, parent)
            there[plan.key] = row
        elif _came_anew(connection, submission):
            _deliver_again(connection, now, row)
        rows.append(row)
    linked = dict.fromkeys((submission.id, row.id) for row in rows)
    for plan, row in zip(planned, rows, strict=True):
        linked |= dict.fromkeys((other, row.id) for other in plan.beside)
        _no_longer_waiting(connection, plan.beside, row)
    for submission_id, job_id in linked:
        link = {"submission_id": submission_id, "job_id": job_id}
        links = schema.submission_jobs
        known = select(links).filter_by(**link)
        if not finds(connection, known):
            connection.execute(insert(links).values(link))
    return jobs_of(connection, rows)


def _no_longer_waiting(connection: Connection, beside: Sequence[str], job: Row[Any]) -> None:
    """Say of series that waited for the last channel what became of them."""
    c = schema.choices.c
    connection.execute(
        update(schema.choices)
        .where(c.submission_id.in_(beside), c.what == "wait")
        .values(what="segment", because=f"a channel of job {job.id}, with series {job.series_uid}")
    )


def _answering(connection: Connection, submission: Row[Any], key: str) -> Row[Any] | None:
    """Return the principal's job that is answering this key, or has answered it."""
    c = schema.jobs.c
    query = select(schema.jobs).where(
        c.origin == submission.origin,
        c.principal == submission.principal,
        c.key == key,
        c.state.in_(_ALIVE),
        c.forgotten_at.is_(None),
    )
    return connection.execute(query).one_or_none()


def living_jobs(series: Arrival | Row[Any]) -> ColumnElement[bool]:
    """Which jobs of a PACS series are an answer to it, or may come to be one."""
    c = schema.jobs.c
    return and_(
        c.origin == Origin.DICOM,
        c.principal == series.principal,
        c.series_uid == series.series_uid,
        c.state.in_(_ALIVE),
        c.forgotten_at.is_(None),
    )


def _earlier(connection: Connection, submission: Row[Any]) -> Sequence[Row[Any]]:
    """Return the living jobs of earlier versions, newest first; an upload has none."""
    if submission.origin != Origin.DICOM:
        return ()
    c = schema.jobs.c
    query = select(schema.jobs).where(
        living_jobs(submission), c.submission_version < submission.version
    )
    return connection.execute(query.order_by(c.seq.desc()).with_for_update()).all()


def _supersede(connection: Connection, now: Moment, job: Row[Any], version: int) -> bool:
    """Take an undelivered job out of the way; False where a destination may have its result."""
    d = schema.deliveries.c
    states = connection.scalars(select(d.state).where(d.job_id == job.id).with_for_update()).all()
    if any(state in _OUT for state in states):
        return False
    message = f"replaced by version {version}"
    connection.execute(
        update(schema.jobs)
        .where(schema.jobs.c.id == job.id)
        .values(state=JobState.SUPERSEDED, finished_at=now.at, **leases.drop())
    )
    connection.execute(
        update(schema.deliveries)
        .where(d.job_id == job.id, d.state == DeliveryState.QUEUED)
        .values(state=DeliveryState.FAILED, last_error=message, ended_at=now.at)
    )
    job_event(connection, now, job.id, JobState.SUPERSEDED, message=message)
    return True


def _came_anew(connection: Connection, submission: Row[Any]) -> bool:
    """Whether a PACS series had expired, and was sent again as a whole."""
    s = schema.submissions.c
    before = select(s.id).where(versions_of(submission), s.version < submission.version)
    left = select(schema.instances.c.seq).where(schema.instances.c.submission_id.in_(before))
    return submission.origin == Origin.DICOM and not finds(connection, left)


def _deliver_again(connection: Connection, now: Moment, job: Row[Any]) -> None:
    """Send a kept result once more: whoever sends an old series again misses it.

    Where nobody misses it, the same UIDs arrive a second time and change nothing.
    """
    d = schema.deliveries.c
    connection.execute(
        update(schema.deliveries)
        .where(d.job_id == job.id, d.state.in_(_ENDED))
        .values(
            state=DeliveryState.QUEUED,
            attempts=0,
            last_error="",
            ended_at=None,
            **moments.values("not_before", now),
        )
    )


def _corrected_by(plan: PlannedJob, parents: Sequence[Row[Any]]) -> Row[Any] | None:
    """Return the delivered job that shares the most frames with `plan`, if any shares one."""
    frames = set(_flat(keep_stacks(plan.stacks)))
    shared = [(len(frames.intersection(_flat(row.stacks))), row) for row in parents]
    most, row = max(shared, key=lambda pair: pair[0], default=(0, None))
    return row if most else None


def _flat(stacks: list[list[list[Any]]]) -> Iterator[tuple[str, int]]:
    return ((uid, frame) for stack in stacks for uid, frame in stack)


def _insert(
    connection: Connection,
    now: Moment,
    submission: Row[Any],
    plan: PlannedJob,
    parent: Row[Any] | None,
) -> Row[Any]:
    row = connection.execute(
        insert(schema.jobs)
        .values(
            id=uuid4().hex,
            key=plan.key,
            kind=plan.kind if parent is None else JobKind.CORRECT,
            submission_id=submission.id,
            origin=submission.origin,
            principal=submission.principal,
            study_uid=submission.study_uid,
            series_uid=submission.series_uid,
            submission_version=submission.version,
            stacks=keep_stacks(plan.stacks),
            model=plan.model,
            state=JobState.QUEUED,
            parent_id=parent.id if parent is not None else None,
            created_at=now.at,
            reasons=[],
        )
        .returning(*schema.jobs.c)
    ).one()
    job_event(connection, now, row.id, JobState.QUEUED)
    return row

"""Rows to nouns."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, func, select

from viscera.domain.jobs import Delivery, DeliveryState, Job, JobKind, JobState
from viscera.domain.results import Decision, ResultFile, ResultKind, Verdict
from viscera.domain.sources import Origin, SourceFrame, Submission, SubmissionState
from viscera.jobs import schema


def job_of(connection: Connection, row: Row[Any]) -> Job:
    """Return one job with its committed results."""
    return jobs_of(connection, [row])[0]


def jobs_of(connection: Connection, rows: Sequence[Row[Any]]) -> tuple[Job, ...]:
    """Return jobs with their committed results, in the order of `rows`."""
    c = schema.results.c
    results: dict[str, list[ResultFile]] = {row.id: [] for row in rows}
    query = select(schema.results).where(c.job_id.in_(list(results))).order_by(c.seq)
    for row in connection.execute(query):
        results[row.job_id].append(file_of(row))
    return tuple(_job(row, tuple(results[row.id])) for row in rows)


def _job(row: Row[Any], results: tuple[ResultFile, ...]) -> Job:
    verdict = Verdict(Decision(row.decision), tuple(row.reasons)) if row.decision else None
    return Job(
        id=row.id,
        key=row.key,
        kind=JobKind(row.kind),
        submission_id=row.submission_id,
        origin=Origin(row.origin),
        principal=row.principal,
        study_uid=row.study_uid,
        series_uid=row.series_uid,
        submission_version=row.submission_version,
        stacks=stacks_of(row.stacks),
        model=row.model,
        state=JobState(row.state),
        parent_id=row.parent_id,
        attempts=row.attempts,
        created_at=row.created_at,
        finished_at=row.finished_at,
        stage=row.stage,
        progress=row.progress,
        engine=row.engine,
        error_reason=row.error_reason,
        error_message=row.error_message,
        verdict=verdict,
        results=results,
    )


def stacks_of(kept: list[list[list[Any]]]) -> tuple[tuple[SourceFrame, ...], ...]:
    """Return stacks as `keep_stacks` wrote them."""
    return tuple(tuple(SourceFrame(uid, frame) for uid, frame in stack) for stack in kept)


def keep_stacks(stacks: Sequence[Sequence[SourceFrame]]) -> list[list[list[Any]]]:
    """Return stacks as JSON keeps them."""
    return [[[frame.sop_uid, frame.frame] for frame in stack] for stack in stacks]


def file_of(row: Row[Any]) -> ResultFile:
    """Return one committed file."""
    return ResultFile(
        kind=ResultKind(row.kind),
        path=Path(row.path),
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        sop_class_uid=row.sop_class_uid,
        sop_uid=row.sop_uid,
    )


def delivery_of(connection: Connection, row: Row[Any]) -> Delivery:
    """Return one delivery with its file."""
    query = select(schema.results).where(schema.results.c.seq == row.result_seq)
    asked = select(func.count()).where(schema.commitments.c.delivery_id == row.id)
    return Delivery(
        id=row.id,
        job_id=row.job_id,
        destination=row.destination,
        file=file_of(connection.execute(query).one()),
        state=DeliveryState(row.state),
        attempts=row.attempts,
        next_attempt_at=row.not_before_at,
        last_error=row.last_error,
        requests=connection.scalar(asked) or 0,
    )


def submission_of(row: Row[Any], spool_paths: Sequence[str], spool_root: Path) -> Submission:
    """Return one submission; its paths become absolute."""
    return Submission(
        id=row.id,
        origin=Origin(row.origin),
        principal=row.principal,
        series_uid=row.series_uid,
        study_uid=row.study_uid,
        version=row.version,
        state=SubmissionState(row.state),
        model=row.model,
        opened_at=row.opened_at,
        paths=tuple(spool_root / path for path in spool_paths),
        channels=tuple((name, uid) for name, uid in row.channels),
    )

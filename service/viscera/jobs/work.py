"""Running jobs: claim, report, and the five ways in which one ends or comes back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, insert, or_, select, update

from viscera.domain.jobs import Address, Claim, DeliveryState, Job, JobState
from viscera.domain.results import ResultFile, Verdict
from viscera.jobs import leases, moments, schema
from viscera.jobs.addressing import UNDER_WAY, address
from viscera.jobs.backoff import backoff_s
from viscera.jobs.gather import paths_of
from viscera.jobs.moments import Moment
from viscera.jobs.part import Part, finds, job_event
from viscera.jobs.rows import job_of

_table = schema.jobs
_POSTPONED_S = 60.0


class Work(Part):
    """Implements the second half of `protocol.WorkStore`."""

    def claim_job(self, owner: str) -> tuple[Claim, Job] | None:
        """Lease one queued job, or one whose lease ran out; counts an attempt.

        One that used up its attempts is failed as poison instead and not returned.
        """
        with self._db.read() as connection:
            if not finds(connection, select(_table.c.id).where(self._due_job(connection))):
                return None
        with self._db.write() as connection:
            now = self._time.now()
            self._fail_poison(connection, now)
            c = _table.c
            first = select(c.id).where(self._due_job(connection)).order_by(c.seq).limit(1)
            row = connection.execute(
                update(_table)
                .where(c.id == first.with_for_update(skip_locked=True).scalar_subquery())
                .values(
                    state=JobState.RUNNING,
                    attempts=c.attempts + 1,
                    stage="",
                    progress=0.0,
                    **leases.take(_table, owner, now, self._settings.lease_s),
                )
                .returning(*c)
            ).one_or_none()
            if row is None:
                return None
            job_event(connection, now, row.id, JobState.RUNNING)
            return Claim(row.id, row.owner, row.fence), job_of(connection, row)

    def report(self, claim: Claim, stage: str, progress: float, engine: str = "") -> None:
        """Keep where the job is, and extend its lease. Cancelled: raises `LeaseLost`."""
        with self._db.write() as connection:
            now = self._time.now()
            changes: dict[str, Any] = {"stage": stage, "progress": progress}
            if engine:
                changes["engine"] = engine
            lease = moments.values("lease", now.plus(self._settings.lease_s))
            change = update(_table).where(_running(claim)).values(**changes, **lease)
            leases.must_change(connection, change, claim)
            job_event(connection, now, claim.id, JobState.RUNNING, stage, progress)

    def job_paths(self, job_id: str) -> tuple[Path, ...]:
        """Absolute paths of the instances of all series that a job's stacks may lie in."""
        links = schema.submission_jobs.c
        linked = select(links.submission_id).where(links.job_id == job_id)
        query = select(schema.submissions).where(schema.submissions.c.id.in_(linked))
        with self._db.read() as connection:
            rows = connection.execute(query.order_by(schema.submissions.c.seq)).all()
            paths = [path for row in rows for path in paths_of(connection, row)]
        return tuple(self._spool_root / path for path in dict.fromkeys(paths))

    def finish_job(
        self,
        claim: Claim,
        results: Sequence[ResultFile],
        verdict: Verdict,
        addresses: Sequence[Address],
    ) -> None:
        """Commit the digests of `results` and queue or bar deliveries; see `protocol.WorkStore`.

        Raises
        ------
        LeaseLost
            If the job is another's by now, cancelled or superseded: nothing is committed.
        """
        with self._db.write() as connection:
            now = self._time.now()
            ended: dict[str, Any] = {
                "progress": 1.0,
                "decision": verdict.decision,
                "reasons": list(verdict.reasons),
                "committed_fence": claim.fence,
            }
            self._end_job(connection, now, claim, JobState.DONE, **ended)
            _keep_results(connection, claim.id, results)
            # A job that ran again for a lost file has delivered before.
            keep = (*UNDER_WAY, DeliveryState.DELIVERED)
            address(connection, now, claim.id, addresses, keep=keep)

    def refuse_job(self, claim: Claim, reason: str, message: str) -> None:
        """The data's fault; final. Raises `LeaseLost`."""
        with self._db.write() as connection:
            fault = {"error_reason": reason, "error_message": message}
            self._end_job(connection, self._time.now(), claim, JobState.REFUSED, **fault)

    def retry_later(self, claim: Claim, reason: str, message: str) -> None:
        """A transient fault: queued again after a backoff, failed after `max_attempts`."""
        with self._db.write() as connection:
            now = self._time.now()
            attempts = connection.scalar(select(_table.c.attempts).where(_running(claim))) or 1
            fault = {"error_reason": reason, "error_message": message}
            if attempts >= self._settings.max_attempts:
                self._end_job(connection, now, claim, JobState.FAILED, **fault)
                return
            pause = moments.values(
                "not_before", now.plus(backoff_s(self._settings.backoff_s, attempts))
            )
            _give_back(connection, now, claim, f"{reason}: {message}", **fault, **pause)

    def postpone_job(self, claim: Claim, reason: str, message: str) -> None:
        """The machine's fault: queued again after a minute, and the attempt does not count."""
        with self._db.write() as connection:
            now = self._time.now()
            _give_back(
                connection,
                now,
                claim,
                f"{reason}: {message}",
                attempts=_table.c.attempts - 1,
                error_reason=reason,
                error_message=message,
                **moments.values("not_before", now.plus(_POSTPONED_S)),
            )

    def release_job(self, claim: Claim) -> None:
        """Give it back at once, as if it had never been claimed (a graceful stop)."""
        with self._db.write() as connection:
            now = self._time.now()
            _give_back(connection, now, claim, "released", attempts=_table.c.attempts - 1)

    def _due_job(self, connection: Connection) -> ColumnElement[bool]:
        now = self._time.now()
        waiting = and_(
            _table.c.state == JobState.QUEUED, moments.absent_or_passed(_table, "not_before", now)
        )
        abandoned = and_(
            _table.c.state == JobState.RUNNING,
            leases.free(connection, _table, now, self._settings.lease_s),
        )
        return or_(waiting, abandoned)

    def _fail_poison(self, connection: Connection, now: Moment) -> None:
        """Only jobs whose worker died come here: every other end counts for itself."""
        message = "its workers died; the last attempt ended without a word"
        failed = connection.scalars(
            update(_table)
            .where(
                self._due_job(connection),
                _table.c.state == JobState.RUNNING,
                _table.c.attempts >= self._settings.max_attempts,
            )
            .values(
                state=JobState.FAILED,
                finished_at=now.at,
                error_reason="Poison",
                error_message=message,
                **leases.drop(),
            )
            .returning(_table.c.id)
        ).all()
        for job_id in failed:
            job_event(connection, now, job_id, JobState.FAILED, message=f"Poison: {message}")

    def _end_job(
        self, connection: Connection, now: Moment, claim: Claim, state: JobState, **changes: object
    ) -> None:
        change = update(_table).where(_running(claim))
        change = change.values(state=state, finished_at=now.at, **changes, **leases.drop())
        leases.must_change(connection, change, claim)
        reason = changes.get("error_reason", "")
        message = f"{reason}: {changes['error_message']}" if reason else ""
        job_event(connection, now, claim.id, state, message=message)


def _running(claim: Claim) -> ColumnElement[bool]:
    return and_(leases.mine(_table, claim), _table.c.state == JobState.RUNNING)


def _give_back(
    connection: Connection, now: Moment, claim: Claim, message: str, **changes: object
) -> None:
    change = update(_table).where(_running(claim))
    change = change.values(
        state=JobState.QUEUED, stage="", progress=0.0, **changes, **leases.drop()
    )
    leases.must_change(connection, change, claim)
    job_event(connection, now, claim.id, JobState.QUEUED, message=message)


def _keep_results(connection: Connection, job_id: str, results: Sequence[ResultFile]) -> None:
    """Keep a row for each file; a kind that a job has committed before keeps its row.

    Its deliveries name it: they send the new file, which has the same bytes (invariant 5).
    """
    table = schema.results
    query = select(table.c.kind, table.c.seq).where(table.c.job_id == job_id)
    there = {row.kind: row.seq for row in connection.execute(query)}
    named = exists().where(schema.deliveries.c.result_seq == table.c.seq)
    kinds = [file.kind for file in results]
    old = and_(table.c.job_id == job_id, table.c.kind.not_in(kinds), ~named)
    connection.execute(delete(table).where(old))
    for file in results:
        columns = {
            "path": file.path.as_posix(),
            "sha256": file.sha256,
            "size_bytes": file.size_bytes,
            "sop_class_uid": file.sop_class_uid,
            "sop_uid": file.sop_uid,
        }
        if file.kind in there:
            known = update(table).where(table.c.seq == there[file.kind])
            connection.execute(known.values(columns))
        else:
            connection.execute(insert(table).values(job_id=job_id, kind=file.kind, **columns))

"""Closing submissions: claim, settle into jobs, or give back."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, select, update

from viscera.domain.jobs import Choice, Claim, Job, PlannedJob
from viscera.domain.sources import Origin, Submission, SubmissionState
from viscera.errors import LeaseLost
from viscera.jobs import leases, moments, schema
from viscera.jobs.backoff import backoff_s
from viscera.jobs.gather import Gathering, paths_of, through_version
from viscera.jobs.intake import open_version
from viscera.jobs.moments import Moment
from viscera.jobs.part import finds, submission_event
from viscera.jobs.planning import queue_jobs
from viscera.jobs.rows import submission_of

_table = schema.submissions


class Submissions(Gathering):
    """Implements the first half of `protocol.WorkStore`."""

    def claim_submission(self, owner: str) -> tuple[Claim, Submission] | None:
        """Lease one open submission whose `close_after` has passed; counts an attempt.

        `close_after` is computed anew before it is believed: the peer may have sent something
        else since. One that used up its attempts is refused as poison and not returned.
        """
        while True:
            with self._db.read() as connection:
                if not finds(
                    connection, select(_table.c.id).where(self._due_submission(connection))
                ):
                    return None
            # One candidate a transaction: the receivers' rows do not wait for all of them.
            with self._db.write() as connection:
                row = self._candidate(connection)
                if row is None:
                    return None
                claimed = self._consider(connection, row, owner)
            if claimed is not None:
                return claimed

    def settle_submission(
        self, claim: Claim, choices: Sequence[Choice], jobs: Sequence[PlannedJob], refusal: str = ""
    ) -> tuple[Job, ...]:
        """Close it: keep the choices, queue the jobs; see `protocol.WorkStore`.

        Returns
        -------
        tuple
            One job for each of `jobs`: a new one, or the one that answers the same key already.
        """

        def settle(connection: Connection) -> tuple[Job, ...]:
            now = self._time.now()
            state = SubmissionState.REFUSED if refusal else SubmissionState.CLOSED
            row = _close(connection, leases.mine(_table, claim), now, state, refusal)
            if row is None:
                raise LeaseLost(f"{claim.id}: fence {claim.fence} is not the row's any more")
            _keep_choices(connection, claim.id, choices)
            self._move_late_instances(connection, row, now)
            return queue_jobs(connection, now, row, jobs)

        return self._db.transact(settle)

    def beside(self, submission_id: str) -> tuple[Submission, ...]:
        """Other series of its study, closed, that its principal has sent; newest versions."""
        with self._db.read() as connection:
            rows = _beside(connection, submission_id)
            return tuple(
                submission_of(row, paths_of(connection, row), self._spool_root) for row in rows
            )

    def look_again(self, submission_id: str, looked_at: Sequence[str]) -> bool:
        """Plan a series anew that waits, if another one closed while it was planned.

        Two series that close at once do not see each other; the later of their commits does.
        """
        with self._db.write() as connection:
            if {row.id for row in _beside(connection, submission_id)} <= set(looked_at):
                return False
            now = self._time.now()
            row = connection.execute(select(_table).where(_table.c.id == submission_id)).one()
            self._set_close_after(connection, open_version(connection, now, row), now)
            return True

    def release_submission(self, claim: Claim, *, counted: bool = False) -> None:
        """Give it back untouched; it is due again after a backoff.

        Parameters
        ----------
        counted
            Whether the attempt counts towards poison: not for a transient fault.
        """
        with self._db.write() as connection:
            now = self._time.now()
            mine = leases.mine(_table, claim)
            attempts = connection.scalar(select(_table.c.attempts).where(mine)) or 1
            pause = now.plus(backoff_s(self._settings.backoff_s, attempts))
            change = update(_table).where(mine, _table.c.state == SubmissionState.OPEN)
            leases.must_change(
                connection,
                change.values(
                    attempts=attempts if counted else attempts - 1,
                    **moments.values("not_before", pause),
                    **leases.drop(),
                ),
                claim,
            )

    def _due_submission(self, connection: Connection) -> ColumnElement[bool]:
        now = self._time.now()
        return and_(
            _table.c.state == SubmissionState.OPEN,
            moments.passed(_table, "close_after", now),
            moments.absent_or_passed(_table, "not_before", now),
            leases.free(connection, _table, now, self._settings.lease_s),
        )

    def _candidate(self, connection: Connection) -> Row[Any] | None:
        query = select(_table).where(self._due_submission(connection))
        first = query.order_by(_table.c.close_after_at, _table.c.seq).limit(1)
        return connection.execute(first.with_for_update(skip_locked=True)).one_or_none()

    def _consider(
        self, connection: Connection, row: Row[Any], owner: str
    ) -> tuple[Claim, Submission] | None:
        """Lease a candidate, or say anew when it closes, or refuse it as poison."""
        now = self._time.now()
        if row.attempts >= self._settings.max_attempts:
            refusal = f"Poison: {row.attempts} attempts to plan this submission ended badly"
            unchanged = and_(_table.c.id == row.id, _table.c.fence == row.fence)
            _close(connection, unchanged, now, SubmissionState.REFUSED, refusal)
            self._move_late_instances(connection, row, now)
            return None
        if row.origin == Origin.DICOM and self._waits_still(connection, row, now):
            return None
        return self._lease_submission(connection, row, owner, now)

    def _waits_still(self, connection: Connection, row: Row[Any], now: Moment) -> bool:
        return self._set_close_after(connection, row, now).at > now.at

    def _lease_submission(
        self, connection: Connection, row: Row[Any], owner: str, now: Moment
    ) -> tuple[Claim, Submission]:
        # Of earlier versions too: one that only asks again has no instances of its own.
        through = select(func.coalesce(func.max(schema.instances.c.seq), 0)).where(
            through_version(row)
        )
        claimed = connection.execute(
            update(_table)
            .where(_table.c.id == row.id, _table.c.fence == row.fence)
            .values(
                attempts=_table.c.attempts + 1,
                claimed_through=through.scalar_subquery(),
                **leases.take(_table, owner, now, self._settings.lease_s),
            )
            .returning(*_table.c)
        ).one()
        claim = Claim(claimed.id, claimed.owner, claimed.fence)
        return claim, submission_of(claimed, paths_of(connection, claimed), self._spool_root)

    def _move_late_instances(self, connection: Connection, row: Row[Any], now: Moment) -> None:
        """Give what came after the claim to the next version; an upload has no versions."""
        c = schema.instances.c
        late = and_(c.submission_id == row.id, c.seq > row.claimed_through)
        if row.origin != Origin.DICOM:
            return
        if not finds(connection, select(c.seq).where(late)):
            return
        following = open_version(connection, now, row)
        connection.execute(update(schema.instances).where(late).values(submission_id=following.id))
        self._set_close_after(connection, following, now)


def _beside(connection: Connection, submission_id: str) -> list[Row[Any]]:
    row = connection.execute(select(_table).where(_table.c.id == submission_id)).one()
    query = select(_table).where(
        _table.c.origin == Origin.DICOM,
        _table.c.study_uid == row.study_uid,
        _table.c.principal == row.principal,
        _table.c.state == SubmissionState.CLOSED,
        _table.c.series_uid != row.series_uid,
    )
    newest = {one.series_uid: one for one in connection.execute(query.order_by(_table.c.version))}
    return [newest[series_uid] for series_uid in sorted(newest)]


def _close(
    connection: Connection,
    condition: ColumnElement[bool],
    now: Moment,
    state: SubmissionState,
    refusal: str,
) -> Row[Any] | None:
    row = connection.execute(
        update(_table)
        .where(condition, _table.c.state == SubmissionState.OPEN)
        .values(state=state, closed_at=now.at, refusal=refusal, **leases.drop())
        .returning(*_table.c)
    ).one_or_none()
    if row is not None:
        submission_event(connection, now, row.id, state, refusal)
    return row


def _keep_choices(connection: Connection, submission_id: str, choices: Sequence[Choice]) -> None:
    for choice in choices:
        connection.execute(
            insert(schema.choices).values(
                submission_id=submission_id,
                what=choice.what,
                because=choice.because,
                frames=choice.frames,
                model=choice.model,
                reason=choice.reason,
            )
        )

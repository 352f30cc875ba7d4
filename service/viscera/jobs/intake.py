"""What the doors write: arrivals, associations, uploads."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, select, update

from viscera.domain.sources import Arrival, Channels, Origin, Submission, SubmissionState
from viscera.errors import IncompleteSeries, InvalidRequest, JobNotFound
from viscera.jobs import listening, moments, schema
from viscera.jobs.gather import Gathering, paths_of, versions_of
from viscera.jobs.moments import Moment
from viscera.jobs.part import finds, submission_event
from viscera.jobs.planning import living_jobs
from viscera.jobs.rows import submission_of

# SQLite takes more parameters, PostgreSQL's planner does not like it.
_CHUNK = 500


class Intake(Gathering):
    """Implements `protocol.IntakeStore`."""

    def record_arrivals(self, arrivals: Sequence[Arrival]) -> None:
        """Add instances to their submissions in one transaction; see `protocol.IntakeStore`."""
        if arrivals:
            self._db.transact(lambda connection: self._record(connection, arrivals))

    def note_associations(self, principal: str, open_now: int, listener: str = "") -> None:
        """Keep how many associations a peer has open with one listener process.

        The release of the last one may bring forward when its submissions close. That is for the
        worker to compute, which looks at every submission that is due; so they are made due here.
        A peer that takes an association for each instance of many series would otherwise have
        all of them computed at each.
        """

        def note(connection: Connection) -> None:
            now = self._time.now()
            listening.note(connection, principal, listener, open_now, now)
            if listening.open_now(connection, principal, now) == 0:
                _look_again(connection, principal, now)

        self._db.transact(note)

    def open_upload(
        self, upload: str, principal: str, model: str, channels: Channels = ()
    ) -> Submission:
        """Open the submission of one gRPC upload; its id is `upload`. Idempotent.

        Raises
        ------
        InvalidRequest
            If another principal has an upload of that id.
        """

        def open_it(connection: Connection) -> Submission:
            row = _submission(connection, upload)
            if row is None:
                asked = {"model": model, "channels": [list(one) for one in channels]}
                row = _open(connection, self._time.now(), upload, Origin.GRPC, principal, asked)
            if row.principal != principal:
                raise InvalidRequest(f"upload {upload} is another principal's; take a new id")
            return submission_of(row, paths_of(connection, row), self._spool_root)

        return self._db.transact(open_it)

    def close_upload(self, upload: str) -> None:
        """The client half-closed: `close_after` is now. Again is nothing.

        Raises
        ------
        JobNotFound
            If there is none.
        IncompleteSeries
            If it was refused before it was closed.
        """
        with self._db.write() as connection:
            closing = update(schema.submissions).where(
                _unclosed(), schema.submissions.c.id == upload
            )
            now = moments.values("close_after", self._time.now())
            if connection.execute(closing.values(now)).rowcount:
                return
            row = _submission(connection, upload)
            if row is None:
                raise JobNotFound(f"no upload {upload}")
            if row.close_after_at is None:
                raise IncompleteSeries(
                    f"upload {upload} was refused before it was complete; send the series again"
                )

    def unclosed_uploads(self, days: float = 0.0) -> tuple[str, ...]:
        """Open uploads, of `days` ago or older, that were not closed; oldest first."""
        c = schema.submissions.c
        before = self._time.now().at - timedelta(days=days)
        query = select(c.id).where(_unclosed(), c.opened_at <= before).order_by(c.seq)
        with self._db.read() as connection:
            return tuple(connection.scalars(query))

    def refuse_upload(self, upload: str, refusal: str) -> bool:
        """Refuse an upload that was not closed; False where it was, or is refused already."""
        c = schema.submissions.c
        with self._db.write() as connection:
            now = self._time.now()
            refused = connection.execute(
                update(schema.submissions)
                .where(_unclosed(), c.id == upload)
                .values(state=SubmissionState.REFUSED, closed_at=now.at, refusal=refusal)
            )
            if not refused.rowcount:
                return False
            submission_event(connection, now, upload, SubmissionState.REFUSED, refusal)
            return True

    def known_paths(self) -> set[str]:
        """Every spool path that has a row; what else lies in the spool is recorded at start."""
        with self._db.read() as connection:
            return set(connection.scalars(select(schema.instances.c.path)))

    def _record(self, connection: Connection, arrivals: Sequence[Arrival]) -> None:
        now = self._time.now()
        new = _without_known(connection, arrivals)
        touched: dict[str, Row[Any]] = {}
        # Sorted, so that two writers lock rows in one order.
        for group in sorted({_group(a) for a in new}):
            members = [a for a in new if _group(a) == group]
            row = self._submission_for(connection, members[0], now)
            touched[row.id] = row
            rows = [self._instance(a, row.id) for a in members]
            connection.execute(insert(schema.instances), rows)
        for row in _asked_again(connection, arrivals, now):
            touched[row.id] = row
        for principal in sorted({a.principal for a in arrivals if a.origin == Origin.DICOM}):
            last = max(a.arrived_at for a in arrivals if a.principal == principal)
            heard = moments.values("last_arrival", self._time.past(last))
            _put_peer(connection, principal, **heard)
        for row in touched.values():
            if row.origin == Origin.DICOM:
                self._set_close_after(connection, row, now)

    def _submission_for(self, connection: Connection, first: Arrival, now: Moment) -> Row[Any]:
        if first.origin != Origin.DICOM:
            row = _submission(connection, first.upload)
            if row is None:
                row = _open(connection, now, first.upload, first.origin, first.principal, {}, first)
            elif not row.series_uid:
                _name_series(connection, first)
            return row
        return open_version(connection, now, first)

    def _instance(self, arrival: Arrival, submission_id: str) -> dict[str, object]:
        position = arrival.position_lps
        return {
            "path": arrival.path.as_posix(),
            "submission_id": submission_id,
            "study_uid": arrival.study_uid,
            "series_uid": arrival.series_uid,
            "sop_uid": arrival.sop_uid,
            "sop_class_uid": arrival.sop_class_uid,
            "sha256": arrival.sha256,
            "size_bytes": arrival.size_bytes,
            "position_lps": list(position) if position else None,
            "expected_count": arrival.expected_count,
            **moments.values("arrived", self._time.past(arrival.arrived_at)),
        }


def _asked_again(
    connection: Connection, arrivals: Sequence[Arrival], now: Moment
) -> Iterator[Row[Any]]:
    """Open a version for each PACS series that came again after it had come to nothing.

    It was refused, or its jobs failed, and somebody has changed the settings or mended the cause:
    sending the same instances again is all that a PACS can do to say so.
    """
    c = schema.submissions.c
    one_each = {_group(a): a for a in arrivals if a.origin == Origin.DICOM}
    for _, arrival in sorted(one_each.items(), key=lambda item: item[0]):
        is_open = and_(versions_of(arrival), c.state == SubmissionState.OPEN)
        answer = select(schema.jobs.c.id).where(living_jobs(arrival))
        if not any(finds(connection, q) for q in (select(c.id).where(is_open), answer)):
            yield open_version(connection, now, arrival)


def _look_again(connection: Connection, principal: str, now: Moment) -> None:
    c = schema.submissions.c
    waiting = and_(
        c.principal == principal,
        c.origin == Origin.DICOM,
        c.state == SubmissionState.OPEN,
        c.close_after_at > now.at,
    )
    connection.execute(
        update(schema.submissions).where(waiting).values(moments.values("close_after", now))
    )


def open_version(connection: Connection, now: Moment, series: Arrival | Row[Any]) -> Row[Any]:
    """Return the version of a PACS series that takes instances; opens the next where none does.

    Parameters
    ----------
    series
        Anything with `principal`, `series_uid` and `study_uid`.
    """
    c = schema.submissions.c
    versions = versions_of(series)
    query = select(schema.submissions).where(versions, c.state == SubmissionState.OPEN)
    row = connection.execute(query.with_for_update()).one_or_none()
    if row is not None:
        return row
    version = connection.scalar(select(func.coalesce(func.max(c.version), 0)).where(versions))
    return _open(
        connection,
        now,
        uuid4().hex,
        Origin.DICOM,
        series.principal,
        {},
        series,
        version=(version or 0) + 1,
    )


def _open(
    connection: Connection,
    now: Moment,
    submission_id: str,
    origin: Origin,
    principal: str,
    asked: Mapping[str, object],
    series: Arrival | Row[Any] | None = None,
    version: int = 1,
) -> Row[Any]:
    """Insert one; `asked` holds `model` and `channels` of an upload."""
    row = connection.execute(
        insert(schema.submissions)
        .values(
            id=submission_id,
            origin=origin,
            principal=principal,
            series_uid=series.series_uid if series is not None else "",
            study_uid=series.study_uid if series is not None else "",
            version=version,
            state=SubmissionState.OPEN,
            opened_at=now.at,
            **asked,
        )
        .returning(*schema.submissions.c)
    ).one()
    submission_event(connection, now, submission_id, SubmissionState.OPEN)
    return row


def _name_series(connection: Connection, first: Arrival) -> None:
    """An upload is opened before its first instance says which series it is."""
    connection.execute(
        update(schema.submissions)
        .where(schema.submissions.c.id == first.upload)
        .values(series_uid=first.series_uid, study_uid=first.study_uid)
    )


def _unclosed() -> ColumnElement[bool]:
    """Which submissions are uploads whose client has not sent everything."""
    c = schema.submissions.c
    is_open = c.state == SubmissionState.OPEN
    return and_(c.origin != Origin.DICOM, is_open, c.close_after_at.is_(None))


def _submission(connection: Connection, submission_id: str) -> Row[Any] | None:
    query = select(schema.submissions).where(schema.submissions.c.id == submission_id)
    return connection.execute(query).one_or_none()


def _group(arrival: Arrival) -> tuple[str, str, str, str]:
    series = arrival.series_uid if arrival.origin == Origin.DICOM else ""
    return (arrival.origin, arrival.principal, arrival.upload, series)


def _without_known(connection: Connection, arrivals: Iterable[Arrival]) -> list[Arrival]:
    """Return each new path once."""
    new = {arrival.path.as_posix(): arrival for arrival in arrivals}
    paths = list(new)
    for start in range(0, len(paths), _CHUNK):
        c = schema.instances.c
        for path in connection.scalars(
            select(c.path).where(c.path.in_(paths[start : start + _CHUNK]))
        ):
            del new[path]
    return list(new.values())


def _put_peer(connection: Connection, principal: str, **columns: object) -> None:
    here = schema.peers.c.principal == principal
    if connection.execute(update(schema.peers).where(here).values(columns)).rowcount == 0:
        connection.execute(insert(schema.peers).values(principal=principal, **columns))

"""What is known of a submission's arrival, and when it closes because of that."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, select, update

from viscera.domain.sources import Arrival, Closing, Origin
from viscera.jobs import listening, moments, schema
from viscera.jobs.moments import Moment
from viscera.jobs.part import Part

_LAST = 64


def of_series(row: Row[Any]) -> ColumnElement[bool]:
    """Which submissions belong together with `row`: its versions, or an upload alone."""
    c = schema.submissions.c
    return versions_of(row) if row.origin == Origin.DICOM else and_(c.id == row.id)


def versions_of(series: Arrival | Row[Any]) -> ColumnElement[bool]:
    """Which submissions are versions of a PACS series."""
    c = schema.submissions.c
    return and_(
        c.origin == Origin.DICOM,
        c.principal == series.principal,
        c.series_uid == series.series_uid,
    )


def through_version(row: Row[Any]) -> ColumnElement[bool]:
    """Which instances a version holds: its own and those of all earlier ones."""
    versions = select(schema.submissions.c.id).where(
        of_series(row), schema.submissions.c.version <= row.version
    )
    return schema.instances.c.submission_id.in_(versions)


def paths_of(connection: Connection, row: Row[Any]) -> tuple[str, ...]:
    """Return the spool paths of all instances that a version holds, in order of arrival."""
    c = schema.instances.c
    query = select(c.path).where(through_version(row))
    if row.owner:  # claimed: what came later belongs to the next version
        query = query.where(c.seq <= row.claimed_through)
    return tuple(connection.scalars(query.order_by(c.seq)))


class Gathering(Part):
    """Sets `close_after` by the injected pure function."""

    def _set_close_after(self, connection: Connection, row: Row[Any], now: Moment) -> Moment:
        closes = self._time.of(self._close_after(self._closing(connection, row, now)))
        connection.execute(
            update(schema.submissions)
            .where(schema.submissions.c.id == row.id)
            .values(moments.values("close_after", closes))
        )
        return closes

    def _closing(self, connection: Connection, row: Row[Any], now: Moment) -> Closing:
        """Times are told as today's wall clock would, so that setting it moves nothing."""
        c = schema.instances.c
        last = select(schema.instances).where(c.submission_id == row.id)
        arrivals = [
            self._time.retell(instance, "arrived", now)
            for instance in connection.execute(last.order_by(c.seq.desc()).limit(_LAST))
        ]
        held = through_version(row)
        count, expected = connection.execute(
            select(func.count(), func.max(c.expected_count)).where(held)
        ).one()
        positions = connection.scalars(
            select(c.position_lps).where(held, c.position_lps.is_not(None))
        )
        peer = connection.execute(
            select(schema.peers).where(schema.peers.c.principal == row.principal)
        ).one_or_none()
        heard = peer is not None and peer.last_arrival_at is not None
        return Closing(
            arrivals=tuple(sorted(arrivals)) or (row.opened_at,),
            instances=count,
            expected_count=expected,
            positions_lps=tuple((x, y, z) for x, y, z in positions),
            peer_last_arrival=(
                self._time.retell(peer, "last_arrival", now)
                if peer is not None and heard
                else max(arrivals, default=row.opened_at)
            ),
            peer_associations_open=listening.open_now(connection, row.principal, now),
        )

"""Deliveries that count only once the destination has said that it keeps them.

Each request for storage commitment has a row. A report is found by its transaction, not by a
lease: it comes when the destination likes, to whichever process listens.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from viscera.domain.jobs import Claim, Delivery, DeliveryState
from viscera.jobs import leases, moments, schema
from viscera.jobs.outbox import forget_requests, lock_job, seconds_if_last, sending
from viscera.jobs.part import Part
from viscera.jobs.rows import delivery_of

_table = schema.deliveries
_requests = schema.commitments


class Commitments(Part):
    """Implements the part of `protocol.DeliveryStore` that is about commitment."""

    def stored(self, claim: Claim, transaction_uid: str, until: datetime, note: str = "") -> None:
        """The destination has it, and is about to be asked for its commitment.

        Parameters
        ----------
        transaction_uid
            Of the request, which must not go out before this returns.
        until
            When it is asked again, should nothing be reported.
        note
            For people.

        Raises
        ------
        LeaseLost
            See :meth:`claim_delivery`; or an earlier request was answered meanwhile.
        """
        with self._db.write() as connection:
            wait = moments.values("not_before", self._time.of(until))
            change = update(_table).where(sending(claim))
            change = change.values(
                state=DeliveryState.AWAITING_COMMITMENT, last_error=note, **wait, **leases.drop()
            )
            leases.must_change(connection, change, claim)
            connection.execute(
                insert(_requests).values(
                    transaction_uid=transaction_uid,
                    delivery_id=claim.id,
                    asked_at=self._time.now().at,
                )
            )

    def not_asked(self, transaction_uid: str, next_attempt_at: datetime, error: str) -> None:
        """The request did not reach the destination, or was not taken."""
        with self._db.write() as connection:
            row = _asked_by(connection, transaction_uid, lock=True)
            if row is None:
                return
            connection.execute(
                delete(_requests).where(_requests.c.transaction_uid == transaction_uid)
            )
            pause = moments.values("not_before", self._time.of(next_attempt_at))
            connection.execute(
                update(_table)
                .where(_table.c.id == row.id, _table.c.state == DeliveryState.AWAITING_COMMITMENT)
                .values(state=DeliveryState.SENT, last_error=error, **pause)
            )

    def asked_by(self, transaction_uid: str) -> Delivery | None:
        """Return what awaits an answer to this request; None: nothing does any more."""
        with self._db.read() as connection:
            row = _asked_by(connection, transaction_uid)
            return delivery_of(connection, row) if row is not None else None

    def committed(self, transaction_uid: str) -> float | None:
        """The destination is responsible for it, whichever request it answers.

        Returns
        -------
        float or None
            As :meth:`delivered`.
        """
        with self._db.write() as connection:
            row = _asked_by(connection, transaction_uid, lock=True)
            if row is None:
                return None
            now, job = self._time.now(), lock_job(connection, row.id)
            connection.execute(
                update(_table)
                .where(_table.c.id == row.id)
                .values(
                    state=DeliveryState.DELIVERED, last_error="", ended_at=now.at, **leases.drop()
                )
            )
            forget_requests(connection, row.id)
            return seconds_if_last(connection, job, now)

    def not_committed(self, transaction_uid: str, next_attempt_at: datetime, error: str) -> bool:
        """The destination does not have it: it is queued again, and sent whole.

        Returns
        -------
        bool
            False where a later request is open: what answers that one counts.
        """
        with self._db.write() as connection:
            row = _asked_by(connection, transaction_uid, lock=True)
            if row is None or _latest(connection, row.id) != transaction_uid:
                return False
            pause = moments.values("not_before", self._time.of(next_attempt_at))
            connection.execute(
                update(_table)
                .where(_table.c.id == row.id)
                .values(state=DeliveryState.QUEUED, last_error=error, **pause, **leases.drop())
            )
            forget_requests(connection, row.id)
            return True


def _asked_by(
    connection: Connection, transaction_uid: str, *, lock: bool = False
) -> Row[Any] | None:
    query = (
        select(_table)
        .join(_requests, _requests.c.delivery_id == _table.c.id)
        .where(_requests.c.transaction_uid == transaction_uid)
    )
    if lock:
        query = query.with_for_update(of=_table)
    return connection.execute(query).one_or_none()


def _latest(connection: Connection, delivery_id: str) -> str | None:
    query = select(_requests.c.transaction_uid).where(_requests.c.delivery_id == delivery_id)
    return connection.scalar(query.order_by(_requests.c.seq.desc()).limit(1))

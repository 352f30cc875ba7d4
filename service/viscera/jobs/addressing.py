"""Which files of a result go where: a row per object and destination."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, insert, select, update

from viscera.domain.jobs import Address, DeliveryState
from viscera.domain.results import ResultKind
from viscera.jobs import moments, schema
from viscera.jobs.moments import Moment

UNDER_WAY = (
    DeliveryState.QUEUED,
    DeliveryState.SENDING,
    DeliveryState.SENT,
    DeliveryState.AWAITING_COMMITMENT,
)
_RANKS = {kind: rank for rank, kind in enumerate(ResultKind)}


def address(
    connection: Connection,
    now: Moment,
    job_id: str,
    addresses: Sequence[Address],
    *,
    keep: Sequence[DeliveryState] = UNDER_WAY,
) -> None:
    """Queue, or bar, what each address takes of a job's results.

    What is in a state of `keep` stays as it is; what has ended otherwise begins anew.
    """
    d, r = schema.deliveries.c, schema.results.c
    query = select(schema.deliveries).where(d.job_id == job_id).with_for_update()
    there = {(row.result_seq, row.destination): row for row in connection.execute(query)}
    results = select(schema.results).where(r.job_id == job_id).order_by(r.seq)
    files = connection.execute(results).all()
    for one in addresses:
        for file in files:
            if ResultKind(file.kind) not in one.kinds:
                continue
            row = there.get((file.seq, one.destination))
            if row is None:
                _insert(connection, now, file, one)
            elif row.state not in keep:
                again = update(schema.deliveries).where(d.seq == row.seq)
                connection.execute(again.values(**_fresh(now, one)))


def _insert(connection: Connection, now: Moment, file: Row[Any], one: Address) -> None:
    connection.execute(
        insert(schema.deliveries).values(
            id=uuid4().hex,
            job_id=file.job_id,
            result_seq=file.seq,
            destination=one.destination,
            rank=_RANKS[ResultKind(file.kind)],
            **_fresh(now, one),
        )
    )


def _fresh(now: Moment, one: Address) -> dict[str, Any]:
    return {
        "state": DeliveryState.BARRED if one.barred else DeliveryState.QUEUED,
        "attempts": 0,
        "last_error": one.barred,
        "ended_at": now.at if one.barred else None,
        **moments.values("not_before", now),
    }

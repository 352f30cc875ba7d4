"""How many associations a peer has open, over all listener processes."""

from typing import Any

from sqlalchemy import Connection, Row, and_, delete, insert, select, update

from viscera.jobs import moments, schema
from viscera.jobs.moments import Moment
from viscera.jobs.owners import is_dead

NOTED_FOR_S = 180.0
"""A number that was not told again for so long is of a listener that ended on another host."""


def note(connection: Connection, principal: str, listener: str, open_now: int, now: Moment) -> None:
    """Keep what one listener says, and forget what dead ones said."""
    c = schema.listeners.c
    gone = [row.listener for row in _rows(connection, principal) if _is_over(row, now)]
    if open_now == 0:
        gone.append(listener)
    if gone:
        of_gone = and_(c.principal == principal, c.listener.in_(gone))
        connection.execute(delete(schema.listeners).where(of_gone))
    if open_now == 0:
        return
    here = and_(c.principal == principal, c.listener == listener)
    told = {"associations_open": open_now, **moments.values("noted", now)}
    if connection.execute(update(schema.listeners).where(here).values(told)).rowcount == 0:
        connection.execute(
            insert(schema.listeners).values(principal=principal, listener=listener, **told)
        )


def open_now(connection: Connection, principal: str, now: Moment) -> int:
    """Return how many associations `principal` has open with listeners that live."""
    rows = _rows(connection, principal)
    return sum(row.associations_open for row in rows if not _is_over(row, now))


def _rows(connection: Connection, principal: str) -> list[Row[Any]]:
    of_peer = schema.listeners.c.principal == principal
    return list(connection.execute(select(schema.listeners).where(of_peer)))


def _is_over(row: Row[Any], now: Moment) -> bool:
    if is_dead(row.listener):
        return True
    if row.noted_boot == now.boot:
        return bool(now.uptime_s - row.noted_uptime_s > NOTED_FOR_S)
    return bool((now.at - row.noted_at).total_seconds() > NOTED_FOR_S)

"""Leases and fences: who may write to a row.

A claim counts the row's fence up and every later write shows it; so a worker that slept through
its lease is refused, whatever the clocks say. The lease only decides when another one may claim:
within this boot by CLOCK_BOOTTIME, at once where the owner is known to be dead, and by the wall
clock where another host or an earlier boot wrote it. A lease further ahead than any honest clock
would put it is one that a clock set back left behind, and counts as run out.
"""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, or_, select, update

from viscera.domain.jobs import Claim
from viscera.errors import LeaseLost
from viscera.jobs import moments
from viscera.jobs.moments import Moment
from viscera.jobs.owners import is_dead


def free(connection: Connection, table: Table, now: Moment, lease_s: float) -> ColumnElement[bool]:
    """Whether nobody works on a row, or nobody who still may."""
    c = table.c
    held = select(c.owner).where(c.owner != "").distinct()
    dead = [owner for owner in connection.scalars(held) if is_dead(owner)]
    here = and_(c.lease_boot == now.boot, c.lease_uptime_s <= now.uptime_s)
    elsewhere = and_(
        c.lease_boot != now.boot,
        or_(c.lease_at <= now.at, c.lease_at > now.plus(2 * lease_s).at),
    )
    return or_(c.owner == "", c.owner.in_(dead), here, elsewhere)


def take(table: Table, owner: str, now: Moment, lease_s: float) -> dict[str, Any]:
    """Return what a claim writes."""
    lease = moments.values("lease", now.plus(lease_s))
    return {"owner": owner, "fence": table.c.fence + 1, **lease}


def drop() -> dict[str, Any]:
    """Return what giving a row back writes; the fence stays, so the next claim's is new."""
    return {"owner": "", **moments.values("lease", None)}


def mine(table: Table, claim: Claim) -> ColumnElement[bool]:
    """Whether a row is still the claimant's."""
    c = table.c
    return and_(c.id == claim.id, c.owner == claim.owner, c.fence == claim.fence)


def extend(connection: Connection, table: Table, claim: Claim, now: Moment, lease_s: float) -> None:
    """Start the lease anew. Raises `LeaseLost`."""
    change = update(table).where(mine(table, claim))
    must_change(connection, change.values(moments.values("lease", now.plus(lease_s))), claim)


def must_change(connection: Connection, statement: Any, claim: Claim) -> None:
    """Run an update that checks the claim; raises `LeaseLost` where it finds no row."""
    if connection.execute(statement).rowcount != 1:
        raise LeaseLost(f"{claim.id}: fence {claim.fence} is not the row's any more")

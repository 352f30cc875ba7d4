"""Times that a wall clock set back cannot break.

Whatever waits (a lease, a backoff, a quiet period) is kept three times: as UTC for people and for
other hosts, and as CLOCK_BOOTTIME seconds with the boot's id for this one. Within one boot the
second pair decides, because it only ever goes forward and counts a suspended host's sleep.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Row, and_, or_

from viscera.jobs.protocol import Clock

_LONGEST_WAIT_S = 3 * 86400.0

Steady = Callable[[], float]
"""Returns seconds that never go back; a test's fake derives them from its fake clock."""


def boottime_s() -> float:
    """Seconds since this host booted, suspended time included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """This boot's id; containers of one host share it, as they share CLOCK_BOOTTIME."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@dataclass(frozen=True, slots=True)
class Moment:
    """One point in time, on the wall and since boot."""

    at: datetime
    boot: str
    uptime_s: float

    def plus(self, seconds: float) -> "Moment":
        """Return the moment `seconds` later; negative: earlier."""
        return Moment(self.at + timedelta(seconds=seconds), self.boot, self.uptime_s + seconds)


class Timekeeper:
    """Reads both clocks and translates between them.

    Parameters
    ----------
    clock
        Aware UTC.
    steady
        Seconds since boot; :func:`boottime_s` but in tests.
    """

    def __init__(self, clock: Clock, steady: Steady = boottime_s) -> None:
        self._clock, self._steady, self._boot = clock, steady, boot_id()

    def now(self) -> Moment:
        """Both clocks now."""
        return Moment(self._clock(), self._boot, self._steady())

    def of(self, at: datetime) -> Moment:
        """The moment that today's wall clock calls `at`."""
        now = self.now()
        return now.plus((at - now.at).total_seconds())

    def past(self, at: datetime) -> Moment:
        """As :meth:`of`, but not after now: nothing that happened lies in the future."""
        now = self.now()
        return now.plus(min(0.0, (at - now.at).total_seconds()))

    def retell(self, row: Row[Any], name: str, now: Moment) -> datetime:
        """Say when something of this boot happened in terms of today's wall clock.

        What an earlier boot or another host wrote is told as written, never after `now`.
        """
        fields = row._mapping
        if fields[f"{name}_boot"] == now.boot:
            return now.plus(min(0.0, fields[f"{name}_uptime_s"] - now.uptime_s)).at
        at: datetime = fields[f"{name}_at"]
        return min(at, now.at)


def values(name: str, moment: Moment | None) -> dict[str, object]:
    """Return the three columns called `name` for an insert or update."""
    return {
        f"{name}_at": moment.at if moment else None,
        f"{name}_boot": moment.boot if moment else "",
        f"{name}_uptime_s": moment.uptime_s if moment else None,
    }


def passed(table: FromClause, name: str, now: Moment) -> ColumnElement[bool]:
    """Whether a wait is over by either clock; NULL never is.

    Either: a wall clock set back must not prolong a pause, and one set forward may end it. What an
    earlier boot wrote further ahead than anything waits was written by a clock that was wrong.
    """
    at, boot, uptime_s = (table.c[f"{name}_{part}"] for part in ("at", "boot", "uptime_s"))
    absurd = and_(boot != now.boot, at > now.plus(_LONGEST_WAIT_S).at)
    return or_(at <= now.at, and_(boot == now.boot, uptime_s <= now.uptime_s), absurd)


def absent_or_passed(table: FromClause, name: str, now: Moment) -> ColumnElement[bool]:
    """As :func:`passed`, and NULL is no wait at all."""
    return or_(table.c[f"{name}_at"].is_(None), passed(table, name, now))

"""The job store that ships: SQLAlchemy Core over SQLite or PostgreSQL."""

from pathlib import Path

from viscera.config import JobSettings
from viscera.jobs.commitment import Commitments
from viscera.jobs.database import Database
from viscera.jobs.expiry import Expiry
from viscera.jobs.intake import Intake
from viscera.jobs.moments import Steady, Timekeeper, boottime_s
from viscera.jobs.outbox import Deliveries
from viscera.jobs.part import CloseAfter
from viscera.jobs.protocol import Clock
from viscera.jobs.queries import Queries
from viscera.jobs.submissions import Submissions
from viscera.jobs.waiting import Waiting
from viscera.jobs.work import Work


class SqlJobStore(Intake, Submissions, Work, Deliveries, Commitments, Queries, Waiting, Expiry):
    """Implements `protocol.JobStore`; safe for threads and for many processes.

    Every method may raise `StoreUnavailable`; then nothing was changed, or (a server that went
    away during the commit) all of it.

    Parameters
    ----------
    url
        SQLAlchemy URL of a SQLite file or a PostgreSQL database.
    clock
        Aware UTC, for everything that people read.
    settings
        Leases, attempts and backoff.
    close_after
        Pure: when a submission closes, given what is known of its arrival.
    spool_root
        Under which the paths of instances lie.
    steady
        Seconds that never go back, for everything that waits; a test that turns `clock` turns
        this with it: ``steady=lambda: clock().timestamp()``.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        settings: JobSettings,
        close_after: CloseAfter,
        spool_root: Path,
        steady: Steady = boottime_s,
    ) -> None:
        time = Timekeeper(clock, steady)
        super().__init__(Database(url), time, settings, close_after, spool_root.absolute())

    def migrate(self) -> None:
        """Bring the schema to this version's; safe when several roles start at once."""
        self._db.migrate()

    def require_current(self) -> None:
        """As `database.Database.require_current`."""
        self._db.require_current()

    def close(self) -> None:
        """Close the connections."""
        self._db.close()

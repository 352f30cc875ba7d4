"""What the parts of the store share."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, insert

from viscera.config import JobSettings
from viscera.domain.jobs import JobState
from viscera.domain.sources import Closing
from viscera.jobs import schema
from viscera.jobs.database import Database
from viscera.jobs.moments import Moment, Timekeeper

CloseAfter = Callable[[Closing], datetime]


class Part:
    """The database, the clocks and the settings; `store.SqlJobStore` joins all parts."""

    def __init__(
        self,
        database: Database,
        time: Timekeeper,
        settings: JobSettings,
        close_after: CloseAfter,
        spool_root: Path,
    ) -> None:
        self._db, self._time, self._settings = database, time, settings
        self._close_after, self._spool_root = close_after, spool_root


def finds(connection: Connection, query: Select[Any]) -> bool:
    """Whether `query` has a row."""
    return connection.execute(query.limit(1)).first() is not None


def job_event(
    connection: Connection,
    now: Moment,
    job_id: str,
    state: JobState,
    stage: str = "",
    progress: float = 0.0,
    message: str = "",
) -> None:
    """Keep one change of a job, in the transaction that makes it."""
    connection.execute(
        insert(schema.events).values(
            job_id=job_id,
            at=now.at,
            state=state,
            stage=stage,
            progress=progress,
            message=message,
        )
    )


def submission_event(
    connection: Connection, now: Moment, submission_id: str, state: str, message: str = ""
) -> None:
    """Keep one change of a submission, in the transaction that makes it."""
    connection.execute(
        insert(schema.events).values(
            submission_id=submission_id, at=now.at, state=state, message=message
        )
    )

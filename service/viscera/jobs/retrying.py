"""Which job may run again, and from which instances."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select

from viscera.domain.results import ResultFile
from viscera.files.faults import storage_faults_named
from viscera.jobs import schema
from viscera.jobs.gather import paths_of


def is_lost(root: Path, results: Sequence[ResultFile]) -> bool:
    """Whether one of a job's committed files is not there any more, or has other bytes.

    Parameters
    ----------
    root
        Folder that the files' paths are relative to.

    Raises
    ------
    StorageUnavailable
        If the file system does not answer.
    """
    return not all(_is_whole(root / file.path, file.sha256) for file in results)


def submission_with_instances(connection: Connection, job: Row[Any]) -> Row[Any] | None:
    """Return the submission that a job can run from: its own, or a later one that asked for it.

    A series that is sent again after its instances had expired gets the job that is there.
    """
    s, links = schema.submissions.c, schema.submission_jobs.c
    query = (
        select(schema.submissions)
        .join(schema.submission_jobs, links.submission_id == s.id)
        .where(links.job_id == job.id, s.series_uid == job.series_uid)
        .order_by(s.id != job.submission_id, s.seq.desc())
    )
    rows = connection.execute(query).all() if job.stacks else ()
    return next((row for row in rows if paths_of(connection, row)), None)


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        with storage_faults_named(), path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False  # gone, or a block of it cannot be read

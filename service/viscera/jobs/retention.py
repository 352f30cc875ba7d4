"""The sweep: what has expired goes, first the files and then the rows that name them.

In that order a crash between the two is mended by the next sweep.
"""

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from viscera import log
from viscera.domain.sources import Arrival
from viscera.jobs.leftovers import UploadFolders, sweep_uploads
from viscera.jobs.protocol import RetentionStore

_log = log.get(__name__)

# A folder that no row knows may belong to a store that is being restored from a backup.
_STRANGER_S = 86400.0


class SpoolFiles(UploadFolders, Protocol):
    """What the sweep needs of the spool."""

    def remove(self, paths: Sequence[str | Path], before: datetime | None = None) -> bool:
        """Remove instances by their paths relative to the spool's root.

        None of them, and False, if one came again since `before`.
        """

    def readable(self, paths: Iterable[str | Path]) -> Iterator[Arrival]:
        """Give what lies at `paths`, as far as anything does that can be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What one sweep removed."""

    submissions: int
    jobs: int
    folders: int
    uploads: int = 0
    """That nobody completed."""


def sweep(
    store: RetentionStore,
    spool: SpoolFiles,
    results_root: Path,
    *,
    keep_instances_days: float,
    keep_jobs_days: float,
) -> Swept:
    """Remove expired instances, results and result folders that never came to count.

    Parameters
    ----------
    results_root
        Holds ``JOB/FENCE/``.
    keep_instances_days, keep_jobs_days
        ``spool.keep_days`` and ``jobs.keep_days``.

    Raises
    ------
    StoreUnavailable
        Call again later.
    """
    store.hold_reserve()
    swept = Swept(
        uploads=sweep_uploads(store, spool, keep_instances_days),
        submissions=_sweep_spool(store, spool, keep_instances_days),
        jobs=_sweep_results(store, results_root, keep_jobs_days),
        folders=_sweep_folders(store, results_root),
    )
    if swept != Swept(submissions=0, jobs=0, folders=0):
        _log.info("swept", **asdict(swept))
    return swept


def _sweep_spool(store: RetentionStore, spool: SpoolFiles, keep_days: float) -> int:
    expired = store.expired_submissions(keep_days)
    before = datetime.now(UTC) - timedelta(days=keep_days)
    removed = 0
    for submission_id, paths in expired:
        # A series that a PACS sends again is whole or gone, or what comes next makes half of one.
        if not spool.remove(paths, before):
            continue
        removed += 1
        store.forget_instances(submission_id)
        # What was sent again between the two found its old row, and was not recorded.
        store.record_arrivals(tuple(spool.readable(paths)))
    return removed


def _sweep_results(store: RetentionStore, root: Path, keep_days: float) -> int:
    expired = store.expired_jobs(keep_days)
    for job_id in expired:
        shutil.rmtree(root / job_id, ignore_errors=True)
        store.forget_job(job_id)
    return len(expired)


def _sweep_folders(store: RetentionStore, root: Path) -> int:
    """Remove the folders of attempts that died.

    They are listed before the store is asked: a fence that is claimed in between has no folder
    in the list.
    """
    removed = 0
    for job, attempts in list(_attempts(root)):
        live = store.live_fences(job.name)
        if live is None and time.time() - job.stat().st_mtime < _STRANGER_S:
            continue
        for attempt in attempts:
            if attempt.name not in {str(fence) for fence in live or ()}:
                shutil.rmtree(attempt, ignore_errors=True)
                removed += 1
        if live is None:
            shutil.rmtree(job, ignore_errors=True)
    return removed


def _attempts(root: Path) -> Iterator[tuple[Path, list[Path]]]:
    for job in root.iterdir() if root.is_dir() else ():
        if job.is_dir():
            yield job, [attempt for attempt in job.iterdir() if attempt.is_dir()]

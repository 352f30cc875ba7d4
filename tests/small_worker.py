"""A worker process whose jobs write a few files.

`python small_worker.py URL RESULTS SPOOL LEASE_S`; the kill tests end it from outside, at log
lines and at random times.
"""

import hashlib
import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from store_rows import PACS
from viscera import log
from viscera.config import JobSettings, LogSettings
from viscera.domain.jobs import Job, JobKind, Outcome, Plan, PlannedJob
from viscera.domain.models import Grade
from viscera.domain.results import Decision, ResultFile, ResultKind, Verdict
from viscera.domain.sources import SourceFrame, Submission
from viscera.jobs.store import SqlJobStore
from viscera.jobs.worker import Report, WorkerLoop
from viscera.roles.stopping import stop_on_signals


def plan(submission: Submission) -> Plan:
    frames = tuple(SourceFrame(path.stem, 1) for path in submission.paths)
    key = hashlib.sha256(submission.series_uid.encode()).hexdigest()
    job = PlannedJob(key=key, kind=JobKind.SEGMENT, stacks=(frames,), model="band/1")
    return Plan(jobs=(job,))


def content(key: str, kind: str) -> bytes:
    return f"{key} {kind}\n".encode() * 100


def run(job: Job, paths: tuple[Path, ...], folder: Path, report: Report) -> Outcome:
    results = []
    for kind in (ResultKind.SEG, ResultKind.SR, ResultKind.VOLUMES):
        report(f"stage-{kind}", 0.0, "small")
        time.sleep(random.uniform(0.01, 0.15))
        path = folder / kind
        path.write_bytes(content(job.key, kind))
        results.append(
            ResultFile(
                kind=kind,
                path=path.relative_to(folder.parents[1]),
                sha256=hashlib.sha256(content(job.key, kind)).hexdigest(),
                size_bytes=path.stat().st_size,
            )
        )
    return Outcome(
        results=tuple(results),
        verdict=Verdict(Decision.DELIVER),
        modality="CT",
        grade=Grade.VALIDATED,
    )


def main() -> None:
    url, results, spool, lease_s = sys.argv[1:]
    log.configure(LogSettings(), "work")
    settings = JobSettings(
        url=url,  # type: ignore[arg-type]
        results=Path(results),
        lease_s=float(lease_s),
        poll_s=0.05,
        backoff_s=0.1,
        max_attempts=20,
    )
    store = SqlJobStore(
        url,
        clock=lambda: datetime.now(UTC),
        settings=settings,
        close_after=lambda closing: closing.arrivals[0],
        spool_root=Path(spool),
    )
    store.migrate()
    loop = WorkerLoop(store, settings, plan=plan, run=run, addresses=lambda job, outcome: PACS)
    loop.run(stop_on_signals())


if __name__ == "__main__":
    main()

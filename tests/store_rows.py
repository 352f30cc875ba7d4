"""Rows for tests of the job store, and a time that tests turn."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from viscera.config import JobSettings
from viscera.domain.jobs import Address, Claim, Job, JobKind, PlannedJob
from viscera.domain.results import Decision, ResultFile, ResultKind, Verdict
from viscera.domain.sources import Arrival, Closing, Origin, SourceFrame
from viscera.jobs.store import SqlJobStore

QUIET_S = 30.0
DELIVER = Verdict(Decision.DELIVER)


@dataclass
class Time:
    """A wall clock and a steady one; `pass_by` moves both, `set_wall` only the first."""

    wall: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)
    uptime_s: float = 1000.0

    def clock(self) -> datetime:
        return self.wall

    def steady(self) -> float:
        return self.uptime_s

    def pass_by(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.uptime_s += seconds

    def set_wall(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)


def close_after(closing: Closing) -> datetime:
    """A plain quiet period over everything that the peer sends; at once on the full count."""
    if closing.expected_count is not None and closing.instances >= closing.expected_count:
        return closing.arrivals[-1]
    return closing.peer_last_arrival + timedelta(seconds=QUIET_S)


def open_store(
    url: str,
    spool_root: Path,
    time: Time | None = None,
    *,
    closing: Callable[[Closing], datetime] = close_after,
    **settings: object,
) -> SqlJobStore:
    kept = {"url": url, "lease_s": 30.0, "max_attempts": 3, "backoff_s": 5.0} | settings
    clocks = {"clock": time.clock, "steady": time.steady} if time else {"clock": now}
    return SqlJobStore(
        url,
        settings=JobSettings(**kept),  # type: ignore[arg-type]
        close_after=closing,
        spool_root=spool_root,
        **clocks,  # type: ignore[arg-type]
    )


def now() -> datetime:
    return datetime.now(UTC)


def arrival(
    number: int,
    at: datetime,
    *,
    series: str = "1.2.840.1",
    principal: str = "pacs",
    upload: str = "",
    expected: int | None = None,
) -> Arrival:
    origin = Origin.GRPC if upload else Origin.DICOM
    return Arrival(
        origin=origin,
        principal=principal,
        upload=upload,
        study_uid="1.2.840",
        series_uid=series,
        sop_uid=f"{series}.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        path=Path(f"{origin}/{upload or principal}/{series}/{number}.dcm"),
        sha256=f"{number:064x}",
        size_bytes=100,
        arrived_at=at,
        position_lps=(0.0, 0.0, float(number)),
        expected_count=expected,
    )


def plan(key: str, frames: int = 3, series: str = "1.2.840.1") -> PlannedJob:
    stack = tuple(SourceFrame(f"{series}.{n}", 1) for n in range(frames))
    return PlannedJob(key=key, kind=JobKind.SEGMENT, stacks=(stack,), model="band/1")


def result(kind: ResultKind, job_id: str, fence: int, sha256: str = "0" * 64) -> ResultFile:
    return ResultFile(
        kind=kind,
        path=Path(f"{job_id}/{fence}/{kind}"),
        sha256=sha256,
        size_bytes=1,
        sop_uid="1.2.3",
    )


def submit(
    store: SqlJobStore, time: Time, *keys: str, first: int = 0, count: int = 3, **where: str
) -> tuple[Job, ...]:
    """Send instances, let the series close, and settle it into a job for each key."""
    store.record_arrivals([arrival(n, time.wall, **where) for n in range(first, first + count)])
    if where.get("upload"):
        store.close_upload(where["upload"])
    else:
        time.pass_by(QUIET_S + 1)
    claimed = store.claim_submission("planner")
    assert claimed is not None
    frames = len(claimed[1].paths)
    return store.settle_submission(claimed[0], (), [plan(key, frames) for key in keys])


def addresses(*names: str) -> tuple[Address, ...]:
    """PACS of these names: each takes SEG and SR."""
    kinds = (ResultKind.SEG, ResultKind.SR)
    return tuple(Address(destination=name, kinds=kinds) for name in names)


PACS = addresses("pacs")


def finish(store: SqlJobStore, destinations: tuple[str, ...] = ("pacs",)) -> tuple[Claim, Job]:
    """Run the next job to its commit."""
    claimed = store.claim_job("worker")
    assert claimed is not None
    claim, job = claimed
    files = [result(kind, job.id, claim.fence) for kind in (ResultKind.SEG, ResultKind.SR)]
    store.finish_job(claim, files, DELIVER, addresses(*destinations))
    return claim, store.get_job(job.id)

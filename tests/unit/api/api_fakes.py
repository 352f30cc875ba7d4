"""A job store in memory, and jobs for it. The real one has its contract suite in jobs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from viscera.domain.jobs import Choice, Delivery, Job, JobKind, JobState
from viscera.domain.sources import (
    Arrival,
    Channels,
    Origin,
    SourceFrame,
    Submission,
    SubmissionState,
)
from viscera.errors import JobNotFound, StoreUnavailable
from viscera.jobs.protocol import Backlog, JobEvent

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make_submission(handle: str = "upload", principal: str = "local") -> Submission:
    return Submission(
        id=handle,
        origin=Origin.GRPC,
        principal=principal,
        series_uid="1.2.3",
        study_uid="1.2",
        version=1,
        state=SubmissionState.OPEN,
        model="",
        opened_at=NOW,
        paths=(),
    )


def make_job(job_id: str = "job", handle: str = "upload", principal: str = "local") -> Job:
    return Job(
        id=job_id,
        key="0" * 64,
        kind=JobKind.SEGMENT,
        submission_id=handle,
        origin=Origin.GRPC,
        principal=principal,
        study_uid="1.2",
        series_uid="1.2.3",
        submission_version=1,
        stacks=((SourceFrame("1.2.3.1", 1), SourceFrame("1.2.3.2", 1)),),
        model="band/1",
        state=JobState.QUEUED,
        parent_id=None,
        attempts=0,
        created_at=NOW,
    )


class MemoryStore:
    """Implements what `api` asks; tests write its fields where a worker would."""

    def __init__(self) -> None:
        self.submissions: dict[str, Submission] = {}
        self.arrivals: dict[Path, Arrival] = {}
        self.closed: list[str] = []
        self.jobs: dict[str, Job] = {}
        self.decisions: dict[str, tuple[tuple[Choice, ...], str]] = {}
        self.log: list[JobEvent] = []
        self.down = 0
        """How many of the next questions fail."""

    def settle(
        self,
        handle: str,
        *jobs: Job,
        choices: tuple[Choice, ...] = (),
        refusal: str = "",
    ) -> None:
        self.jobs |= {job.id: job for job in jobs}
        self.decisions[handle] = (choices, refusal)
        state = SubmissionState.REFUSED if refusal else SubmissionState.CLOSED
        self.submissions[handle] = replace(self.submissions[handle], state=state)

    def happen(self, job_id: str, state: JobState, stage: str = "", progress: float = 0.0) -> None:
        self.jobs[job_id] = replace(self.jobs[job_id], state=state, stage=stage)
        self.log.append(
            JobEvent(
                sequence=len(self.log) + 1,
                job_id=job_id,
                at=NOW,
                state=state,
                stage=stage,
                progress=progress,
                message="",
            )
        )

    def _ask(self) -> None:
        if self.down:
            self.down -= 1
            raise StoreUnavailable("the store is down; try again")

    def record_arrivals(self, arrivals: Sequence[Arrival]) -> None:
        self._ask()
        for arrival in arrivals:
            self.arrivals[arrival.path] = arrival
            upload = self.submissions[arrival.upload]
            self.submissions[upload.id] = replace(upload, series_uid=arrival.series_uid)

    def note_associations(self, principal: str, open_now: int, listener: str = "") -> None:
        raise AssertionError("no door of api has associations")

    def open_upload(
        self, upload: str, principal: str, model: str, channels: Channels = ()
    ) -> Submission:
        self._ask()
        new = replace(make_submission(upload, principal), model=model, series_uid="")
        new = replace(new, channels=channels)
        return self.submissions.setdefault(upload, new)

    def close_upload(self, upload: str) -> None:
        self._ask()
        self.closed.append(upload)

    def unclosed_uploads(self, days: float = 0.0) -> tuple[str, ...]:
        self._ask()
        known = self.submissions.values()
        is_open = SubmissionState.OPEN
        return tuple(s.id for s in known if s.state is is_open and s.id not in self.closed)

    def refuse_upload(self, upload: str, refusal: str) -> bool:
        if upload not in self.unclosed_uploads():
            return False
        self.settle(upload, refusal=refusal)
        return True

    def known_paths(self) -> set[str]:
        self._ask()
        return {path.as_posix() for path in self.arrivals}

    def get_job(self, job_id: str, principal: str | None = None) -> Job:
        self._ask()
        job = self.jobs.get(job_id)
        if job is None or principal not in (None, job.principal):
            raise JobNotFound(f"no job {job_id}")
        return job

    def list_jobs(
        self,
        principal: str | None = None,
        states: Sequence[JobState] = (),
        submission_id: str = "",
        series_uid: str = "",
        limit: int | None = 100,
        before_id: str = "",
    ) -> tuple[Job, ...]:
        self._ask()
        newest = list(self.jobs.values())[::-1]
        if before_id:
            newest = newest[[job.id for job in newest].index(before_id) + 1 :]
        return tuple(
            job
            for job in newest
            if principal in (None, job.principal)
            and (not states or job.state in states)
            and submission_id in ("", job.submission_id)
            and series_uid in ("", job.series_uid)
        )[:limit]

    def get_submission(self, submission_id: str, principal: str | None = None) -> Submission:
        self._ask()
        submission = self.submissions.get(submission_id)
        if submission is None or principal not in (None, submission.principal):
            raise JobNotFound(f"no job {submission_id}")
        return submission

    def events(self, job_id: str, after: int = 0) -> tuple[JobEvent, ...]:
        self._ask()
        return tuple(e for e in self.log if e.job_id == job_id and e.sequence > after)

    def cancel(self, job_id: str, principal: str | None = None) -> Job:
        if not self.get_job(job_id, principal).state.is_final:
            self.happen(job_id, JobState.CANCELLED)
        return self.jobs[job_id]

    def retry(self, job_id: str, principal: str | None = None) -> Job:
        self.get_job(job_id, principal)
        self.happen(job_id, JobState.QUEUED)
        return self.jobs[job_id]

    def why(self, series_uid: str) -> Iterator[tuple[Submission, tuple[Choice, ...], str]]:
        self._ask()
        for handle, (choices, refusal) in self.decisions.items():
            if self.submissions[handle].series_uid == series_uid:
                yield self.submissions[handle], choices, refusal

    def deliveries(self, job_id: str) -> tuple[Delivery, ...]:
        return ()

    def counts(self) -> dict[JobState, int]:
        self._ask()
        states = [job.state for job in self.jobs.values()]
        return {state: states.count(state) for state in set(states)}

    def backlog(self) -> Backlog:
        waiting = [j.created_at for j in self.jobs.values() if not j.state.is_final]
        return Backlog(
            jobs=self.counts(),
            refused_series=3,
            oldest_job=min(waiting, default=None),
            oldest_series=None,
            oldest_result=NOW - timedelta(hours=1),
        )

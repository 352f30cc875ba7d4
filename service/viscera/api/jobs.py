"""Job ids, upload handles, and waiting for what they stand for."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from viscera.api import failures
from viscera.api.gate import Call
from viscera.domain.jobs import Choice, Job, JobState
from viscera.domain.sources import Submission, SubmissionState
from viscera.errors import (
    InvalidRequest,
    JobNotFound,
    JobStopped,
    NoModelForSeries,
    ServiceError,
    ShuttingDown,
    StoreUnavailable,
)
from viscera.jobs.protocol import JobEvent, QueryStore

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What closing a submission decided."""

    submission: Submission
    jobs: tuple[Job, ...]
    """Oldest first."""
    choices: tuple[Choice, ...]
    refusal: ServiceError | None
    """Why there is no job; None where there is one, or while the submission is open."""

    @property
    def is_settled(self) -> bool:
        """Whether it is decided."""
        return bool(self.jobs) or self.refusal is not None


class JobBook:
    """Finds jobs by id or handle, and follows them. Sees only the caller's own."""

    def __init__(self, store: QueryStore, poll_s: float, stopping: threading.Event) -> None:
        self._store = store
        self._poll_s = poll_s
        self._stopping = stopping

    def find(self, job_id: str, principal: str) -> Job | Planned:
        """Return the job of this id, or of this handle the first job, or its plan without one.

        Raises
        ------
        JobNotFound
            If there is none, or it is another principal's.
        """
        try:
            return self._store.get_job(job_id, principal)
        except JobNotFound:
            planned = self.planned(job_id, principal)
        return planned.jobs[0] if planned.jobs else planned

    def require(self, job_id: str, principal: str) -> Job:
        """Return what `find` does, where that is a job.

        Raises
        ------
        JobNotFound
            Also where the handle has no job (yet).
        ServiceError
            Why the handle will never have one.
        """
        found = self.find(job_id, principal)
        if isinstance(found, Job):
            return found
        raise found.refusal or JobNotFound(f"{job_id}: no job is planned yet; wait with WatchJob")

    def planned(self, handle: str, principal: str) -> Planned:
        """Return what is decided about a submission.

        Raises
        ------
        InvalidRequest
            If `handle` is empty.
        JobNotFound
            If there is none, or it is another principal's.
        """
        if not handle:
            raise InvalidRequest("job_id is empty; give that of `accepted`, or a job's own")
        submission = self._store.get_submission(handle, principal)
        if submission.state is SubmissionState.OPEN:
            return Planned(submission=submission, jobs=(), choices=(), refusal=None)
        jobs = self._store.list_jobs(principal, submission_id=handle, limit=None)[::-1]
        choices, refusal = self._decision(submission)
        return Planned(
            submission=submission,
            jobs=jobs,
            choices=choices,
            refusal=None if jobs else _why_none(choices, refusal),
        )

    def await_plan(self, handle: str, call: Call) -> Planned | None:
        """Return what is decided once it is; None if the client went meanwhile."""
        while True:
            planned = self._patiently(partial(self.planned, handle, call.principal))
            if planned is not None and planned.is_settled:
                return planned
            if not self._pause(call):
                return None

    def follow(self, job: Job, call: Call, after: int = 0) -> Iterator[JobEvent | Job]:
        """Yield what happens to `job`, and the job itself as the last value, once it has ended.

        A store that does not answer for a while delays this and does not end it.
        """
        while True:
            # The job first: if it has ended, the events read after it are all there are.
            job = self._patiently(partial(self._store.get_job, job.id, call.principal)) or job
            for event in self._patiently(partial(self._store.events, job.id, after)) or ():
                after = event.sequence
                yield event
            if job.state.is_final:
                yield job
                return
            if not self._pause(call):
                return

    def _decision(self, submission: Submission) -> tuple[tuple[Choice, ...], str]:
        for other, choices, refusal in self._store.why(submission.series_uid):
            if other.id == submission.id:
                return choices, refusal
        return (), ""

    def _patiently(self, ask: Callable[[], _T]) -> _T | None:
        try:
            return ask()
        except StoreUnavailable:
            return None

    def _pause(self, call: Call) -> bool:
        """Wait a little; whether there is somebody to go on for."""
        if self._stopping.wait(self._poll_s):
            raise ShuttingDown(
                "the service stops; the job goes on: follow it with WatchJob in a moment"
            )
        return call.is_active()


def _why_none(choices: Sequence[Choice], refusal: str) -> ServiceError:
    """Return why a closed submission has no job."""
    if refusal:
        reason, _, sentence = refusal.partition(": ")
        return failures.named(reason, sentence or refusal)
    refused = [choice for choice in choices if choice.what == "refuse"]
    if refused:
        return failures.named(refused[0].reason, "; ".join(choice.because for choice in refused))
    because = "; ".join(choice.because for choice in choices)
    return NoModelForSeries(f"nothing was segmented: {because or 'no stack was chosen'}")


def require_results(jobs: Sequence[Job]) -> None:
    """Check that all of `jobs`, which have ended, are done.

    Raises
    ------
    ServiceError
        What the first one says that is not.
    """
    for job in jobs:
        if job.state is JobState.DONE:
            continue
        if job.error_reason and job.state in (JobState.REFUSED, JobState.FAILED):
            raise failures.named(job.error_reason, job.error_message)
        raise JobStopped(f"job {job.id} is {job.state.value}; RetryJob queues it again")

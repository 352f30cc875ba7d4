"""What the other rooms ask of the job store."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from viscera.domain.jobs import Address, Choice, Claim, Delivery, Job, JobState, PlannedJob
from viscera.domain.results import ResultFile, Verdict
from viscera.domain.sources import Arrival, Channels, Submission

Clock = Callable[[], datetime]
"""Returns an aware UTC time; injected so that tests can turn it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """A change of a job, in order, for `WatchJob`."""

    sequence: int
    job_id: str
    at: datetime
    state: JobState
    stage: str
    progress: float
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What waits in the store; a time is None where nothing does."""

    jobs: Mapping[JobState, int]
    """How many are in each state."""
    refused_series: int
    """Submissions that no job came of."""
    oldest_job: datetime | None
    """When the oldest queued or running job was created."""
    oldest_series: datetime | None
    """Since when the oldest series is complete that was not looked at yet."""
    oldest_result: datetime | None
    """When the job ended whose results wait the longest to be sent."""


class IntakeStore(Protocol):
    """What `receive` and `api` write."""

    def record_arrivals(self, arrivals: Sequence[Arrival]) -> None:
        """Add instances to their submissions in one transaction; the same path again is nothing.

        But where nothing came of its series (refused, or every job ended badly), the same path
        again opens the next version, which is planned anew with all instances.

        A DICOM arrival joins the open submission of (principal, series_uid) or opens a new
        version of it; a gRPC arrival joins the submission of its upload. `close_after` of each
        touched submission is set again.
        """

    def note_associations(self, principal: str, open_now: int, listener: str = "") -> None:
        """Keep how many associations a peer has open with one listener process.

        `listener` is an owner as `owners.this_process` names it; what a dead one said counts no
        more, nor does what was not told again for `listening.NOTED_FOR_S`. Where no listener
        has one open, the peer's submissions may close sooner.
        """

    def open_upload(
        self, upload: str, principal: str, model: str, channels: Channels = ()
    ) -> Submission:
        """Open the submission of one gRPC upload; its id is `upload`. Idempotent."""

    def close_upload(self, upload: str) -> None:
        """The client half-closed: `close_after` is now.

        Raises `JobNotFound`, and `IncompleteSeries` where it was refused before it was closed.
        """

    def unclosed_uploads(self, days: float = 0.0) -> tuple[str, ...]:
        """Open uploads, of `days` ago or older, that were not closed."""

    def refuse_upload(self, upload: str, refusal: str) -> bool:
        """Refuse an upload that was not closed; False where it was, or is refused already."""

    def known_paths(self) -> set[str]:
        """Every spool path that has a row; what else lies in the spool is recorded at start."""


class WorkStore(Protocol):
    """What `work` asks and writes."""

    def claim_submission(self, owner: str) -> tuple[Claim, Submission] | None:
        """Lease one open submission whose `close_after` has passed."""

    def settle_submission(
        self, claim: Claim, choices: Sequence[Choice], jobs: Sequence[PlannedJob], refusal: str = ""
    ) -> tuple[Job, ...]:
        """Close it: keep the choices for `viscera why`, queue the jobs.

        A job whose key is already done, queued or running for this principal is not queued
        again. Jobs of earlier versions that are not delivered are superseded; a delivered one
        becomes the parent. Instances that arrived since the claim open the next version.
        """

    def beside(self, submission_id: str) -> tuple[Submission, ...]:
        """Other series of its study, closed, that its principal has sent; newest versions."""

    def look_again(self, submission_id: str, looked_at: Sequence[str]) -> bool:
        """Plan a series anew that waits, if another one closed while it was planned.

        `looked_at`: what `beside` gave to the plan. Returns whether it will be.
        """

    def release_submission(self, claim: Claim, *, counted: bool = False) -> None:
        """Give it back untouched; it is due again after a backoff.

        `counted`: the attempt counts towards poison, which a transient fault does not.
        """

    def claim_job(self, owner: str) -> tuple[Claim, Job] | None:
        """Lease one queued job, or one whose lease ran out; counts an attempt.

        One that used up its attempts is failed as poison instead and not returned.
        """

    def report(self, claim: Claim, stage: str, progress: float, engine: str = "") -> None:
        """Keep where the job is; `progress` 0..1 of the stage. Cancelled: raises `LeaseLost`."""

    def finish_job(
        self,
        claim: Claim,
        results: Sequence[ResultFile],
        verdict: Verdict,
        addresses: Sequence[Address],
    ) -> None:
        """Commit the digests of `results`; queue, or bar, what each address takes."""

    def refuse_job(self, claim: Claim, reason: str, message: str) -> None:
        """The data's fault; final."""

    def retry_later(self, claim: Claim, reason: str, message: str) -> None:
        """A transient fault: queued again after a backoff, failed after `max_attempts`."""

    def postpone_job(self, claim: Claim, reason: str, message: str) -> None:
        """The machine's fault: queued again after a minute, and the attempt does not count."""

    def release_job(self, claim: Claim) -> None:
        """A graceful stop: queued again at once, and the attempt does not count."""

    def get_submission(self, submission_id: str, principal: str | None = None) -> Submission:
        """Raises `JobNotFound`."""

    def job_paths(self, job_id: str) -> tuple[Path, ...]:
        """Absolute paths of the instances of all series that a job's stacks may lie in."""

    def live_fences(self, job_id: str) -> frozenset[int] | None:
        """Which of a job's result folders count or may count yet; None: no such job."""


class DeliveryStore(Protocol):
    """What `deliver` asks and writes."""

    def claim_delivery(
        self, owner: str, destinations: Sequence[str] = ()
    ) -> tuple[Claim, Delivery] | None:
        """Lease one delivery whose time has come: unsent first, then oldest, SEG before SR.

        `destinations`: only these; empty: any.
        """

    def waiting_by_destination(self) -> dict[str, int]:
        """How many deliveries are under way, by destination."""

    def heartbeat_delivery(self, claim: Claim) -> None:
        """Extend the lease. Raises `LeaseLost`."""

    def delivered(self, claim: Claim) -> float | None:
        """The destination has it.

        Returns the seconds since the job's commit where this was its last delivery to end.
        """

    def deliver_later(
        self, claim: Claim, next_attempt_at: datetime, error: str, *, stored: bool = False
    ) -> None:
        """A transient fault; `stored`: only the commitment is missing."""

    def undeliverable(self, claim: Claim, error: str) -> float | None:
        """A fault that stays; returns what `delivered` does."""

    def stored(self, claim: Claim, transaction_uid: str, until: datetime, note: str = "") -> None:
        """The destination has it, and is about to be asked for its commitment."""

    def not_asked(self, transaction_uid: str, next_attempt_at: datetime, error: str) -> None:
        """It was not asked after all."""

    def asked_by(self, transaction_uid: str) -> Delivery | None:
        """Return what awaits an answer to this request; None: nothing does any more."""

    def committed(self, transaction_uid: str) -> float | None:
        """The destination is responsible for it; returns what `delivered` does."""

    def not_committed(self, transaction_uid: str, next_attempt_at: datetime, error: str) -> bool:
        """It does not have it: queued again. False where a later request is still open."""


class QueryStore(Protocol):
    """What doors and the command line ask. `principal` None sees everything."""

    def get_job(self, job_id: str, principal: str | None = None) -> Job:
        """Raises `JobNotFound`."""

    def list_jobs(
        self,
        principal: str | None = None,
        states: Sequence[JobState] = (),
        submission_id: str = "",
        series_uid: str = "",
        limit: int | None = 100,
        before_id: str = "",
    ) -> tuple[Job, ...]:
        """Newest first; `limit` None gives all."""

    def get_submission(self, submission_id: str, principal: str | None = None) -> Submission:
        """Raises `JobNotFound`."""

    def events(self, job_id: str, after: int = 0) -> tuple[JobEvent, ...]:
        """What happened to a job after sequence number `after`."""

    def cancel(self, job_id: str, principal: str | None = None) -> Job:
        """Cancel what is not final; the worker notices at its next report."""

    def retry(self, job_id: str, principal: str | None = None) -> Job:
        """Queue a refused, failed or cancelled job again with a fresh count of attempts."""

    def deliver_again(self, job_id: str, addresses: Sequence[Address]) -> tuple[Delivery, ...]:
        """Queue what a done job made for `addresses` anew; what is under way stays as it is."""

    def why(
        self, series_uid: str = "", limit: int = 1000
    ) -> tuple[tuple[Submission, tuple[Choice, ...], str], ...]:
        """For each submission (of one series), newest last: choices, and its refusal or ""."""

    def deliveries(self, job_id: str) -> tuple[Delivery, ...]:
        """All deliveries of one job."""

    def counts(self) -> dict[JobState, int]:
        """Jobs by state."""


class BacklogStore(Protocol):
    """What a scrape asks."""

    def backlog(self) -> Backlog:
        """What waits, and since when."""


class RetentionStore(Protocol):
    """What the retention sweep asks."""

    def expired_submissions(self, keep_days: float) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Ids and spool paths of submissions whose jobs all ended `keep_days` ago."""

    def forget_instances(self, submission_id: str) -> None:
        """Its files are gone."""

    def record_arrivals(self, arrivals: Sequence[Arrival]) -> None:
        """As `IntakeStore.record_arrivals`."""

    def expired_jobs(self, keep_days: float) -> tuple[str, ...]:
        """Final jobs with nothing left to deliver."""

    def forget_job(self, job_id: str) -> None:
        """Its results are gone; the row stays as a tombstone without results."""

    def unclosed_uploads(self, days: float = 0.0) -> tuple[str, ...]:
        """As `IntakeStore.unclosed_uploads`."""

    def refuse_upload(self, upload: str, refusal: str) -> bool:
        """As `IntakeStore.refuse_upload`."""

    def is_abandoned(self, upload: str) -> bool:
        """Whether it was refused before it was closed."""

    def live_fences(self, job_id: str) -> frozenset[int] | None:
        """Which of a job's result folders count or may count yet; None: no such job."""

    def hold_reserve(self) -> None:
        """Hold the database's disk reserve again where it was used up."""


class JobStore(IntakeStore, WorkStore, DeliveryStore, QueryStore, RetentionStore, Protocol):
    """All of it; `jobs.store.SqlJobStore` is the one that ships."""

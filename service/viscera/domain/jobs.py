"""Jobs: one stack (or one per channel), one model, one result."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from viscera.domain.models import Grade
from viscera.domain.results import ResultFile, ResultKind, Verdict
from viscera.domain.sources import Origin, SourceFrame


class JobKind(StrEnum):
    """Why a job exists."""

    SEGMENT = "segment"
    CORRECT = "correct"  # a later version of a delivered result; has a parent


class JobState(StrEnum):
    """The states of a job; `jobs/` holds the arrows between them."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"  # the data's fault: trying again would not help
    FAILED = "failed"  # ours, or poison: stopped after N attempts
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"  # a later version came before this one was delivered

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens by itself."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class DeliveryState(StrEnum):
    """One object on its way to one destination."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"  # it is there, and its commitment is asked for soon
    AWAITING_COMMITMENT = "awaiting_commitment"
    DELIVERED = "delivered"
    FAILED = "failed"
    BARRED = "barred"
    """Settings or verdict keep it from there; `viscera jobs deliver` asks again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A destination that a result is meant for."""

    destination: str
    kinds: tuple[ResultKind, ...]
    """What it takes."""
    barred: str = ""
    """Why nothing goes there, as a sentence; empty: it goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob:
    """What closing a submission asks for."""

    key: str
    """sha256 of sources, model digest, settings that change results, result schema."""
    kind: JobKind
    stacks: tuple[tuple[SourceFrame, ...], ...]
    """By channel: the frames in slice order."""
    model: str
    """``name/version``."""
    beside: tuple[str, ...] = ()
    """Ids of further submissions that hold stacks of it: other series of the study."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A row of the job store."""

    id: str
    key: str
    kind: JobKind
    submission_id: str
    origin: Origin
    principal: str
    study_uid: str
    series_uid: str
    submission_version: int
    stacks: tuple[tuple[SourceFrame, ...], ...]
    model: str
    state: JobState
    parent_id: str | None
    attempts: int
    created_at: datetime
    finished_at: datetime | None = None
    stage: str = ""
    progress: float = 0.0
    """0..1 of the running stage."""
    engine: str = ""
    error_reason: str = ""
    error_message: str = ""
    verdict: Verdict | None = None
    results: tuple[ResultFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """A leased row: every later write shows the fence, and a stale one is refused."""

    id: str
    owner: str
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One committed object for one destination."""

    id: str
    job_id: str
    destination: str
    file: ResultFile
    state: DeliveryState
    attempts: int
    next_attempt_at: datetime
    """While it awaits commitment: when that is asked for again."""
    last_error: str = ""
    requests: int = 0
    """For commitment, which the destination has not answered; it still may answer any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentReport:
    """What a destination says about one request for storage commitment."""

    transaction_uid: str
    committed: frozenset[str]
    """SOP Instance UIDs that it is responsible for from now on."""
    failed: Mapping[str, int]
    """By SOP Instance UID, the Failure Reason (0008,1197) of PS3.3 C.14.1.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One line of `viscera why`: what was decided about one stack, and because of what."""

    what: str
    """``segment``, ``wait`` (for the other channels of a job), ``ignore`` or ``refuse``."""
    because: str
    frames: int
    model: str = ""
    reason: str = ""
    """The error class for a refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a submission becomes: the choice about each stack, and the jobs."""

    choices: tuple[Choice, ...] = ()
    jobs: tuple[PlannedJob, ...] = ()
    refusal: str = ""
    """Why the whole submission is refused; empty: it is not."""
    looked_at: tuple[str, ...] = ()
    """Where a choice is to wait: ids of the other series' submissions that were there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What running a job gave; it counts once the fenced commit has recorded it."""

    results: tuple[ResultFile, ...]
    verdict: Verdict
    modality: str
    grade: Grade

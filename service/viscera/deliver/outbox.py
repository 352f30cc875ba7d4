"""What this room asks of the job store; `jobs` has it, and neither imports the other."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Protocol

from viscera.domain.jobs import Claim, CommitmentReport, Delivery, Job


class Outbox(Protocol):
    """Deliveries to be made. Every method may raise `StoreUnavailable`."""

    def claim_delivery(
        self, owner: str, destinations: Sequence[str] = ()
    ) -> tuple[Claim, Delivery] | None:
        """Lease one delivery to one of `destinations` whose time has come."""

    def heartbeat_delivery(self, claim: Claim) -> None:
        """Extend the lease. Raises `LeaseLost`."""

    def delivered(self, claim: Claim) -> float | None:
        """It is there; returns the job's seconds since its commit if this was its last one."""

    def deliver_later(
        self, claim: Claim, next_attempt_at: datetime, error: str, *, stored: bool = False
    ) -> None:
        """A transient fault; `stored`: only the commitment is missing."""

    def undeliverable(self, claim: Claim, error: str) -> float | None:
        """A fault that stays; returns what `delivered` does."""

    def get_job(self, job_id: str) -> Job:
        """Raises `JobNotFound`."""

    def stored(self, claim: Claim, transaction_uid: str, until: datetime, note: str = "") -> None:
        """It is there, and its commitment is about to be asked for. Raises `LeaseLost`."""

    def not_asked(self, transaction_uid: str, next_attempt_at: datetime, error: str) -> None:
        """It was not asked for after all."""

    def asked_by(self, transaction_uid: str) -> Delivery | None:
        """Return what awaits an answer to this request; None: nothing does any more."""

    def committed(self, transaction_uid: str) -> float | None:
        """The destination is responsible for it; returns what `delivered` does."""

    def not_committed(self, transaction_uid: str, next_attempt_at: datetime, error: str) -> bool:
        """It does not have it: queued again. False where a later request is still open."""


class Transactions(Protocol):
    """Requests for commitment and the reports on them, as files that listeners see too."""

    def ask(self, transaction_uid: str) -> None:
        """Remember durably that this may be reported on. Raises `SpoolFull`."""

    def is_asked(self, transaction_uid: str) -> bool:
        """Whether we asked this."""

    def keep(self, report: CommitmentReport) -> None:
        """Keep a report durably. Raises `SpoolFull`."""

    def waiting(self) -> Iterator[CommitmentReport]:
        """Give every report that is not in the job store yet."""

    def forget(self, report: CommitmentReport) -> None:
        """It is in the job store."""

    def sweep(self) -> None:
        """Forget requests that nobody will answer any more."""

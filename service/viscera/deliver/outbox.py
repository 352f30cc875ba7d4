"""What this room asks of the job store; `jobs` has it, and neither imports the other."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from viscera.domain.jobs import Claim, Delivery, Job


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

    def deliver_later(self, claim: Claim, next_attempt_at: datetime, error: str) -> None:
        """A transient fault."""

    def undeliverable(self, claim: Claim, error: str) -> float | None:
        """A fault that stays; returns what `delivered` does."""

    def get_job(self, job_id: str) -> Job:
        """Raises `JobNotFound`."""

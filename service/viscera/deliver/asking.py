"""Asks for the commitment of what a destination has, so that no report on it can be missed.

Log events are constant words: `commitment_asked`, `commitment_not_asked`.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from viscera import log
from viscera.config import DeliverSettings, Destination
from viscera.deliver.backoff import backoff_s
from viscera.deliver.commitment import CommitmentRequest, committing, new_transaction_uid
from viscera.deliver.event_report import ReportScp
from viscera.deliver.outbox import Outbox, Transactions
from viscera.domain.jobs import Claim, Delivery
from viscera.errors import PeerUnreachable
from viscera.metrics import Metrics

_log = log.get(__name__)

_SAME_ASSOCIATION_S = 2.0
"""A PACS that reports on the association that asked does so at once, or not there."""
_LONGEST_WAIT_S = 30.0
_LONGEST_SILENCE_S = 86400.0


class NotAsked(Exception):
    """A request did not reach the destination; the store knows when it is made again."""


class Asker:
    """Asks one destination; see `loop.DeliverLoop` for the arguments. Not thread-safe."""

    def __init__(
        self,
        store: Outbox,
        destination: Destination,
        settings: DeliverSettings,
        *,
        transactions: Transactions,
        metrics: Metrics,
        clock: Callable[[], datetime],
    ) -> None:
        self._store, self._destination, self._settings = store, destination, settings
        self._transactions, self._metrics, self._clock = transactions, metrics, clock
        self._reports = ReportScp(transactions, metrics)
        self._reports_where_asked = True

    def ask(self, claim: Claim, delivery: Delivery) -> bool:
        """Ask for commitment where that is wanted and offered.

        Returns
        -------
        bool
            Whether the delivery awaits a report now, and the claim is given back.

        Raises
        ------
        PeerUnreachable
            If no association is to be had, or commitment is required and not offered.
        NotAsked
            If the request failed; the claim is given back.
        LeaseLost
            If the claim was; or an earlier request was answered meanwhile.
        """
        wanted = self._destination.commitment
        if self._destination.kind != "dicom" or wanted == "off":
            return False
        if delivery.requests:
            self._metrics.commitments.labels("silent").inc()
        with committing(self._destination, self._settings.ae_title, self._reports) as request:
            if request.is_offered:
                self._make(request, claim, delivery)
                return True
        self._metrics.commitments.labels("not_offered").inc()
        if wanted == "required":
            raise PeerUnreachable("the destination does not offer storage commitment")
        return False

    def _make(self, request: CommitmentRequest, claim: Claim, delivery: Delivery) -> None:
        transaction_uid = new_transaction_uid()
        # Both before the request: its report may be quicker than its answer.
        self._transactions.ask(transaction_uid)
        self._store.stored(claim, transaction_uid, *self._silence(delivery.requests))
        try:
            request.send(transaction_uid, delivery.file)
        except PeerUnreachable as error:
            self._put_off(transaction_uid, delivery, error)
            raise NotAsked from error
        self._metrics.commitments.labels("asked").inc()
        _log.info(
            "commitment_asked",
            job_id=delivery.job_id,
            kind=delivery.file.kind,
            transaction_uid=transaction_uid,
        )
        if wait_s := self._wait_s(delivery.requests):
            self._reports_where_asked = request.wait(wait_s)

    def _put_off(self, transaction_uid: str, delivery: Delivery, error: PeerUnreachable) -> None:
        later = self._clock() + timedelta(seconds=backoff_s(self._settings, delivery.attempts))
        self._store.not_asked(transaction_uid, later, f"{error.reason}: {error}")
        self._metrics.commitments.labels("refused").inc()
        _log.warning("commitment_not_asked", job_id=delivery.job_id, error=str(error))

    def _wait_s(self, requests: int) -> float:
        """Return how long to wait for a report where it was asked.

        Longer after silence: a slow PACS may report nowhere else. As this is asked at pauses that
        double too, it takes the lane no greater share of its time.
        """
        if requests:
            doubled = _SAME_ASSOCIATION_S * 2.0 ** min(requests, 32)
            return min(doubled, _LONGEST_WAIT_S, self._silence_s(requests) / 2)
        return _SAME_ASSOCIATION_S if self._reports_where_asked else 0.0

    def _silence_s(self, requests: int) -> float:
        doubled = self._destination.commitment_timeout_s * 2.0 ** min(requests, 32)
        return min(doubled, _LONGEST_SILENCE_S)

    def _silence(self, requests: int) -> tuple[datetime, str]:
        """Return when to ask again, and what to tell people, after so many unanswered requests."""
        until = self._clock() + timedelta(seconds=self._silence_s(requests))
        return until, f"asked {requests} times without a report" if requests else ""

"""Brings reports on commitment from their files into the job store.

Log events are constant words: `delivery_committed`, `delivery_not_committed`,
`commitment_report_moot`.
"""

import threading
import time
from collections.abc import Callable
from datetime import datetime

from viscera import log
from viscera.deliver.outbox import Outbox, Transactions
from viscera.domain.jobs import CommitmentReport, Delivery
from viscera.errors import StoreUnavailable
from viscera.metrics import Metrics

_log = log.get(__name__)

_POLL_S = 0.3
_PAUSE_S = 2.0
_BETWEEN_SWEEPS_S = 3600.0


class Recorder:
    """Looks for reports until told to stop; several may share a folder.

    Parameters
    ----------
    store
        Where deliveries end, or are queued again.
    transactions
        Where reports lie.
    metrics
        Gets outcomes, and the stage `deliver` once per job.
    retry_at
        When an object that was tried so often is sent again.
    """

    def __init__(
        self,
        store: Outbox,
        transactions: Transactions,
        *,
        metrics: Metrics,
        retry_at: Callable[[int], datetime],
    ) -> None:
        self._store, self._transactions, self._metrics = store, transactions, metrics
        self._retry_at = retry_at
        self._swept_at = -_BETWEEN_SWEEPS_S

    def run(self, stop: threading.Event) -> None:
        """Record until `stop` is set."""
        while not stop.wait(self._step()):
            pass

    def _step(self) -> float:
        try:
            for report in self._transactions.waiting():
                self._record(report)
                self._transactions.forget(report)
            self._sweep_seldom()
        except StoreUnavailable as error:
            _log.warning("store_unavailable", error=str(error))
            return _PAUSE_S
        except Exception:
            # The report stays where it is.
            _log.exception("recorder_broke")
            return _PAUSE_S
        return _POLL_S

    def _record(self, report: CommitmentReport) -> None:
        delivery = self._store.asked_by(report.transaction_uid)
        if delivery is None:
            _log.info("commitment_report_moot", transaction_uid=report.transaction_uid)
        elif delivery.file.sop_uid in report.committed:
            self._end(report, delivery)
        else:
            self._send_again(report, delivery)

    def _end(self, report: CommitmentReport, delivery: Delivery) -> None:
        took_s = self._store.committed(report.transaction_uid)
        self._metrics.commitments.labels("committed").inc()
        self._metrics.deliveries.labels("delivered").inc()
        if took_s is not None:
            self._metrics.stage_seconds.labels("deliver", "").observe(took_s)
        _log.info("delivery_committed", job_id=delivery.job_id, kind=delivery.file.kind)

    def _send_again(self, report: CommitmentReport, delivery: Delivery) -> None:
        reason = report.failed.get(delivery.file.sop_uid)
        said = f"with 0x{reason:04X}" if reason is not None else "without naming it"
        error = f"NotCommitted: the destination reported {said} on its storage; sent again"
        if not self._store.not_committed(
            report.transaction_uid, self._retry_at(delivery.attempts), error
        ):
            return
        self._metrics.commitments.labels("not_committed").inc()
        self._metrics.deliveries.labels("postponed").inc()
        _log.warning(
            "delivery_not_committed", job_id=delivery.job_id, kind=delivery.file.kind, error=error
        )

    def _sweep_seldom(self) -> None:
        if time.monotonic() - self._swept_at >= _BETWEEN_SWEEPS_S:
            self._swept_at = time.monotonic()
            self._transactions.sweep()

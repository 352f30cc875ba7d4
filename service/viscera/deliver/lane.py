"""One destination's deliveries, one after the other.

Log events are constant words: `delivery_claimed`, `delivery_sent`, `delivery_postponed`,
`delivery_failed`. The kill tests use them as named points.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from viscera import log
from viscera.config import DeliverSettings, Destination
from viscera.deliver.asking import Asker, NotAsked
from viscera.deliver.backoff import backoff_s
from viscera.deliver.dicom import DicomLink
from viscera.deliver.folder import place, send_folder
from viscera.deliver.outbox import Outbox, Transactions
from viscera.domain.jobs import Claim, Delivery, DeliveryState
from viscera.errors import LeaseLost, RoundTripMismatch, ServiceError, StoreUnavailable
from viscera.metrics import Metrics

_log = log.get(__name__)

_POLL_S = 0.5
_STORE_PAUSE_S = 1.0
# A lane looks at least this often whether its destination is back.
_LONGEST_LANE_PAUSE_S = 60.0


class Lane:
    """Everything for one destination, in order; see `loop.DeliverLoop`."""

    def __init__(
        self,
        store: Outbox,
        destination: Destination,
        settings: DeliverSettings,
        results_root: Path,
        *,
        transactions: Transactions,
        metrics: Metrics,
        clock: Callable[[], datetime],
        owner: str,
        heartbeat_s: float,
    ) -> None:
        self._store, self._destination, self._settings = store, destination, settings
        self._results_root, self._metrics, self._clock = results_root, metrics, clock
        self._owner, self._heartbeat_s = owner, heartbeat_s
        self._link = DicomLink(destination, settings.ae_title)
        self._asker = Asker(
            store,
            destination,
            settings,
            transactions=transactions,
            metrics=metrics,
            clock=clock,
        )
        self._failures = 0

    @property
    def name(self) -> str:
        """The destination's."""
        return self._destination.name

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set."""
        with structlog.contextvars.bound_contextvars(destination=self.name):
            while not stop.is_set():
                pause_s = self.step()
                if pause_s:
                    self._link.close()
                    stop.wait(pause_s)
            self._link.close()

    def step(self) -> float:
        """Make one delivery, and return how long to pause before the next."""
        try:
            claimed = self._store.claim_delivery(self._owner, (self.name,))
            if claimed is None:
                return _POLL_S
            self._deliver(*claimed)
        except LeaseLost:
            _log.info("lease_lost")
        except StoreUnavailable as error:
            _log.warning("store_unavailable", error=str(error))
            return _STORE_PAUSE_S
        except Exception:
            # A lane that ended would hold up its destination until somebody wonders.
            _log.exception("lane_broke")
            return _STORE_PAUSE_S
        if not self._failures:
            return 0.0
        return min(backoff_s(self._settings, self._failures), _LONGEST_LANE_PAUSE_S)

    def _deliver(self, claim: Claim, delivery: Delivery) -> None:
        _log.info("delivery_claimed", job_id=delivery.job_id, kind=delivery.file.kind)
        there = delivery.state is DeliveryState.SENT
        try:
            with kept(self._store, claim, self._heartbeat_s):
                if not there:
                    self._send(delivery)
                    there = True
                    if self._destination.commitment != "off":
                        self._link.close()  # some PACS take one association at a time
                awaits = self._asker.ask(claim, delivery)
        except LeaseLost:
            raise
        except NotAsked:
            self._failures += 1
        except ServiceError as error:
            if error.retry:
                self._postpone(claim, delivery, error.reason, str(error), there)
            else:
                self._fail(claim, delivery, error)
        except Exception as error:
            # A bug, or a disk that does not answer: neither is a reason to lose a result.
            _log.exception("delivery_broke")
            self._postpone(claim, delivery, type(error).__name__, "see the log", there)
        else:
            if not awaits:
                self._end(self._store.delivered(claim), "delivered")
            self._failures = 0
            _log.info("delivery_sent", job_id=delivery.job_id, kind=delivery.file.kind)

    def _send(self, delivery: Delivery) -> None:
        path = self._results_root / delivery.file.path
        require_committed_bytes(path, delivery.file.sha256)
        if self._destination.kind == "dicom":
            self._link.send(path)
        elif self._destination.folder is not None:
            job = self._store.get_job(delivery.job_id)
            send_folder(path, place(self._destination.folder, job.series_uid, job.id, path.name))

    def _postpone(
        self, claim: Claim, delivery: Delivery, reason: str, message: str, stored: bool
    ) -> None:
        self._failures += 1
        pause_s = backoff_s(self._settings, delivery.attempts)
        later = self._clock() + timedelta(seconds=pause_s)
        self._store.deliver_later(claim, later, f"{reason}: {message}", stored=stored)
        self._metrics.deliveries.labels("postponed").inc()
        _log.warning(
            "delivery_postponed",
            job_id=delivery.job_id,
            kind=delivery.file.kind,
            attempt=delivery.attempts,
            pause_s=round(pause_s, 1),
            error=message,
        )

    def _fail(self, claim: Claim, delivery: Delivery, error: ServiceError) -> None:
        self._failures = 0
        self._end(self._store.undeliverable(claim, f"{error.reason}: {error}"), "failed")
        _log.error(
            "delivery_failed",
            job_id=delivery.job_id,
            kind=delivery.file.kind,
            reason=error.reason,
            error=str(error),
        )

    def _end(self, job_took_s: float | None, outcome: str) -> None:
        self._metrics.deliveries.labels(outcome).inc()
        if job_took_s is not None:
            self._metrics.stage_seconds.labels("deliver", "").observe(job_took_s)


def require_committed_bytes(path: Path, sha256: str) -> None:
    """Refuse a file that is not the one that the fenced commit recorded.

    Raises
    ------
    RoundTripMismatch
        If its bytes are other ones.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise RoundTripMismatch(
            "the file's bytes are not those that were committed; find out what changed it"
        )


@contextmanager
def kept(store: Outbox, claim: Claim, every_s: float) -> Iterator[None]:
    """Extend the lease while the block runs; it waits for a network, so a thread will do."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(every_s):
            try:
                store.heartbeat_delivery(claim)
            except LeaseLost:
                return  # the write at the end says so
            except StoreUnavailable as error:
                _log.warning("heartbeat_missed", error=str(error))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()

"""The deliverer: a lane per destination, so that one that is down holds up no other."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from viscera.config import DeliverSettings
from viscera.deliver.backoff import backoff_s
from viscera.deliver.lane import Lane
from viscera.deliver.outbox import Outbox, Transactions
from viscera.deliver.recorder import Recorder
from viscera.metrics import Metrics

_JOIN_S = 5.0


class DeliverLoop:
    """Delivers until told to stop.

    Parameters
    ----------
    store
        Where deliveries are claimed and end.
    settings
        Destinations and backoff.
    results_root
        Under which committed files lie.
    transactions
        Where requests for commitment and reports on them lie.
    metrics
        Gets attempts by outcome, and the stage `deliver` once per job.
    clock
        Aware UTC.
    owner
        This process, as the store's leases name it.
    lease_s
        Of the store; a third of it passes between heartbeats.
    """

    def __init__(
        self,
        store: Outbox,
        settings: DeliverSettings,
        results_root: Path,
        *,
        transactions: Transactions,
        metrics: Metrics,
        clock: Callable[[], datetime],
        owner: str,
        lease_s: float,
    ) -> None:
        def retry_at(attempts: int) -> datetime:
            return clock() + timedelta(seconds=backoff_s(settings, attempts))

        # Always: a destination that commits no more may still report.
        self._recorder = Recorder(store, transactions, metrics=metrics, retry_at=retry_at)
        self._lanes = tuple(
            Lane(
                store,
                destination,
                settings,
                results_root.absolute(),
                transactions=transactions,
                metrics=metrics,
                clock=clock,
                owner=owner,
                heartbeat_s=lease_s / 3,
            )
            for destination in settings.destinations
        )

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set; what is being sent then has some seconds to end.

        What has not ended by then is claimed and sent again: its UID is the same, so the
        destination still has one.
        """
        workers = [
            ("commitment", self._recorder.run),
            *((lane.name, lane.run) for lane in self._lanes),
        ]
        threads = [
            threading.Thread(target=run, args=(stop,), name=name, daemon=True)
            for name, run in workers
        ]
        for thread in threads:
            thread.start()
        stop.wait()
        for thread in threads:
            thread.join(_JOIN_S)

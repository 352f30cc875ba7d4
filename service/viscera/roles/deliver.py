"""The deliverer; it also says on its page what the job store holds."""

import threading
from contextlib import closing, suppress

from viscera import log
from viscera.api.job_metrics import JobCollector
from viscera.config import DeliverSettings
from viscera.deliver import DeliverLoop
from viscera.errors import StoreUnavailable
from viscera.jobs.owners import this_process
from viscera.jobs.reports import ReportFiles
from viscera.jobs.store import SqlJobStore
from viscera.metrics import Metrics
from viscera.roles.parts import Face, migrate_until_done, now, open_store

_log = log.get(__name__)


def run(face: Face, stop: threading.Event) -> None:
    """Deliver until `stop` is set."""
    settings, metrics = face.settings, Metrics()
    with closing(open_store(settings)) as store, face.shown(metrics) as announce:
        migrate_until_done(store, stop)
        metrics.registry.register(JobCollector(store, now))
        loop = DeliverLoop(
            store,
            settings.deliver,
            settings.jobs.results,
            transactions=ReportFiles(settings.spool.folder),
            metrics=metrics,
            clock=now,
            owner=this_process("deliver"),
            lease_s=settings.jobs.lease_s,
        )
        _warn_of_strangers(store, settings.deliver)
        announce()
        loop.run(stop)


def _warn_of_strangers(store: SqlJobStore, settings: DeliverSettings) -> None:
    """Say what waits for a destination that the settings do not name (any more)."""
    known = {one.name for one in settings.destinations}
    with suppress(StoreUnavailable):
        for destination, waiting in store.waiting_by_destination().items():
            if destination not in known:
                _log.error("destination_unknown", destination=destination, waiting=waiting)

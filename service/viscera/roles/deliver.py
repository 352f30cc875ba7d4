"""The deliverer; it also says on its page what the job store holds."""

import threading
from contextlib import closing

from viscera.api.job_metrics import JobCollector
from viscera.deliver import DeliverLoop
from viscera.jobs.owners import this_process
from viscera.jobs.reports import ReportFiles
from viscera.metrics import Metrics
from viscera.roles.parts import Face, migrate_until_done, now, open_store


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
        announce()
        loop.run(stop)

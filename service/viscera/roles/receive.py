"""The DICOM listener."""

import threading
from contextlib import closing

from viscera.deliver import ReportScp
from viscera.jobs.owners import this_process
from viscera.jobs.reports import ReportFiles
from viscera.metrics import Metrics
from viscera.receive import Indexer, Listener, offered
from viscera.roles.parts import Face, migrate_until_done, open_spool, open_store
from viscera.volume import proven_syntaxes


def run(face: Face, stop: threading.Event) -> None:
    """Receive until `stop` is set."""
    settings, metrics = face.settings, Metrics()
    with closing(open_store(settings)) as store, face.shown(metrics) as announce:
        # Receiving goes on while the database is down, from the first second.
        threading.Thread(target=migrate_until_done, args=(store, stop), daemon=True).start()
        spool = open_spool(settings)
        index = Indexer(store, spool, listener=this_process("receive"))
        listener = Listener(
            settings.dicom,
            spool,
            index,
            metrics,
            offered(proven_syntaxes(settings.decode)),
            seats_fd=face.seats_fd,
            report=ReportScp(ReportFiles(settings.spool.folder), metrics).answer,
        )
        index.start()
        listener.start()
        announce(**listener.ports)
        stop.wait()
        listener.stop()
        index.stop()

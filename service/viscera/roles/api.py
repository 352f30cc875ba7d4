"""The gRPC door."""

import threading
from contextlib import closing

from viscera import models
from viscera.api.grpc_server import GrpcServer
from viscera.metrics import Metrics
from viscera.receive import PacsArchive
from viscera.roles.parts import Face, migrate_until_done, open_spool, open_store


def run(face: Face, stop: threading.Event) -> None:
    """Answer calls until `stop` is set."""
    settings, metrics = face.settings, Metrics()
    with closing(open_store(settings)) as store, face.shown(metrics) as announce:
        migrate_until_done(store, stop)
        server = GrpcServer(
            settings.grpc,
            store=store,
            spool=open_spool(settings),
            list_models=lambda: models.list_models(settings.models.repo),
            results_root=settings.jobs.results,
            max_queued=settings.jobs.max_queued,
            archive=PacsArchive(settings.dicom),
            metrics=metrics,
        )
        server.start()
        announce(grpc_port=server.port)
        stop.wait()
        server.stop()

"""The gRPC server: sockets, TLS, threads, health; `servicer` answers."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from viscera import log
from viscera.api.auth import authenticator
from viscera.api.by_uid import Archive, ByUid
from viscera.api.gate import Gate
from viscera.api.jobs import JobBook
from viscera.api.recovery import Recovery
from viscera.api.servicer import Models, SegmentationServicer
from viscera.api.tls import GrpcTls, server_tls
from viscera.api.uploads import DoorStore, Limits
from viscera.api.v1.viscera_pb2_grpc import add_SegmentationServiceServicer_to_server
from viscera.config import GrpcSettings
from viscera.errors import InvalidSettings
from viscera.jobs.spool import Spool
from viscera.metrics import Metrics

_log = log.get(__name__)

SERVICE = "viscera.v1.SegmentationService"
"""The name that grpc.health.v1 knows it by, beside the empty one."""

_UNARY_THREADS = 8
"""Kept free of streams, so that GetJob and health answer however many of those wait."""
_GRACE_S = 5.0
_MB = 1_000_000
_MESSAGE_ROOM = 2
"""What grpc refuses has no details: up to so many times the limit, we refuse it."""


class GrpcServer:
    """The door for client developers.

    Parameters
    ----------
    list_models
        Returns what the model repository holds now.
    results_root
        Folder that `ResultFile.path` is relative to.
    max_queued
        Jobs waiting above which uploads are refused.
    archive
        Asks the PACS of the settings.
    metrics
        Where it tells when certificates end.
    poll_s
        Pause between looks at a job that somebody follows.

    Raises
    ------
    InvalidSettings
        If it would listen beyond loopback unprotected, or a file of the settings is unusable.
    """

    def __init__(
        self,
        settings: GrpcSettings,
        *,
        store: DoorStore,
        spool: Spool,
        list_models: Models,
        results_root: Path,
        max_queued: int,
        archive: Archive,
        metrics: Metrics | None = None,
        poll_s: float = 0.25,
    ) -> None:
        self._settings = settings
        self._metrics = metrics or Metrics()
        self._store, self._spool = store, spool
        self._stopping = threading.Event()
        self._health = health.HealthServicer(experimental_non_blocking=False)
        self._tls = server_tls(settings)
        threads = settings.max_streams + _UNARY_THREADS
        self._server = grpc.server(
            ThreadPoolExecutor(threads, thread_name_prefix="grpc"),
            interceptors=[Gate(authenticator(settings), settings)],
            options=_options(settings),
            # No call waits unseen for a thread; one that has none is RESOURCE_EXHAUSTED.
            maximum_concurrent_rpcs=threads,
        )
        servicer = SegmentationServicer(
            store=store,
            spool=spool,
            list_models=list_models,
            results_root=results_root,
            book=JobBook(store, poll_s, self._stopping),
            limits=Limits.of(settings),
            max_queued=max_queued,
            by_uid=ByUid(archive, spool, store),
        )
        add_SegmentationServiceServicer_to_server(servicer, self._server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._port = 0

    @property
    def port(self) -> int:
        """The port that it listens on, once started."""
        return self._port

    def start(self) -> None:
        """Listen, and give the store what a crash kept from it.

        Raises
        ------
        InvalidSettings
            If the address cannot be bound.
        """
        self._port = self._bind()
        self._tell_ends()
        self._server.start()
        self._health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        threading.Thread(target=self._recover, name="recover-uploads", daemon=True).start()
        _log.info("grpc_listening", host=self._settings.host, port=self._port)

    def stop(self, grace_s: float = _GRACE_S) -> None:
        """Take no new calls, end those that follow a job, give the others `grace_s`."""
        self._stopping.set()
        self._health.enter_graceful_shutdown()
        self._server.stop(grace_s).wait()

    def _bind(self) -> int:
        host = self._settings.host
        address = f"[{host}]" if ":" in host and not host.startswith("[") else host
        address = f"{address}:{self._settings.port}"
        try:
            if self._tls is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, self._tls.credentials())
        except RuntimeError as error:
            raise InvalidSettings(f"grpc.host, grpc.port: cannot listen on {address}") from error

    def _tell_ends(self) -> None:
        if self._tls is None:
            return
        for file in self._tls.ends():
            # Asked at each scrape, which finds files that have changed since.
            expiry = self._metrics.certificate_expiry.labels(file)
            expiry.set_function(partial(_end_of, self._tls, file))

    def _recover(self) -> None:
        Recovery(self._spool, self._store).run(self._stopping)


def _end_of(tls: GrpcTls, file: str) -> float:
    return tls.ends()[file]


def _options(settings: GrpcSettings) -> list[tuple[str, int]]:
    size = _MESSAGE_ROOM * settings.max_message_mb * _MB
    return [
        ("grpc.max_receive_message_length", size),
        ("grpc.max_send_message_length", size),
        # Two servers on one port would share its calls without a word.
        ("grpc.so_reuseport", 0),
        # A peer that vanished without a word gives its stream back after a minute or so.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]

"""Builds the objects of each role and runs it until it is told to stop.

A role owns its page of metrics and health; everything else it is handed.
"""

import ctypes
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from prometheus_client import generate_latest

from viscera import log, models, segment, series
from viscera.api.grpc_server import GrpcServer
from viscera.api.http_server import HttpServer
from viscera.api.job_metrics import JobCollector
from viscera.config import Settings
from viscera.deliver import DeliverLoop, destinations_for
from viscera.domain.jobs import Delivery, Job, JobState, Outcome, Plan
from viscera.domain.results import ResultKind
from viscera.domain.sources import Submission
from viscera.encode import Predecessor, read_predecessor
from viscera.errors import StoreUnavailable
from viscera.jobs.owners import this_process
from viscera.jobs.retention import sweep
from viscera.jobs.spool import Spool
from viscera.jobs.store import SqlJobStore
from viscera.jobs.worker import WorkerLoop
from viscera.metrics import Metrics
from viscera.pipeline import Pipeline, Report
from viscera.receive import Indexer, Listener

_log = log.get(__name__)

_PR_SET_PDEATHSIG = 1
_MIGRATE_PAUSE_S = 2.0
_SWEEP_PAUSE_S = 600.0


def now() -> datetime:
    """Return the time, aware and UTC; the only clock that roles inject."""
    return datetime.now(UTC)


def die_with(parent: int) -> None:
    """Ask the kernel for SIGTERM when the supervisor dies, however it dies."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the line above
        raise SystemExit(1)


def open_store(settings: Settings) -> SqlJobStore:
    """Return the job store, not yet migrated."""
    return SqlJobStore(
        settings.jobs.url.get_secret_value(),
        clock=now,
        settings=settings.jobs,
        close_after=partial(series.close_after, settings=settings.series),
        spool_root=settings.spool.folder,
    )


def open_spool(settings: Settings) -> Spool:
    """Return the spool, its folder made where it is missing."""
    return Spool(
        settings.spool.folder, reserve_bytes=settings.spool.reserve_mb * 1_000_000, clock=now
    )


@contextmanager
def opened_store(settings: Settings) -> Iterator[SqlJobStore]:
    """Open the job store for one command."""
    store = open_store(settings)
    try:
        store.migrate()
        yield store
    finally:
        store.close()


def run(role: str, settings: Settings, stop: threading.Event, ready_fd: int | None = None) -> None:
    """Run one role until `stop` is set.

    Parameters
    ----------
    role
        ``receive``, ``api``, ``work`` or ``deliver``.
    settings
        All of them; each object gets its section.
    stop
        Set by SIGTERM.
    ready_fd
        Where to write this role's ports once it is ready (`viscera serve`); its page then takes
        a free port, for the supervisor's page gathers it.
    """
    body = {"receive": _receive, "api": _api, "work": _work, "deliver": _deliver}[role]
    metrics = Metrics()
    ready = threading.Event()
    with ExitStack() as resources:
        store = open_store(settings)
        resources.callback(store.close)
        if role == "deliver":  # one role says what the store holds
            metrics.registry.register(JobCollector(store, now))
        page = HttpServer(
            "127.0.0.1" if ready_fd is not None else settings.http.host,
            0 if ready_fd is not None else settings.http.port,
            lambda: generate_latest(metrics.registry),
            health=lambda: True,
            ready=ready.is_set,
        )
        page.start()
        resources.callback(page.stop)

        def announce(**ports: int) -> None:
            ready.set()
            ports[f"{role}_http_port"] = page.port
            _log.info("role_ready", **ports)
            if ready_fd is not None:
                with os.fdopen(ready_fd, "w") as pipe:
                    pipe.write(json.dumps(ports) + "\n")

        body(settings, store, metrics, resources, announce, stop)
    _log.info("role_stopped")


Announce = Callable[..., None]


def _receive(
    settings: Settings,
    store: SqlJobStore,
    metrics: Metrics,
    resources: ExitStack,
    announce: Announce,
    stop: threading.Event,
) -> None:
    # Receiving goes on while the database is down, from the first second.
    threading.Thread(target=_migrate_until_done, args=(store, stop), daemon=True).start()
    spool = open_spool(settings)
    index = Indexer(store, spool)
    index.start()
    resources.callback(index.stop)
    listener = Listener(settings.dicom, spool, index, metrics)
    listener.start()
    resources.callback(listener.stop)
    announce(dicom_port=listener.port)
    stop.wait()


def _api(
    settings: Settings,
    store: SqlJobStore,
    metrics: Metrics,
    resources: ExitStack,
    announce: Announce,
    stop: threading.Event,
) -> None:
    _migrate_until_done(store, stop)
    server = GrpcServer(
        settings.grpc,
        store=store,
        spool=open_spool(settings),
        list_models=lambda: models.list_models(settings.models.repo),
        results_root=settings.jobs.results,
        max_queued=settings.jobs.max_queued,
    )
    server.start()
    resources.callback(server.stop)
    announce(grpc_port=server.port)
    stop.wait()


def _work(
    settings: Settings,
    store: SqlJobStore,
    metrics: Metrics,
    resources: ExitStack,
    announce: Announce,
    stop: threading.Event,
) -> None:
    configure_kernels(settings)
    pipeline = Pipeline(settings, metrics)
    resources.callback(pipeline.close)
    pipeline.serve(settings.models.default)
    _migrate_until_done(store, stop)
    loop = WorkerLoop(
        store,
        settings.jobs,
        plan=partial(_plan, pipeline, metrics),
        run=partial(_run, pipeline, store, settings),
        destinations=partial(_route, settings),
        committed=partial(_observe, metrics),
    )
    sweeper = threading.Thread(target=_sweep_often, args=(settings, store, stop), daemon=True)
    sweeper.start()
    announce()
    loop.run(stop)


def _deliver(
    settings: Settings,
    store: SqlJobStore,
    metrics: Metrics,
    resources: ExitStack,
    announce: Announce,
    stop: threading.Event,
) -> None:
    _migrate_until_done(store, stop)
    loop = DeliverLoop(
        store,
        settings.deliver,
        settings.jobs.results,
        metrics=metrics,
        clock=now,
        owner=this_process("deliver"),
        lease_s=settings.jobs.lease_s,
    )
    announce()
    loop.run(stop)


def configure_kernels(settings: Settings) -> None:
    """Fix Numba's cache folder, threads and threading layer before it is imported."""
    engine = settings.engine
    segment.configure_numba(engine.numba_cache, engine.numba_threading_layer, engine.threads)


def _migrate_until_done(store: SqlJobStore, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            store.migrate()
            return
        except StoreUnavailable as error:
            _log.warning("store_unavailable", error=str(error))
            stop.wait(_MIGRATE_PAUSE_S)


def _plan(pipeline: Pipeline, metrics: Metrics, submission: Submission) -> Plan:
    """Plan one submission, and observe how long its series took to arrive and close."""
    gathered_s = (now() - submission.opened_at).total_seconds()
    metrics.stage_seconds.labels("receive", "").observe(gathered_s)
    return pipeline.plan(submission)


def _run(
    pipeline: Pipeline,
    store: SqlJobStore,
    settings: Settings,
    job: Job,
    paths: Sequence[Path],
    folder: Path,
    report: Report,
) -> Outcome:
    return pipeline.run(job, paths, folder, report, _predecessor(store, settings, job))


def _observe(metrics: Metrics, job: Job, submission: Submission, outcome: Outcome) -> None:
    """Observe how long a series took, from its first instance to its committed result."""
    took_s = (now() - submission.opened_at).total_seconds()
    metrics.series_seconds.labels(outcome.modality).observe(took_s)


def _route(settings: Settings, job: Job, outcome: Outcome) -> dict[str, tuple[ResultKind, ...]]:
    return destinations_for(job, outcome.grade, outcome.verdict, settings.deliver)


def _predecessor(store: SqlJobStore, settings: Settings, job: Job) -> Predecessor | None:
    """Return the report that `job`'s will name as the one it follows."""
    if job.parent_id is None:
        return None
    parent = store.get_job(job.parent_id)
    report = next((file for file in parent.results if file.kind is ResultKind.SR), None)
    if report is None:
        return None
    return read_predecessor(settings.jobs.results / report.path)


def _sweep_often(settings: Settings, store: SqlJobStore, stop: threading.Event) -> None:
    """Remove what has expired, every ten minutes."""
    spool = open_spool(settings)
    while True:
        try:
            sweep(
                store,
                spool,
                settings.jobs.results.absolute(),
                keep_instances_days=settings.spool.keep_days,
                keep_jobs_days=settings.jobs.keep_days,
            )
        except (StoreUnavailable, OSError) as error:
            _log.warning("sweep_postponed", error=type(error).__name__)
        if stop.wait(_SWEEP_PAUSE_S):
            return


def describe_job(job: Job, deliveries: Sequence[Delivery]) -> Iterator[str]:
    """Yield one job as lines for people."""
    yield f"job         {job.id}"
    yield f"state       {job.state}{f' ({job.stage})' if job.state is JobState.RUNNING else ''}"
    yield f"series      {job.series_uid} version {job.submission_version} from {job.principal}"
    yield f"model       {job.model}{f' on {job.engine}' if job.engine else ''}"
    yield f"created     {job.created_at:%Y-%m-%d %H:%M:%S} UTC, attempts {job.attempts}"
    if job.error_reason:
        yield f"error       {job.error_reason}: {job.error_message}"
    if job.verdict is not None:
        yield f"verdict     {job.verdict.decision}"
        for reason in job.verdict.reasons:
            yield f"            {reason}"
    for file in job.results:
        yield f"result      {file.kind:<9}{file.path}  {file.size_bytes} bytes"
    for one in deliveries:
        error = f": {one.last_error}" if one.last_error else ""
        yield f"delivery    {one.file.kind:<9}to {one.destination}: {one.state}{error}"

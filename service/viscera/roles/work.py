"""The worker: plans submissions, runs jobs, sweeps what has expired."""

import threading
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path

from viscera import log, segment
from viscera.config import Settings
from viscera.deliver.routes import addresses_of
from viscera.domain.jobs import Address, Job, Outcome, Plan
from viscera.domain.results import ResultKind
from viscera.domain.sources import Submission
from viscera.encode import Predecessor, read_predecessor
from viscera.errors import DeviceLost, StoreUnavailable
from viscera.jobs.heartbeat import Heartbeat
from viscera.jobs.retention import sweep
from viscera.jobs.stalled import show_stacks_when_asked
from viscera.jobs.store import SqlJobStore
from viscera.jobs.worker import RunIt, WorkerLoop
from viscera.labelling import Report
from viscera.metrics import Metrics
from viscera.pipeline import Pipeline
from viscera.roles.disks import DiskCollector
from viscera.roles.parts import Face, migrate_until_done, now, open_spool, open_store

_log = log.get(__name__)

_SWEEP_PAUSE_S = 600.0


def run(face: Face, stop: threading.Event) -> None:
    """Work until `stop` is set; ready once the default model has passed its golden tile."""
    show_stacks_when_asked()
    settings, metrics = face.settings, Metrics()
    engine = settings.engine
    segment.configure_numba(engine.numba_cache, engine.numba_threading_layer, engine.threads)
    with (
        closing(open_store(settings)) as store,
        face.shown(metrics) as announce,
        closing(Pipeline(settings, metrics)) as pipeline,
    ):
        with closing(_watcher(settings)) as watcher, watcher.watching("the start of an engine"):
            pipeline.serve(settings.models.default)
        migrate_until_done(store, stop)
        folders = {"spool": settings.spool.folder, "results": settings.jobs.results}
        metrics.registry.register(DiskCollector(folders))
        lost: list[DeviceLost] = []
        loop = WorkerLoop(
            store,
            settings.jobs,
            plan=partial(_plan, pipeline, store, metrics),
            run=ending_with_the_device(partial(_run, pipeline, store, settings), stop, lost),
            addresses=partial(_route, settings),
            committed=partial(_observe, metrics),
        )
        threading.Thread(target=_sweep_often, args=(settings, store, stop), daemon=True).start()
        announce()
        loop.run(stop)
        if lost:
            raise lost[0]


def _watcher(settings: Settings) -> Heartbeat:
    """Return what ends this process if its GPU hangs before there is a job."""
    jobs = settings.jobs
    return Heartbeat(jobs.url.get_secret_value(), jobs.lease_s, jobs.stall_s)


def ending_with_the_device(run: RunIt, stop: threading.Event, lost: list[DeviceLost]) -> RunIt:
    """Return `run`, which sets `stop` once the GPU has failed.

    What CUDA failed at once it fails at for the life of the process. The next process asks the
    driver and passes the golden tile before it takes a job; without a GPU the ladder goes on down.
    """

    def guarded(job: Job, paths: tuple[Path, ...], folder: Path, report: Report) -> Outcome:
        try:
            return run(job, paths, folder, report)
        except DeviceLost as error:
            _log.exception("device_lost")
            lost.append(error)
            stop.set()
            raise

    return guarded


def _plan(pipeline: Pipeline, store: SqlJobStore, metrics: Metrics, submission: Submission) -> Plan:
    """Plan one submission; observe how long it took to arrive and close, and what it became."""
    metrics.stage_seconds.labels("receive", "").observe(_seconds_since(submission.opened_at))
    plan = pipeline.plan(submission, store.beside)
    for choice in plan.choices:
        metrics.stacks.labels(choice.what, choice.reason).inc()
    if plan.refusal:
        metrics.stacks.labels("refuse", plan.refusal.split(":")[0]).inc()
    return plan


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
    took_s = _seconds_since(submission.opened_at)
    metrics.series_seconds.labels(outcome.modality).observe(took_s)


def _seconds_since(moment: datetime) -> float:
    """A clock set back gives 0: a histogram's sum must not fall."""
    return max(0.0, (now() - moment).total_seconds())


def _route(settings: Settings, job: Job, outcome: Outcome) -> tuple[Address, ...]:
    addresses = addresses_of(job, outcome.grade, outcome.verdict, settings.deliver)
    for one in addresses:
        if one.barred:
            _log.warning("delivery_barred", destination=one.destination, because=one.barred)
    return addresses


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
        except Exception:
            # Without sweeps the disk fills; the next one may go better.
            _log.exception("sweep_broke")
        if stop.wait(_SWEEP_PAUSE_S):
            return

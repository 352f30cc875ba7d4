"""The worker: claims what is due, has it done, and says how it ended.

It is handed what to do as callables and never imports the pipeline. One thread plans submissions
and one runs jobs, so that a refusal does not wait for a long job.

Log events are constant words, in this order for a job that goes well: `job_claimed`, `job_stage`,
`results_written`, `job_committed`. The kill tests use them as named points.
"""

import os
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic

import structlog

from viscera import log
from viscera.config import JobSettings
from viscera.domain.jobs import Address, Claim, Job, Outcome, Plan
from viscera.domain.results import ResultFile
from viscera.domain.sources import Submission
from viscera.errors import (
    LeaseLost,
    RoundTripMismatch,
    ServiceError,
    StorageUnavailable,
    StoreUnavailable,
)
from viscera.files.durable import sync_folder
from viscera.files.faults import storage_faults_named
from viscera.jobs.heartbeat import Heartbeat
from viscera.jobs.owners import this_process
from viscera.jobs.protocol import WorkStore

_log = log.get(__name__)

Report = Callable[[str, float, str], None]
"""(stage, 0..1 of it, engine): where the job is. Raises to stop it."""
PlanIt = Callable[[Submission], Plan]
RunIt = Callable[[Job, tuple[Path, ...], Path, Report], Outcome]
"""(job, absolute paths of its submission's instances, folder for the results, report)."""
Route = Callable[[Job, Outcome], Sequence[Address]]

_REPORT_PAUSE_S = 0.5
_STORE_PAUSE_S = 1.0
_NO_ROOM_PAUSE_S = 60.0


class StopRequested(Exception):
    """Unwinds a running job because the role stops; the job is given back uncounted."""


class WorkerLoop:
    """Plans and runs until told to stop.

    Parameters
    ----------
    store
        Where work is claimed and ends.
    settings
        Its URL, lease and stall are the heartbeat's too.
    plan, run, addresses
        What to do.
    committed
        Called after each commit, for metrics.
    """

    def __init__(
        self,
        store: WorkStore,
        settings: JobSettings,
        *,
        plan: PlanIt,
        run: RunIt,
        addresses: Route,
        committed: Callable[[Job, Submission, Outcome], None] = lambda *_: None,
    ) -> None:
        self._store, self._settings = store, settings
        self._plan, self._run, self._addresses = plan, run, addresses
        self._committed = committed
        self._owner = this_process("work")
        url = settings.url.get_secret_value()
        self._heartbeat = Heartbeat(url, settings.lease_s, settings.stall_s)
        self._results_root = settings.results.absolute()
        self._say_full_at_s = 0.0

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; a running job is then given back at its next report."""
        self._heartbeat.ensure()
        planner = threading.Thread(
            target=self._repeat, args=(self.plan_one, stop), name="planner", daemon=True
        )
        planner.start()
        try:
            self._repeat(lambda: self.run_one(stop), stop)
            planner.join()
        finally:
            self._heartbeat.close()

    def plan_one(self) -> bool:
        """Claim and settle one due submission; False where none is due."""
        claimed = self._store.claim_submission(self._owner)
        if claimed is None:
            return False
        claim, submission = claimed
        with (
            structlog.contextvars.bound_contextvars(submission_id=submission.id),
            self._heartbeat.keep("submissions", claim),
            suppress(LeaseLost),
        ):
            self._settle(claim, submission)
        return True

    def run_one(self, stop: threading.Event) -> bool:
        """Claim one job and bring it to an end; False where none is due, or there is no room."""
        claimed = self._store.claim_job(self._owner) if self._has_room() else None
        if claimed is None:
            return False
        claim, job = claimed
        folder = self._results_root / job.id / str(claim.fence)
        with (
            structlog.contextvars.bound_contextvars(job_id=job.id),
            self._heartbeat.keep("jobs", claim),
        ):
            _log.info("job_claimed", attempt=job.attempts, fence=claim.fence)
            try:
                self._attempt(claim, job, folder, stop)
            except LeaseLost:
                _log.info("lease_lost", fence=claim.fence)
            finally:
                self._clean(claim, folder)
        return True

    def _has_room(self) -> bool:
        """Whether a result fits on the disk: better no attempt than one that must fail."""
        with storage_faults_named():
            self._results_root.mkdir(parents=True, exist_ok=True)
            disk = os.statvfs(self._results_root)
        free_mb = disk.f_bavail * disk.f_frsize / 1e6
        if free_mb >= self._settings.reserve_mb:
            return True
        if monotonic() >= self._say_full_at_s:
            self._say_full_at_s = monotonic() + _NO_ROOM_PAUSE_S
            _log.error("results_disk_full", free_mb=round(free_mb))
        return False

    def _repeat(self, work: Callable[[], bool], stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                if not work():
                    stop.wait(self._settings.poll_s)
            except StorageUnavailable as error:
                _log.warning("storage_unavailable", error=str(error))
                stop.wait(_NO_ROOM_PAUSE_S)
            except StoreUnavailable as error:
                _log.warning("store_unavailable", error=str(error))
                stop.wait(max(self._settings.poll_s, _STORE_PAUSE_S))
            except Exception:
                # One row that breaks a claim must not end all planning without a word.
                _log.exception("worker_broke")
                stop.wait(max(self._settings.poll_s, _STORE_PAUSE_S))

    def _settle(self, claim: Claim, submission: Submission) -> None:
        """Plan one submission; data faults are the plan's, all others come back later."""
        try:
            with storage_faults_named():
                plan = self._plan(submission)
        except ServiceError as error:
            if not error.retry:
                self._store.settle_submission(claim, (), (), f"{error.reason}: {error}")
                return
            _log.warning("submission_postponed", reason=error.reason, error=str(error))
            self._store.release_submission(claim)
        except Exception:
            _log.exception("submission_broke")
            self._store.release_submission(claim, counted=True)
        else:
            jobs = self._store.settle_submission(claim, plan.choices, plan.jobs, plan.refusal)
            if any(choice.what == "wait" for choice in plan.choices):
                self._store.look_again(submission.id, plan.looked_at)
            refused = [choice.reason for choice in plan.choices if choice.reason]
            refused += [plan.refusal.split(":")[0]] if plan.refusal else []
            tell = _log.warning if refused else _log.info
            tell("submission_settled", jobs=len(jobs), refused=refused)

    def _attempt(self, claim: Claim, job: Job, folder: Path, stop: threading.Event) -> None:
        """Run one job; each way in which it can go wrong has its own end."""
        try:
            submission = self._store.get_submission(job.submission_id)
            report = Reporter(self._store, self._heartbeat, claim, stop)
            several = len(job.stacks) > 1
            paths = self._store.job_paths(job.id) if several else submission.paths
            with storage_faults_named():
                folder.mkdir(parents=True, exist_ok=True)
                outcome = self._run(job, paths, folder, report)
                outcome_is_durable(outcome.results, self._results_root, folder)
            _log.info("results_written", fence=claim.fence)
            self._commit(claim, job, outcome, stop)
            self._committed(job, submission, outcome)
        except LeaseLost:
            raise
        except StopRequested:
            _log.info("job_released")
            self._store.release_job(claim)
        except ServiceError as error:
            self._give_up(claim, error)
        except Exception as error:
            _log.exception("job_broke")
            # The message may quote data; the log has the traceback.
            text = "an error without a name; the log has it under this job's id"
            self._store.retry_later(claim, type(error).__name__, text)

    def _give_up(self, claim: Claim, error: ServiceError) -> None:
        _log.warning("job_ended_badly", reason=error.reason, retry=error.retry, error=str(error))
        end = self._store.retry_later if error.retry else self._store.refuse_job
        if isinstance(error, StorageUnavailable):
            end = self._store.postpone_job  # all jobs would use up their attempts alike
        end(claim, error.reason, str(error))

    def _commit(self, claim: Claim, job: Job, outcome: Outcome, stop: threading.Event) -> None:
        """Record the digests; a store that is away for a while does not cost the result."""
        addresses = self._addresses(job, outcome)
        while True:
            try:
                self._store.finish_job(claim, outcome.results, outcome.verdict, addresses)
            except StoreUnavailable as error:
                _log.warning("store_unavailable", error=str(error))
                self._heartbeat.alive(claim)
                if stop.wait(_STORE_PAUSE_S):
                    raise
            else:
                _log.info("job_committed", fence=claim.fence)
                return

    def _clean(self, claim: Claim, folder: Path) -> None:
        """Remove what does not count; where the store cannot say, the sweep will."""
        with suppress(StoreUnavailable):
            fences = self._store.live_fences(claim.id)
            if fences is not None and claim.fence not in fences:
                shutil.rmtree(folder, ignore_errors=True)


class Reporter:
    """Tells the store where a job is, and the job when it has to stop.

    Raises
    ------
    LeaseLost
        Cancelled, superseded, or another worker's by now.
    StopRequested
        This role stops.
    """

    def __init__(
        self, store: WorkStore, heartbeat: Heartbeat, claim: Claim, stop: threading.Event
    ) -> None:
        self._store, self._heartbeat = store, heartbeat
        self._claim, self._stop = claim, stop
        self._stage, self._next_s = "", 0.0

    def __call__(self, stage: str, progress: float, engine: str = "") -> None:
        """Keep every new stage, and progress within one about twice a second."""
        if self._stop.is_set():
            raise StopRequested
        if stage == self._stage and monotonic() < self._next_s:
            return
        if stage != self._stage:
            _log.info("job_stage", stage=stage)
        self._stage, self._next_s = stage, monotonic() + _REPORT_PAUSE_S
        self._heartbeat.alive(self._claim)
        try:
            self._store.report(self._claim, stage, progress, engine)
        except StoreUnavailable as error:  # progress is not worth a job
            _log.warning("store_unavailable", error=str(error))


def outcome_is_durable(results: Sequence[ResultFile], root: Path, folder: Path) -> None:
    """Sync every file of `results` and the folders that name them.

    Raises
    ------
    RoundTripMismatch
        If a file is not where and what `results` says.
    """
    for file in results:
        path = root / file.path
        if not path.is_relative_to(folder) or not path.is_file():
            raise RoundTripMismatch(f"{file.kind}: {file.path} is not in this attempt's folder")
        with path.open("rb") as written:
            os.fsync(written.fileno())
            if os.fstat(written.fileno()).st_size != file.size_bytes:
                raise RoundTripMismatch(f"{file.kind}: the file is not {file.size_bytes} bytes")
    for named in (folder, folder.parent, root):
        sync_folder(named)

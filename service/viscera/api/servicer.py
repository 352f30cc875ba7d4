"""`SegmentationService`: one method for each call."""
# ruff: noqa: N802 - the methods are named by the proto

import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from viscera.api import messages, results
from viscera.api.by_uid import ByUid
from viscera.api.gate import Call
from viscera.api.jobs import JobBook, Planned, require_results
from viscera.api.uploads import DoorStore, Limits, Requests, Upload, channels_of, read_header
from viscera.api.v1 import viscera_pb2 as pb
from viscera.api.v1.viscera_pb2_grpc import SegmentationServiceServicer
from viscera.domain.jobs import Job, JobState
from viscera.domain.models import Model
from viscera.domain.results import Decision
from viscera.domain.sources import Channels
from viscera.errors import InvalidRequest, ModelNotFound, QueueFull
from viscera.jobs.leftovers import ABANDONED
from viscera.jobs.protocol import JobEvent
from viscera.jobs.spool import Spool

_PAGE = 100
_LONGEST_PAGE = 1000

Models = Callable[[], Sequence[Model]]
Part = dict[str, Any]
"""One answer of a segmenting call by the name of its part: such calls answer alike."""


class SegmentationServicer(SegmentationServiceServicer):
    """Translates calls to the spool, the job store and the results folder.

    Methods get a `Call` where grpc would hand its context (`gate.Gate` sees to that), raise
    `ServiceError`, and are told apart from their callers by nothing else.
    """

    def __init__(
        self,
        *,
        store: DoorStore,
        spool: Spool,
        list_models: Models,
        results_root: Path,
        book: JobBook,
        limits: Limits,
        max_queued: int,
        by_uid: ByUid,
    ) -> None:
        self._store = store
        self._spool = spool
        self._list_models = list_models
        self._results_root = results_root
        self._book = book
        self._limits = limits
        self._max_queued = max_queued
        self._by_uid = by_uid

    def SegmentSeries(self, requests: Requests, call: Call) -> Iterator[pb.SegmentSeriesResponse]:
        """Take one upload, then tell what becomes of it and send the results."""
        header = read_header(requests)
        upload = self._open(header.model, call, header.instances, channels_of(header))
        with upload.discarded_unless_closed():
            yield pb.SegmentSeriesResponse(accepted=pb.Accepted(job_id=upload.handle))
            upload.take(requests, self._limits)
            for part in self._finish(upload, call):
                yield pb.SegmentSeriesResponse(**part)

    def SegmentByUid(
        self, request: pb.SegmentByUidRequest, call: Call
    ) -> Iterator[pb.SegmentByUidResponse]:
        """Get one series of a PACS, then tell what becomes of it and send the results."""
        wanted = self._by_uid.locate(request, call)
        upload = self._open(request.model, call)
        with upload.discarded_unless_closed():
            yield pb.SegmentByUidResponse(accepted=pb.Accepted(job_id=upload.handle))
            upload.adopt(self._by_uid.bring(wanted, call))
            for part in self._finish(upload, call):
                yield pb.SegmentByUidResponse(**part)

    def GetJob(self, request: pb.GetJobRequest, call: Call) -> pb.GetJobResponse:
        """Return one job, or what its handle stands for so far."""
        found = self._book.find(request.job_id, call.principal)
        return pb.GetJobResponse(job=_as_message(found))

    def ListJobs(self, request: pb.ListJobsRequest, call: Call) -> pb.ListJobsResponse:
        """Return a page of the caller's jobs, newest first."""
        size = min(request.page_size or _PAGE, _LONGEST_PAGE)
        jobs = self._store.list_jobs(
            call.principal,
            states=tuple(messages.job_state(state) for state in request.states),
            submission_id=request.submission_id,
            series_uid=request.series_uid,
            limit=size + 1,
            before_id=request.page_token,
        )
        page = jobs[:size]
        return pb.ListJobsResponse(
            jobs=[messages.job_message(job) for job in page],
            next_page_token=page[-1].id if len(jobs) > size else "",
        )

    def WatchJob(self, request: pb.WatchJobRequest, call: Call) -> Iterator[pb.WatchJobResponse]:
        """Tell what happens to a job, or to all jobs of a handle, until they have ended."""
        found = self._book.find(request.job_id, call.principal)
        if request.after_sequence and request.job_id != getattr(found, "id", ""):
            raise InvalidRequest("after_sequence counts one job's events; give that job's id")
        if isinstance(found, Job) and found.id == request.job_id:
            jobs: Sequence[Job] = (found,)
        else:
            planned = self._book.await_plan(request.job_id, call)
            if planned is None:
                return
            if planned.refusal is not None:
                yield pb.WatchJobResponse(finished=_as_message(planned))
            jobs = planned.jobs
        for job in jobs:
            for news in self._book.follow(job, call, request.after_sequence):
                if isinstance(news, JobEvent):
                    yield pb.WatchJobResponse(progress=messages.progress_message(news))
                else:
                    yield pb.WatchJobResponse(finished=messages.job_message(news))

    def CancelJob(self, request: pb.CancelJobRequest, call: Call) -> pb.CancelJobResponse:
        """Cancel a job that has not ended."""
        job = self._book.require(request.job_id, call.principal)
        job = self._store.cancel(job.id, call.principal)
        return pb.CancelJobResponse(job=messages.job_message(job))

    def RetryJob(self, request: pb.RetryJobRequest, call: Call) -> pb.RetryJobResponse:
        """Queue a job again that ended without a result."""
        job = self._book.require(request.job_id, call.principal)
        job = self._store.retry(job.id, call.principal)
        return pb.RetryJobResponse(job=messages.job_message(job))

    def FetchResult(
        self, request: pb.FetchResultRequest, call: Call
    ) -> Iterator[pb.FetchResultResponse]:
        """Send one file of a result."""
        kind = messages.result_kind(request.kind)
        job = self._book.require(request.job_id, call.principal)
        for chunk in results.chunks(self._results_root, job, results.file_of(job, kind)):
            yield pb.FetchResultResponse(chunk=chunk)

    def ListModels(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
        """Return the models of the repository."""
        models = [messages.model_message(model) for model in self._list_models()]
        return pb.ListModelsResponse(models=models)

    def _open(self, model: str, call: Call, declared: int = 0, channels: Channels = ()) -> Upload:
        if model:
            self._require_model(model)
        elif channels:
            raise InvalidRequest("name the model whose channels the header has")
        queued = self._store.counts().get(JobState.QUEUED, 0)
        if queued >= self._max_queued:
            raise QueueFull(f"{queued} jobs wait; send this series again later")
        upload = Upload(
            handle=uuid.uuid4().hex,
            principal=call.principal,
            declared=declared,
            channels=channels,
            spool=self._spool,
            store=self._store,
        )
        upload.open(model)
        return upload

    def _finish(self, upload: Upload, call: Call) -> Iterator[Part]:
        """Complete an upload whose instances are here, and yield all that becomes of it."""
        if upload.declared:  # all that was announced is here, whether or not the client is
            upload.complete()
        else:
            upload.record()
        stored = pb.Stored(instances=len(upload.arrivals), size_bytes=upload.size_bytes)
        yield {"stored": stored}
        if not upload.declared:
            # A broken connection can look like a half-close. With an answer sent, it is known.
            if not call.is_active():
                upload.discard(ABANDONED)
                return
            upload.complete()
        yield {"complete": pb.Complete(job_id=upload.handle)}
        planned = self._book.await_plan(upload.handle, call)
        if planned is not None:
            yield from self._tell(planned, call)

    def _require_model(self, name: str) -> None:
        models = self._list_models()
        if not any(name in (model.name, model.full_name) for model in models):
            known = ", ".join(sorted(model.full_name for model in models)) or "none"
            raise ModelNotFound(f"model {name[:64]!r} is not here; known: {known}")

    def _tell(self, planned: Planned, call: Call) -> Iterator[Part]:
        """Yield the plan, each job's way and its files; raise if one ended without a result."""
        yield {"planned": messages.planned_message(planned.jobs, planned.choices)}
        if planned.refusal is not None:
            raise planned.refusal
        ended = []
        for job in planned.jobs:
            for news in self._book.follow(job, call):
                if isinstance(news, JobEvent):
                    yield {"progress": messages.progress_message(news)}
                else:
                    ended.append(news)
                    yield from self._result(news)
        require_results(ended)

    def _result(self, job: Job) -> Iterator[Part]:
        withheld = job.verdict is None or job.verdict.decision is Decision.WITHHOLD
        for file in () if withheld else messages.sendable(job.results):
            for chunk in results.chunks(self._results_root, job, file):
                yield {"chunk": chunk}
        yield {"finished": messages.job_message(job)}


def _as_message(found: Job | Planned) -> pb.Job:
    if isinstance(found, Job):
        return messages.job_message(found)
    return messages.submission_message(found.submission, found.refusal)

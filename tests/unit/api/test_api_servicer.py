"""The calls without sockets: what a worker does to the store, and what clients hear of it."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from api_fakes import MemoryStore, make_job, make_submission

from viscera import errors
from viscera.api.by_uid import ByUid
from viscera.api.gate import Call
from viscera.api.jobs import JobBook
from viscera.api.results import CHUNK_BYTES
from viscera.api.servicer import SegmentationServicer
from viscera.api.uploads import Limits
from viscera.api.v1 import viscera_pb2 as pb
from viscera.config import DicomSettings
from viscera.domain.jobs import Choice, Job, JobState
from viscera.domain.results import Decision, ResultFile, ResultKind, Verdict
from viscera.domain.sources import SubmissionState
from viscera.jobs.spool import Spool
from viscera.receive import PacsArchive

LOCAL = Call(principal="local", is_active=lambda: True)
OTHER = Call(principal="other", is_active=lambda: True)
GONE = Call(principal="local", is_active=lambda: False)


@pytest.fixture
def stopping() -> threading.Event:
    return threading.Event()


@pytest.fixture
def servicer(
    store: MemoryStore, spool: Spool, tmp_path: Path, stopping: threading.Event
) -> SegmentationServicer:
    return SegmentationServicer(
        store=store,
        spool=spool,
        list_models=lambda: (),
        results_root=tmp_path,
        book=JobBook(store, 0.001, stopping),
        limits=Limits(instance_bytes=10**9, upload_bytes=10**9),
        max_queued=3,
        by_uid=ByUid(PacsArchive(DicomSettings()), spool, store),
    )


@pytest.fixture
def finish(store: MemoryStore, tmp_path: Path) -> Callable[..., Job]:
    """Ends a job as a worker does, with a SEG longer than two chunks and a tiny JSON."""

    def finish(job_id: str = "job", decision: Decision = Decision.DELIVER) -> Job:
        files = []
        for kind, data in {
            ResultKind.VOLUMES: b"{}",
            ResultKind.SEG: bytes(range(256)) * (2 * CHUNK_BYTES // 256) + b"end",
        }.items():
            path = Path(f"{job_id}-{kind}")
            (tmp_path / path).write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            files.append(ResultFile(kind=kind, path=path, sha256=digest, size_bytes=len(data)))
        store.happen(job_id, JobState.DONE)
        store.jobs[job_id] = replace(
            store.jobs[job_id], verdict=Verdict(decision), results=tuple(files)
        )
        return store.jobs[job_id]

    return finish


def submitted(store: MemoryStore, *job_ids: str) -> None:
    store.submissions["upload"] = make_submission()
    store.settle("upload", *(make_job(job_id) for job_id in job_ids))


def header(model: str = "", instances: int = 0) -> pb.SegmentSeriesRequest:
    return pb.SegmentSeriesRequest(header=pb.SeriesHeader(model=model, instances=instances))


def upload(*instances: bytes) -> Iterator[pb.SegmentSeriesRequest]:
    yield header()
    for data in instances:
        yield pb.SegmentSeriesRequest(chunk=pb.InstanceChunk(data=data, last=True))


def get(servicer: SegmentationServicer, job_id: str, call: Call = LOCAL) -> pb.Job:
    return servicer.GetJob(pb.GetJobRequest(job_id=job_id), call).job


def fetched(
    servicer: SegmentationServicer, job_id: str, kind: int = pb.RESULT_KIND_SEG, call: Call = LOCAL
) -> list[pb.ResultChunk]:
    request = pb.FetchResultRequest(job_id=job_id, kind=kind)
    return [answer.chunk for answer in servicer.FetchResult(request, call)]


def test_a_handle_is_pending_until_planned_and_then_its_first_job(
    servicer: SegmentationServicer, store: MemoryStore
) -> None:
    store.submissions["upload"] = make_submission()
    assert get(servicer, "upload").state == pb.JOB_STATE_PENDING
    store.settle("upload", make_job("first"), make_job("second"))
    assert get(servicer, "upload").id == "first"
    assert get(servicer, "second").id == "second"


@pytest.mark.parametrize(
    ("choices", "refusal", "reason"),
    [
        ((), "UnevenSpacing: gaps of 4 to 7 mm", "UnevenSpacing"),
        (
            (Choice(what="refuse", because="too few", frames=2, reason="IncompleteSeries"),),
            "",
            "IncompleteSeries",
        ),
        ((Choice(what="ignore", because="rule lungs", frames=9),), "", "NoModelForSeries"),
        ((), "", "NoModelForSeries"),
    ],
)
def test_an_upload_without_jobs_says_why(
    choices: tuple[Choice, ...],
    refusal: str,
    reason: str,
    servicer: SegmentationServicer,
    store: MemoryStore,
) -> None:
    store.submissions["upload"] = make_submission()
    store.settle("upload", choices=choices, refusal=refusal)
    job = get(servicer, "upload")
    assert (job.state, job.error.reason) == (pb.JOB_STATE_REFUSED, reason)
    for word in [*refusal.split(": ")[1:], *(choice.because for choice in choices)]:
        assert word in job.error.message
    watched = list(servicer.WatchJob(pb.WatchJobRequest(job_id="upload"), LOCAL))
    assert [w.finished for w in watched] == [job]
    with pytest.raises(getattr(errors, reason)):
        fetched(servicer, "upload")


def test_others_do_not_see_a_job(servicer: SegmentationServicer, store: MemoryStore) -> None:
    submitted(store, "job")
    for job_id in ("job", "upload"):
        request = {"job_id": job_id}
        for ask in (
            lambda r: servicer.GetJob(pb.GetJobRequest(**r), OTHER),
            lambda r: list(servicer.WatchJob(pb.WatchJobRequest(**r), OTHER)),
            lambda r: servicer.CancelJob(pb.CancelJobRequest(**r), OTHER),
            lambda r: servicer.RetryJob(pb.RetryJobRequest(**r), OTHER),
            lambda r: list(servicer.FetchResult(pb.FetchResultRequest(**r, kind=1), OTHER)),
        ):
            with pytest.raises(errors.JobNotFound):
                ask(request)
    assert servicer.ListJobs(pb.ListJobsRequest(), OTHER).jobs == []
    assert store.jobs["job"].state is JobState.QUEUED


def test_pages_cover_all_jobs_once(servicer: SegmentationServicer, store: MemoryStore) -> None:
    submitted(store, *"abcdefg")
    seen, token = [], ""
    while True:
        page = servicer.ListJobs(pb.ListJobsRequest(page_size=3, page_token=token), LOCAL)
        assert len(page.jobs) <= 3
        seen += [job.id for job in page.jobs]
        token = page.next_page_token
        if not token:
            break
    assert seen == list("gfedcba")


def test_a_watcher_hears_everything_in_order_and_once(
    servicer: SegmentationServicer, store: MemoryStore, finish: Callable[..., Job]
) -> None:
    submitted(store, "job")
    store.happen("job", JobState.RUNNING, "decode")
    watch = servicer.WatchJob(pb.WatchJobRequest(job_id="job"), LOCAL)
    heard = [next(watch)]
    store.down = 5  # a store that is away for a while ends nothing
    store.happen("job", JobState.RUNNING, "segment", 0.5)
    heard.append(next(watch))
    finish()
    heard += watch
    assert [h.progress.stage for h in heard[:-1]] == ["decode", "segment", ""]
    assert [h.progress.sequence for h in heard[:-1]] == [1, 2, 3]
    assert heard[-1].finished.state == pb.JOB_STATE_DONE
    again = list(servicer.WatchJob(pb.WatchJobRequest(job_id="job", after_sequence=2), LOCAL))
    assert again == heard[2:]


def test_a_handle_is_watched_through_all_its_jobs(
    servicer: SegmentationServicer, store: MemoryStore, finish: Callable[..., Job]
) -> None:
    submitted(store, "a", "b")
    finish("a")
    finish("b")
    watched = servicer.WatchJob(pb.WatchJobRequest(job_id="upload"), LOCAL)
    assert [w.finished.id for w in watched if w.HasField("finished")] == ["a", "b"]


def test_after_sequence_with_a_handle_is_refused(
    servicer: SegmentationServicer, store: MemoryStore
) -> None:
    submitted(store, "job")
    request = pb.WatchJobRequest(job_id="upload", after_sequence=1)
    with pytest.raises(errors.InvalidRequest):
        next(servicer.WatchJob(request, LOCAL))


def test_a_watcher_that_goes_leaves_the_job(
    servicer: SegmentationServicer, store: MemoryStore
) -> None:
    submitted(store, "job")
    assert list(servicer.WatchJob(pb.WatchJobRequest(job_id="job"), GONE)) == []
    assert store.jobs["job"].state is JobState.QUEUED


def test_at_shutdown_a_watcher_is_sent_away_to_come_again(
    servicer: SegmentationServicer, store: MemoryStore, stopping: threading.Event
) -> None:
    submitted(store, "job")
    stopping.set()
    with pytest.raises(errors.ShuttingDown, match="WatchJob"):
        list(servicer.WatchJob(pb.WatchJobRequest(job_id="job"), LOCAL))


def test_fetching_gives_the_file(
    servicer: SegmentationServicer, store: MemoryStore, finish: Callable[..., Job], tmp_path: Path
) -> None:
    submitted(store, "job")
    finish()
    chunks = fetched(servicer, "upload")
    data = (tmp_path / "job-seg").read_bytes()
    assert b"".join(chunk.data for chunk in chunks) == data
    assert [chunk.last for chunk in chunks] == [False, False, True]
    assert [chunk.offset for chunk in chunks] == [0, CHUNK_BYTES, 2 * CHUNK_BYTES]
    assert chunks[0].info.sha256 == hashlib.sha256(data).hexdigest()
    assert max(chunk.ByteSize() for chunk in chunks) < 1 << 20
    assert [c.data for c in fetched(servicer, "job", pb.RESULT_KIND_VOLUMES)] == [b"{}"]


def test_a_changed_file_never_says_last(
    servicer: SegmentationServicer, store: MemoryStore, finish: Callable[..., Job], tmp_path: Path
) -> None:
    submitted(store, "job")
    finish()
    path = tmp_path / "job-seg"
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    request = pb.FetchResultRequest(job_id="job", kind=pb.RESULT_KIND_SEG)
    seen = []
    with pytest.raises(errors.RoundTripMismatch):
        seen.extend(a.chunk.last for a in servicer.FetchResult(request, LOCAL))
    assert not any(seen)


def test_what_is_not_there_is_not_found(
    servicer: SegmentationServicer, store: MemoryStore, finish: Callable[..., Job], tmp_path: Path
) -> None:
    submitted(store, "job")
    with pytest.raises(errors.JobNotFound, match="queued"):
        fetched(servicer, "job")
    finish()
    with pytest.raises(errors.JobNotFound, match="no qc"):
        fetched(servicer, "job", pb.RESULT_KIND_QC)
    (tmp_path / "job-seg").unlink()
    with pytest.raises(errors.JobNotFound, match="removed"):
        fetched(servicer, "job")


def test_cancel_and_retry(servicer: SegmentationServicer, store: MemoryStore) -> None:
    store.submissions["upload"] = make_submission()
    with pytest.raises(errors.JobNotFound, match="WatchJob"):
        servicer.CancelJob(pb.CancelJobRequest(job_id="upload"), LOCAL)
    store.settle("upload", make_job())
    cancelled = servicer.CancelJob(pb.CancelJobRequest(job_id="upload"), LOCAL).job
    assert cancelled.state == pb.JOB_STATE_CANCELLED
    retried = servicer.RetryJob(pb.RetryJobRequest(job_id="job"), LOCAL).job
    assert retried.state == pb.JOB_STATE_QUEUED


def test_a_full_queue_refuses_an_upload_before_its_bytes(
    servicer: SegmentationServicer, store: MemoryStore, spool: Spool
) -> None:
    submitted(store, "a", "b", "c")
    with pytest.raises(errors.QueueFull, match="3 jobs"):
        next(servicer.SegmentSeries(upload(), LOCAL))
    assert list(spool.uploads()) == []


def test_an_unknown_model_is_refused_before_the_bytes(
    servicer: SegmentationServicer, spool: Spool
) -> None:
    with pytest.raises(errors.ModelNotFound, match="known: none"):
        next(servicer.SegmentSeries(iter([header("liver-9000")]), LOCAL))
    assert list(spool.uploads()) == []


def settle_once_closed(store: MemoryStore, *jobs: Job) -> Callable[[str], None]:
    close = store.close_upload

    def close_and_settle(handle: str) -> None:
        close(handle)
        store.settle(handle, *(replace(job, submission_id=handle) for job in jobs))

    return close_and_settle


def test_the_answers_come_in_the_order_that_the_proto_promises(
    servicer: SegmentationServicer,
    store: MemoryStore,
    finish: Callable[..., Job],
    make_instance: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "close_upload", settle_once_closed(store, make_job()))
    answers = servicer.SegmentSeries(upload(make_instance(1), make_instance(2)), LOCAL)
    parts = [next(answers) for _ in range(4)]
    handle = parts[0].accepted.job_id
    assert parts[1].stored.instances == 2
    assert parts[2].complete.job_id == handle
    assert list(parts[3].planned.job_ids) == ["job"]
    store.happen("job", JobState.RUNNING, "segment", 0.5)
    parts.append(next(answers))
    done = finish()
    parts += answers
    names = [part.WhichOneof("part") for part in parts[4:]]
    assert names == ["progress", "progress", "chunk", "chunk", "chunk", "chunk", "finished"]
    kinds = [p.chunk.info.kind for p in parts if p.chunk.HasField("info")]
    assert kinds == [pb.RESULT_KIND_SEG, pb.RESULT_KIND_VOLUMES]
    assert parts[-1].finished.id == done.id


def test_a_withheld_result_is_told_and_not_sent(
    servicer: SegmentationServicer,
    store: MemoryStore,
    finish: Callable[..., Job],
    make_instance: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "close_upload", settle_once_closed(store, make_job()))
    answers = servicer.SegmentSeries(upload(make_instance(1)), LOCAL)
    heard = [next(answers) for _ in range(4)]
    finish(decision=Decision.WITHHOLD)
    heard += answers
    assert not any(part.HasField("chunk") for part in heard)
    assert heard[-1].finished.verdict.decision == pb.DECISION_WITHHOLD
    assert fetched(servicer, "job")  # for review, on demand


@pytest.mark.parametrize(
    ("state", "reason", "error"),
    [
        (JobState.REFUSED, "UndecodablePixels", errors.UndecodablePixels),
        (JobState.FAILED, "HostMemoryFull", errors.HostMemoryFull),
        (JobState.FAILED, "KeyError", errors.ServiceError),
        (JobState.CANCELLED, "", errors.JobStopped),
        (JobState.SUPERSEDED, "", errors.JobStopped),
    ],
)
def test_the_call_ends_as_its_job_did_after_the_results_of_the_others(
    state: JobState,
    reason: str,
    error: type[errors.ServiceError],
    servicer: SegmentationServicer,
    store: MemoryStore,
    finish: Callable[..., Job],
    make_instance: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = settle_once_closed(store, make_job("bad"), make_job("good"))
    monkeypatch.setattr(store, "close_upload", jobs)
    answers = servicer.SegmentSeries(upload(make_instance(1)), LOCAL)
    heard = [next(answers) for _ in range(4)]
    store.happen("bad", state)
    store.jobs["bad"] = replace(store.jobs["bad"], error_reason=reason, error_message="why")
    finish("good")
    with pytest.raises(error) as raised:
        heard.extend(part for part in answers)
    assert type(raised.value) is error
    assert [p.finished.id for p in heard if p.HasField("finished")] == ["bad", "good"]
    assert {p.chunk.job_id for p in heard if p.HasField("chunk")} == {"good"}


def test_a_client_that_is_gone_after_an_undeclared_end_leaves_no_upload(
    servicer: SegmentationServicer,
    store: MemoryStore,
    spool: Spool,
    make_instance: Callable[..., bytes],
) -> None:
    heard = list(servicer.SegmentSeries(upload(make_instance(1)), GONE))
    assert [part.WhichOneof("part") for part in heard] == ["accepted", "stored"]
    assert (store.closed, list(spool.uploads())) == ([], [])
    assert [s.state for s in store.submissions.values()] == [SubmissionState.REFUSED]


def test_a_client_that_is_gone_after_all_it_declared_has_submitted(
    servicer: SegmentationServicer,
    store: MemoryStore,
    spool: Spool,
    make_instance: Callable[..., bytes],
) -> None:
    requests = [header(instances=1), *list(upload(make_instance(1)))[1:]]
    heard = list(servicer.SegmentSeries(iter(requests), GONE))
    assert heard[-1].WhichOneof("part") == "complete"
    assert (store.closed, [u.closed for u in spool.uploads()]) == (
        [heard[0].accepted.job_id],
        [True],
    )

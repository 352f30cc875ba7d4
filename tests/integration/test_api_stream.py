"""SegmentSeries over a real channel: what counts as an upload, and what comes back."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from api_harness import CONTENTS, House, a_house, refusal_of, serving, stub, write_series

from viscera.api import recovery
from viscera.api.client import requests, save_results, segment_files
from viscera.api.grpc_server import GrpcServer
from viscera.api.v1 import viscera_pb2 as pb
from viscera.api.v1.viscera_pb2_grpc import SegmentationServiceStub
from viscera.domain.jobs import JobState
from viscera.domain.sources import Origin, SubmissionState
from viscera.errors import StoreUnavailable

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with a_house(tmp_path) as house:
        yield house


@pytest.fixture
def server(house: House) -> Iterator[GrpcServer]:
    with serving(house) as server:
        yield server


@pytest.fixture
def api(server: GrpcServer) -> Iterator[SegmentationServiceStub]:
    with stub(server) as api:
        yield api


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    return write_series(tmp_path / "series")


def upload(paths: list[Path], declared: int = 0) -> list[pb.SegmentSeriesRequest]:
    messages = list(requests(paths))
    messages[0].header.instances = declared
    return messages


def eventually(condition: object, within_s: float = 5.0) -> bool:
    assert callable(condition)
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def nothing_is_planned(house: House) -> bool:
    return house.plan() is None and not any(u.closed for u in house.spool.uploads())


def test_one_call_gives_job_progress_and_the_very_bytes_of_the_results(
    house: House, server: GrpcServer, series: list[Path], tmp_path: Path
) -> None:
    with house.working(), grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        answers = list(segment_files(channel, series))
    names = [answer.WhichOneof("part") for answer in answers]
    assert names[:4] == ["accepted", "stored", "complete", "planned"]
    assert names[-1] == "finished"
    assert set(names[4:-1]) == {"progress", "chunk"}
    assert {a.progress.stage for a in answers} >= {"decode", "segment"}
    assert answers[1].stored.size_bytes == sum(path.stat().st_size for path in series)
    (tmp_path / "out").mkdir()
    saved = save_results((a.chunk for a in answers if a.HasField("chunk")), tmp_path / "out")
    job_id = answers[-1].finished.id
    assert {path.name: path.read_bytes() for path in saved} == {
        f"{job_id}-seg.dcm": CONTENTS["seg"],
        f"{job_id}-sr.dcm": CONTENTS["sr"],
        f"{job_id}-qc.png": CONTENTS["qc"],
        f"{job_id}-volumes.json": CONTENTS["volumes"],
    }


def test_the_spool_holds_what_was_sent(
    house: House, api: SegmentationServiceStub, series: list[Path]
) -> None:
    call = api.SegmentSeries(iter(upload(series)))
    handle = next(call).accepted.job_id
    assert [next(call).WhichOneof("part") for _ in range(2)] == ["stored", "complete"]
    submission = house.plan()
    assert submission is not None
    assert (submission.id, submission.principal) == (handle, "local")
    assert {p.read_bytes() for p in submission.paths} == {p.read_bytes() for p in series}
    call.cancel()


def test_the_handle_serves_every_call(
    house: House, api: SegmentationServiceStub, series: list[Path]
) -> None:
    call = api.SegmentSeries(iter(upload(series)))
    handle = next(call).accepted.job_id
    while next(call).WhichOneof("part") != "complete":
        pass
    assert api.GetJob(pb.GetJobRequest(job_id=handle)).job.state == pb.JOB_STATE_PENDING
    house.plan()
    job = api.GetJob(pb.GetJobRequest(job_id=handle)).job
    assert (job.submission_id, job.state, job.frames) == (handle, pb.JOB_STATE_QUEUED, 4)
    cancelled = api.CancelJob(pb.CancelJobRequest(job_id=handle)).job
    assert cancelled.state == pb.JOB_STATE_CANCELLED
    assert api.RetryJob(pb.RetryJobRequest(job_id=handle)).job.state == pb.JOB_STATE_QUEUED
    house.run()
    watched = list(api.WatchJob(pb.WatchJobRequest(job_id=handle)))
    assert watched[-1].finished.state == pb.JOB_STATE_DONE
    sequences = [w.progress.sequence for w in watched[:-1]]
    assert sequences == sorted(set(sequences))
    listed = api.ListJobs(pb.ListJobsRequest(submission_id=handle)).jobs
    assert [j.id for j in listed] == [job.id]
    fetch = pb.FetchResultRequest(job_id=handle, kind=pb.RESULT_KIND_SEG)
    chunks = [answer.chunk for answer in api.FetchResult(fetch)]
    assert b"".join(c.data for c in chunks) == CONTENTS["seg"]
    assert len(chunks) > 1


@pytest.mark.parametrize("fault", ["missing", "changed"])
def test_a_result_that_a_disk_lost_is_made_again_as_the_refusal_says(
    fault: str, house: House, api: SegmentationServiceStub, series: list[Path]
) -> None:
    with house.working():
        done = list(api.SegmentSeries(iter(upload(series))))[-1].finished
    fetch = pb.FetchResultRequest(job_id=done.id, kind=pb.RESULT_KIND_SEG)
    retry = pb.RetryJobRequest(job_id=done.id)
    assert refusal_of(lambda: api.RetryJob(retry))[1] == "InvalidRequest"
    path = house.results / done.id / "seg"
    path.unlink() if fault == "missing" else path.write_bytes(b"another segmentation")
    with pytest.raises(grpc.RpcError, match="RetryJob"):
        list(api.FetchResult(fetch))
    assert api.RetryJob(retry).job.state == pb.JOB_STATE_QUEUED
    house.run()
    chunks = [answer.chunk for answer in api.FetchResult(fetch)]
    assert b"".join(c.data for c in chunks) == CONTENTS["seg"]


def test_the_same_series_again_gets_the_job_that_is_there(
    house: House, api: SegmentationServiceStub, series: list[Path]
) -> None:
    with house.working():
        first = list(api.SegmentSeries(iter(upload(series))))
        again = list(api.SegmentSeries(iter(upload(series))))
    assert first[0].accepted.job_id != again[0].accepted.job_id
    assert first[-1].finished == again[-1].finished
    assert len(house.store.list_jobs()) == 1
    found = api.GetJob(pb.GetJobRequest(job_id=again[0].accepted.job_id)).job
    assert found.id == first[-1].finished.id


def test_however_many_jobs_an_upload_has_the_call_tells_of_all(
    house: House, api: SegmentationServiceStub, series: list[Path]
) -> None:
    call = api.SegmentSeries(iter(upload(series, declared=len(series))))
    while next(call).WhichOneof("part") != "complete":
        pass
    assert house.plan(jobs=103) is not None
    planned = next(call).planned.job_ids
    assert len(set(planned)) == 103
    call.cancel()


def test_a_refused_series_ends_the_call_with_its_reason(
    house: House, api: SegmentationServiceStub, series: list[Path]
) -> None:
    call = api.SegmentSeries(iter(upload(series)))
    handle = next(call).accepted.job_id
    assert eventually(lambda: house.refuse_plan("UnevenSpacing: gaps from 4 to 7 mm"))
    code, reason, retry = refusal_of(lambda: list(call))
    assert (code, reason, retry) == (grpc.StatusCode.FAILED_PRECONDITION, "UnevenSpacing", False)
    job = api.GetJob(pb.GetJobRequest(job_id=handle)).job
    assert (job.state, job.error.message) == (pb.JOB_STATE_REFUSED, "gaps from 4 to 7 mm")


@pytest.mark.parametrize("when", ["complete", "planned", "progress"])
def test_a_client_that_goes_after_complete_cancels_nothing(
    when: str, house: House, api: SegmentationServiceStub, series: list[Path]
) -> None:
    call = api.SegmentSeries(iter(upload(series)))
    handle = next(call).accepted.job_id
    while (part := next(call).WhichOneof("part")) != when:
        if part == "complete":
            house.plan()
    call.cancel()
    if when == "complete":
        assert eventually(lambda: house.plan() is not None)
    house.run()
    job = house.store.list_jobs(submission_id=handle)[0]
    assert job.state is JobState.DONE
    watched = list(api.WatchJob(pb.WatchJobRequest(job_id=handle)))
    assert watched[-1].finished.id == job.id


def broken_off(house: House, server: GrpcServer, messages: list[pb.SegmentSeriesRequest]) -> None:
    """Send all of `messages`, see every instance stored, and cancel without a half-close."""
    let_go = threading.Event()
    stored = instances_stored(house)

    def stream() -> Iterator[pb.SegmentSeriesRequest]:
        yield from messages
        let_go.wait(5)

    with stub(server) as api:
        call = api.SegmentSeries(stream())
        expected = stored + sum(message.chunk.last for message in messages)
        assert eventually(lambda: instances_stored(house) == expected)
        call.cancel()
        let_go.set()


def instances_stored(house: House) -> int:
    return len(list(house.spool.root.glob("grpc/*/*.dcm")))


def test_a_client_that_declared_and_breaks_off_after_all_has_submitted(
    house: House, server: GrpcServer, series: list[Path]
) -> None:
    for _ in range(5):
        broken_off(house, server, upload(series, declared=len(series)))
    assert eventually(lambda: [u.closed for u in house.spool.uploads()] == [True] * 5)


def test_an_upload_that_breaks_off_between_instances_is_never_segmented(
    house: House, server: GrpcServer, series: list[Path]
) -> None:
    """Cancelled, an HTTP/2 stream can look half-closed to the server: hence many rounds."""
    for _ in range(40):
        broken_off(house, server, upload(series))
        assert eventually(lambda: not list(house.spool.root.glob("grpc/*")))
    assert nothing_is_planned(house)
    assert house.store.unclosed_uploads() == ()


_CLIENT = """
import sys, time, grpc
from pathlib import Path
from viscera.api.client import requests
from viscera.api.v1 import viscera_pb2 as pb
from viscera.api.v1.viscera_pb2_grpc import SegmentationServiceStub

def stream():
    yield pb.SegmentSeriesRequest(header=pb.SeriesHeader())
    yield from list(requests([Path(name) for name in sys.argv[2:]]))[1:]
    time.sleep(60)

list(SegmentationServiceStub(grpc.insecure_channel(sys.argv[1])).SegmentSeries(stream()))
"""


def test_an_upload_whose_client_is_killed_is_never_segmented(
    house: House, server: GrpcServer, series: list[Path]
) -> None:
    for _ in range(5):
        address = f"127.0.0.1:{server.port}"
        client = subprocess.Popen([sys.executable, "-c", _CLIENT, address, *map(str, series)])
        assert eventually(lambda: instances_stored(house) == len(series), 20)
        client.kill()
        client.wait()
        assert eventually(lambda: not instances_stored(house))
    assert nothing_is_planned(house)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda data: b"\x89PNG" + data, "DatasetMismatch"),
        (lambda data: data[:100], "DatasetMismatch"),
        (lambda data: data.replace(b"1.2.826.0.1.3", b"1.2.826.0.x.3"), "InvalidUID"),
        (lambda data: data.replace(b"1.2.826.0.1.3", b"1.2.826.0.1.1"), "ConflictingInstance"),
    ],
)
def test_a_bad_instance_ends_the_upload_and_nothing_half_stored_counts(
    spoil: object,
    reason: str,
    house: House,
    api: SegmentationServiceStub,
    series: list[Path],
) -> None:
    assert callable(spoil)
    series[2].write_bytes(spoil(series[2].read_bytes()))
    code, seen, retry = refusal_of(lambda: api.SegmentSeries(iter(upload(series))))
    expected = grpc.StatusCode.ALREADY_EXISTS if reason == "ConflictingInstance" else INVALID
    assert (code, seen, retry) == (expected, reason, False)
    assert nothing_is_planned(house)
    assert not list(house.spool.root.glob("grpc/*"))


@pytest.mark.parametrize("case", ["no last", "too few", "no header", "two headers", "nothing"])
def test_a_stream_that_makes_no_sense_is_refused(
    case: str, house: House, api: SegmentationServiceStub, series: list[Path]
) -> None:
    messages = upload(series, declared=5 if case == "too few" else 0)
    if case == "no last":
        messages[-1].chunk.last = False
    messages = {
        "no header": messages[1:],
        "two headers": [messages[0], *messages],
        "nothing": messages[:1],
    }.get(case, messages)
    answer = refusal_of(lambda: api.SegmentSeries(iter(messages)))
    assert answer == (INVALID, "InvalidRequest", False)
    assert nothing_is_planned(house)


def test_an_unknown_model_is_refused(api: SegmentationServiceStub, series: list[Path]) -> None:
    answer = refusal_of(lambda: api.SegmentSeries(requests(series, "liver-9000")))
    assert answer == (grpc.StatusCode.NOT_FOUND, "ModelNotFound", False)


def test_a_full_queue_asks_to_come_again(house: House, series: list[Path], tmp_path: Path) -> None:
    with serving(house, max_queued=1) as server, stub(server) as api:
        call = api.SegmentSeries(iter(upload(series)))
        next(call)
        assert eventually(lambda: house.plan() is not None)
        others = upload(write_series(tmp_path / "other", series_uid="1.2.826.0.2"))
        answer = refusal_of(lambda: api.SegmentSeries(iter(others)))
        assert answer == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QueueFull", True)
        call.cancel()


def test_what_the_store_missed_is_there_after_a_restart(
    house: House, series: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the api was killed between the marker on disk and the rows."""
    with serving(house) as server, stub(server) as api, monkeypatch.context() as patch:
        patch.setattr(house.store, "record_arrivals", lambda arrivals: 1 / 0)
        call = api.SegmentSeries(iter(upload(series, declared=len(series))))
        handle = next(call).accepted.job_id
        assert refusal_of(lambda: list(call))[1] == "ServiceError"
    assert house.store.get_submission(handle).paths == ()
    with serving(house):
        assert eventually(lambda: house.plan() is not None)
    assert house.store.get_submission(handle).state is SubmissionState.CLOSED
    assert len(house.store.list_jobs(submission_id=handle)[0].stacks[0]) == len(series)


@pytest.mark.parametrize("call_of", ["record_arrivals", "close_upload"])
def test_what_the_store_missed_at_the_end_is_segmented_without_a_restart(
    call_of: str,
    house: House,
    series: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(*_: object) -> None:
        raise StoreUnavailable("the store is away for a moment")

    monkeypatch.setattr(recovery, "_LOOK_S", 0.2)
    with serving(house) as server, stub(server) as api:
        with monkeypatch.context() as patch:
            patch.setattr(house.store, call_of, away)
            call = api.SegmentSeries(iter(upload(series, declared=len(series))))
            handle = next(call).accepted.job_id
            assert refusal_of(lambda: list(call))[1] == "StoreUnavailable"
        assert eventually(lambda: house.plan() is not None)
    assert house.store.get_submission(handle).state is SubmissionState.CLOSED
    assert len(house.store.list_jobs(submission_id=handle)[0].stacks[0]) == len(series)


def test_the_recovery_outlives_any_error(
    house: House, series: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    house.spool.open_upload("u1", "local", "")
    for path in series:
        part10 = path.read_bytes()
        house.spool.put(origin=Origin.GRPC, principal="local", upload="u1", part10=part10)
    house.spool.close_upload("u1")
    monkeypatch.setattr(recovery, "_FAULT_PAUSE_S", 0.05)
    failed = threading.Event()

    def broken() -> set[str]:
        failed.set()
        raise OverflowError

    with ExitStack() as stack:
        with monkeypatch.context() as patch:
            patch.setattr(house.store, "known_paths", broken)
            stack.enter_context(serving(house))
            assert failed.wait(5)
        assert eventually(lambda: house.plan() is not None)


def test_an_upload_that_was_refused_while_it_was_sent_says_so(
    house: House, api: SegmentationServiceStub, series: list[Path]
) -> None:
    let_go = threading.Event()

    def stream() -> Iterator[pb.SegmentSeriesRequest]:
        yield from upload(series)
        let_go.wait(5)

    call = api.SegmentSeries(stream())
    handle = next(call).accepted.job_id
    assert house.store.refuse_upload(handle, "IncompleteSeries: too late")
    let_go.set()
    code, reason, _ = refusal_of(lambda: list(call))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "IncompleteSeries")
    assert house.plan() is None


def test_a_stopping_server_sends_its_clients_on_and_keeps_the_job(
    house: House, series: list[Path]
) -> None:
    with serving(house) as server, stub(server) as api:
        call = api.SegmentSeries(iter(upload(series)))
        handle = next(call).accepted.job_id
        assert eventually(lambda: house.plan() is not None)
        threading.Thread(target=server.stop).start()
        answer = refusal_of(lambda: list(call))
        assert answer == (grpc.StatusCode.UNAVAILABLE, "ShuttingDown", True)
    assert house.store.list_jobs(submission_id=handle)[0].state is JobState.QUEUED


def test_a_real_series_reaches_the_spool_byte_for_byte(
    shared_data: Path, house: House, api: SegmentationServiceStub
) -> None:
    paths = sorted((shared_data / "series" / "ge_abdomen_35x5mm").glob("*.dcm"))
    call = api.SegmentSeries(requests(paths))
    while next(call).WhichOneof("part") != "complete":
        pass
    call.cancel()
    submission = house.plan()
    assert submission is not None
    assert {p.read_bytes() for p in submission.paths} == {p.read_bytes() for p in paths}
    assert len(submission.paths) == len(paths) == 35

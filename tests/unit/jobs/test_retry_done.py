"""A done job whose files a disk has lost runs again; what was delivered stays delivered."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store_rows import DELIVER, Time, addresses, open_store, submit
from viscera.domain.jobs import DeliveryState, Job, JobState
from viscera.domain.results import ResultFile, ResultKind
from viscera.errors import InvalidRequest
from viscera.jobs.store import SqlJobStore

KINDS = (ResultKind.SEG, ResultKind.SR)
DAY_S = 86400


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def store(tmp_path: Path, time: Time, results: Path) -> Iterator[SqlJobStore]:
    opened = open_store(f"sqlite:///{tmp_path}/viscera.db", tmp_path, time, results=results)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def commit(store: SqlJobStore, results: Path) -> Callable[[], Job]:
    """Runs the next job to its commit, for the destinations `a` and `b`."""

    def commit() -> Job:
        claimed = store.claim_job("worker")
        assert claimed is not None
        claim, job = claimed
        files = [_write(results, Path(job.id) / str(claim.fence) / kind, kind) for kind in KINDS]
        store.finish_job(claim, files, DELIVER, addresses("a", "b"))
        return store.get_job(job.id)

    return commit


def _write(root: Path, path: Path, kind: ResultKind) -> ResultFile:
    data = f"the bytes of the {kind}".encode()
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return ResultFile(kind=kind, path=path, sha256=digest, size_bytes=len(data), sop_uid="1.2")


def deliveries(store: SqlJobStore, job: Job) -> dict[tuple[str, str], DeliveryState]:
    told = store.deliveries(job.id)
    assert len(told) == 4
    return {(one.destination, one.file.kind.value): one.state for one in told}


def lose(results: Path, job: Job, fault: str) -> None:
    path = results / job.results[0].path
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"?")


def test_a_done_job_whose_files_are_whole_is_not_run_again(
    store: SqlJobStore, time: Time, commit: Callable[[], Job]
) -> None:
    submit(store, time, "k")
    job = commit()
    with pytest.raises(InvalidRequest, match="is done"):
        store.retry(job.id)
    assert store.get_job(job.id).state is JobState.DONE


@pytest.mark.parametrize("fault", ["missing", "changed"])
def test_a_done_job_whose_files_are_lost_runs_again_and_delivers_nothing_twice(
    fault: str, store: SqlJobStore, time: Time, commit: Callable[[], Job], results: Path
) -> None:
    submit(store, time, "k")
    job = commit()
    for _ in KINDS:
        claimed = store.claim_delivery("d", ("a",))
        assert claimed is not None
        store.delivered(claimed[0])
    claimed = store.claim_delivery("d", ("b",))
    assert claimed is not None
    store.undeliverable(claimed[0], "RoundTripMismatch: other bytes")
    lose(results, job, fault)
    assert store.retry(job.id).state is JobState.QUEUED
    assert store.get_job(job.id).results == job.results  # the others can be fetched meanwhile
    again = commit()
    assert (again.id, again.key, again.state) == (job.id, job.key, JobState.DONE)
    assert [file.kind for file in again.results] == list(KINDS)
    for old, new in zip(job.results, again.results, strict=True):
        assert (new.sha256, new.path != old.path) == (old.sha256, True)
        assert (results / new.path).is_file()
    assert deliveries(store, job) == {
        ("a", "seg"): DeliveryState.DELIVERED,
        ("a", "sr"): DeliveryState.DELIVERED,
        ("b", "seg"): DeliveryState.QUEUED,
        ("b", "sr"): DeliveryState.QUEUED,
    }
    assert {one.file.path for one in store.deliveries(job.id)} == {f.path for f in again.results}
    assert store.claim_delivery("d", ("a",)) is None
    with pytest.raises(InvalidRequest, match="is done"):
        store.retry(job.id)


def test_what_is_being_sent_while_its_job_runs_again_ends_as_it_does(
    store: SqlJobStore, time: Time, commit: Callable[[], Job], results: Path
) -> None:
    submit(store, time, "k")
    job = commit()
    sending = store.claim_delivery("d", ("a",))
    assert sending is not None
    lose(results, job, "missing")
    store.retry(job.id)
    commit()
    store.delivered(sending[0])
    assert deliveries(store, job)["a", "seg"] is DeliveryState.DELIVERED


def test_a_lost_result_whose_instances_have_expired_is_made_from_the_series_sent_again(
    store: SqlJobStore, time: Time, commit: Callable[[], Job], results: Path
) -> None:
    submit(store, time, "k", upload="u1", principal="client")
    job = commit()
    time.pass_by(8 * DAY_S)
    for submission_id, _ in store.expired_submissions(7):
        store.forget_instances(submission_id)
    lose(results, job, "missing")
    with pytest.raises(InvalidRequest, match="send them again"):
        store.retry(job.id)
    (same,) = submit(store, time, "k", upload="u2", principal="client")
    assert (same.id, same.state) == (job.id, JobState.DONE)
    assert store.retry(job.id).submission_id == "u2"
    assert len(store.job_paths(job.id)) == 3
    assert commit().state is JobState.DONE
    assert [one.id for one in store.list_jobs(submission_id="u1")] == [job.id]

"""The worker over a real store, with plans and runs that do as each test says."""

import errno
import hashlib
import threading
import time as clock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import store_rows as rows
from viscera.config import JobSettings
from viscera.domain.jobs import Choice, Job, JobState, Outcome, Plan
from viscera.domain.models import Grade
from viscera.domain.results import ResultFile, ResultKind
from viscera.domain.sources import Submission, SubmissionState
from viscera.errors import (
    HostMemoryFull,
    ModelRefused,
    NoModelForSeries,
    StoreUnavailable,
    UnevenSpacing,
)
from viscera.jobs import work
from viscera.jobs.store import SqlJobStore
from viscera.jobs.worker import Report, WorkerLoop

Run = Callable[[Job, tuple[Path, ...], Path, Report], Outcome]


@pytest.fixture
def settings(tmp_path: Path) -> JobSettings:
    return JobSettings(
        url=f"sqlite:///{tmp_path}/viscera.db",  # type: ignore[arg-type]
        lease_s=5,
        poll_s=0.02,
        backoff_s=0.05,
        max_attempts=3,
        results=tmp_path / "results",
    )


@pytest.fixture
def store(settings: JobSettings, tmp_path: Path) -> Iterator[SqlJobStore]:
    opened = SqlJobStore(
        settings.url.get_secret_value(),
        clock=rows.now,
        settings=settings,
        close_after=lambda closing: closing.arrivals[0],
        spool_root=tmp_path / "spool",
    )
    opened.migrate()
    yield opened
    opened.close()


def plan_one(submission: Submission) -> Plan:
    return Plan(choices=(Choice(what="segment", because="-", frames=1),), jobs=(rows.plan("k"),))


def run_well(job: Job, paths: tuple[Path, ...], folder: Path, report: Report) -> Outcome:
    report("segment", 0.5, "fake")
    assert len(paths) == 2
    return write(job, folder)


def write(job: Job, folder: Path) -> Outcome:
    path = folder / "seg.dcm"
    path.write_bytes(job.key.encode())
    file = ResultFile(
        kind=ResultKind.SEG,
        path=path.relative_to(folder.parents[1]),
        sha256=hashlib.sha256(job.key.encode()).hexdigest(),
        size_bytes=path.stat().st_size,
    )
    return Outcome(results=(file,), verdict=rows.DELIVER, modality="CT", grade=Grade.RESEARCH)


@contextmanager
def working(
    store: SqlJobStore,
    settings: JobSettings,
    run: Run = run_well,
    plan: Callable[[Submission], Plan] = plan_one,
) -> Iterator[threading.Event]:
    stop = threading.Event()
    loop = WorkerLoop(store, settings, plan=plan, run=run, addresses=lambda job, outcome: rows.PACS)
    thread = threading.Thread(target=loop.run, args=(stop,))
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def send(store: SqlJobStore) -> None:
    store.record_arrivals([rows.arrival(n, rows.now()) for n in range(2)])


def ended(store: SqlJobStore, *states: JobState) -> Job:
    deadline_s = clock.monotonic() + 30
    while clock.monotonic() < deadline_s:
        for job in store.list_jobs(states=states):
            return job
        clock.sleep(0.02)
    pytest.fail(f"no job became {states}: {store.list_jobs()}")


def attempts_on_disk(settings: JobSettings) -> list[str]:
    return sorted(str(p.relative_to(settings.results)) for p in settings.results.glob("*/*"))


def test_a_series_becomes_a_committed_result(store: SqlJobStore, settings: JobSettings) -> None:
    send(store)
    with working(store, settings):
        job = ended(store, JobState.DONE)
    assert (settings.results / job.results[0].path).read_bytes() == b"k"
    assert attempts_on_disk(settings) == [f"{job.id}/1"]
    assert [d.destination for d in store.deliveries(job.id)] == ["pacs"]
    assert job.engine == "fake"


@pytest.mark.parametrize("fault", [UnevenSpacing, NoModelForSeries, ModelRefused])
def test_the_datas_fault_refuses_the_job(
    store: SqlJobStore, settings: JobSettings, fault: type[Exception]
) -> None:
    def run(job: Job, paths: tuple[Path, ...], folder: Path, report: Report) -> Outcome:
        write(job, folder)
        raise fault("gaps of 4 and 7 mm")

    send(store)
    with working(store, settings, run):
        job = ended(store, JobState.REFUSED, JobState.FAILED, JobState.DONE)
        clock.sleep(0.2)
    assert (job.state, job.error_reason) == (JobState.REFUSED, fault.__name__)
    assert (job.error_message, job.attempts) == ("gaps of 4 and 7 mm", 1)
    assert attempts_on_disk(settings) == []


def test_a_transient_fault_comes_back_and_goes_well(
    store: SqlJobStore, settings: JobSettings
) -> None:
    def run(job: Job, paths: tuple[Path, ...], folder: Path, report: Report) -> Outcome:
        if job.attempts < 3:
            raise HostMemoryFull("no room")
        return run_well(job, paths, folder, report)

    send(store)
    with working(store, settings, run):
        job = ended(store, JobState.DONE, JobState.FAILED)
    assert (job.state, job.attempts) == (JobState.DONE, 3)


def test_a_full_disk_costs_no_attempt_however_long_it_is_full(
    store: SqlJobStore, settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_POSTPONED_S", 0.02)
    times = []

    def run(job: Job, paths: tuple[Path, ...], folder: Path, report: Report) -> Outcome:
        times.append(job.attempts)
        if len(times) <= 2 * settings.max_attempts:
            raise OSError(errno.ENOSPC, "No space left on device")
        return run_well(job, paths, folder, report)

    send(store)
    with working(store, settings, run):
        job = ended(store, JobState.DONE, JobState.FAILED, JobState.REFUSED)
    assert (job.state, job.attempts) == (JobState.DONE, 1)
    assert set(times) == {1}
    said = [event.message for event in store.events(job.id)]
    assert any("StorageUnavailable" in message and "ENOSPC" in message for message in said)


def test_a_missing_file_is_no_fault_of_the_disk(store: SqlJobStore, settings: JobSettings) -> None:
    def run(job: Job, paths: tuple[Path, ...], folder: Path, report: Report) -> Outcome:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    send(store)
    with working(store, settings, run):
        job = ended(store, JobState.FAILED)
    assert (job.attempts, job.error_reason) == (3, "FileNotFoundError")


def test_no_job_is_begun_without_room_for_its_result(
    store: SqlJobStore, settings: JobSettings
) -> None:
    send(store)
    full = settings.model_copy(update={"reserve_mb": 10**9})
    with working(store, full):
        job = ended(store, JobState.QUEUED)
        clock.sleep(0.3)
        assert store.get_job(job.id).attempts == 0
    with working(store, settings):
        assert ended(store, JobState.DONE).attempts == 1


def test_a_bug_is_tried_again_and_stopped_and_its_words_are_not_shown(
    store: SqlJobStore, settings: JobSettings
) -> None:
    def run(job: Job, paths: tuple[Path, ...], folder: Path, report: Report) -> Outcome:
        raise KeyError("Doe^Jane")

    send(store)
    with working(store, settings, run):
        job = ended(store, JobState.FAILED)
    assert (job.attempts, job.error_reason) == (3, "KeyError")
    assert "Doe" not in job.error_message
    assert all("Doe" not in event.message for event in store.events(job.id))


def test_a_stop_gives_the_job_back_uncounted(store: SqlJobStore, settings: JobSettings) -> None:
    started = threading.Event()

    def run(job: Job, paths: tuple[Path, ...], folder: Path, report: Report) -> Outcome:
        write(job, folder)
        started.set()
        while True:
            report("segment", 0.1, "fake")
            clock.sleep(0.01)

    send(store)
    with working(store, settings, run) as stop:
        assert started.wait(20)
        stop.set()
    job = store.list_jobs()[0]
    assert (job.state, job.attempts) == (JobState.QUEUED, 0)
    assert attempts_on_disk(settings) == []


def test_a_cancelled_job_ends_at_its_next_report(store: SqlJobStore, settings: JobSettings) -> None:
    def run(job: Job, paths: tuple[Path, ...], folder: Path, report: Report) -> Outcome:
        write(job, folder)
        store.cancel(job.id)
        report("encode", 0.0, "fake")
        pytest.fail("went on")

    send(store)
    with working(store, settings, run):
        ended(store, JobState.CANCELLED)
        clock.sleep(0.2)
    assert store.list_jobs()[0].state is JobState.CANCELLED
    assert attempts_on_disk(settings) == []


def test_a_store_that_is_away_at_the_commit_costs_no_result(
    store: SqlJobStore, settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = store.finish_job, []

    def finish(*arguments: object) -> None:
        tries.append(arguments)
        if len(tries) < 3:
            raise StoreUnavailable("away")
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "finish_job", finish)
    send(store)
    with working(store, settings):
        job = ended(store, JobState.DONE)
    assert (len(tries), job.attempts) == (3, 1)


def test_files_that_are_not_what_the_outcome_says_are_not_committed(
    store: SqlJobStore, settings: JobSettings
) -> None:
    def run(job: Job, paths: tuple[Path, ...], folder: Path, report: Report) -> Outcome:
        outcome = write(job, folder)
        (folder / "seg.dcm").write_bytes(b"cut")
        return outcome

    send(store)
    with working(store, settings, run):
        job = ended(store, JobState.REFUSED, JobState.DONE)
    assert job.error_reason == "RoundTripMismatch"


def test_a_refusal_does_not_wait_for_a_long_job(store: SqlJobStore, settings: JobSettings) -> None:
    going = threading.Event()

    def run(job: Job, paths: tuple[Path, ...], folder: Path, report: Report) -> Outcome:
        while not going.wait(0.01):
            report("segment", 0.1, "fake")
        return write(job, folder)

    def plan(submission: Submission) -> Plan:
        return (
            Plan(refusal="IncompleteSeries: 3")
            if submission.series_uid == "9"
            else (plan_one(submission))
        )

    send(store)
    with working(store, settings, run, plan):
        ended(store, JobState.RUNNING)
        store.record_arrivals([rows.arrival(0, rows.now(), series="9")])
        deadline_s = clock.monotonic() + 20
        while not [r for _, _, r in store.why("9") if r] and clock.monotonic() < deadline_s:
            clock.sleep(0.02)
        assert store.list_jobs()[0].state is JobState.RUNNING
        going.set()
        ended(store, JobState.DONE)
    assert [r for _, _, r in store.why("9")] == ["IncompleteSeries: 3"]


def test_a_plan_that_breaks_is_stopped_and_a_transient_one_is_not(
    store: SqlJobStore, settings: JobSettings
) -> None:
    tries: list[str] = []

    def plan(submission: Submission) -> Plan:
        tries.append(submission.series_uid)
        if submission.series_uid == "8":
            raise ZeroDivisionError
        if tries.count("9") < 5:
            raise HostMemoryFull("no room")
        return plan_one(submission)

    store.record_arrivals([rows.arrival(0, rows.now(), series=s) for s in ("8", "9")])
    with working(store, settings, plan=plan, run=lambda job, paths, folder, r: write(job, folder)):
        ended(store, JobState.DONE)
        deadline_s = clock.monotonic() + 20
        while clock.monotonic() < deadline_s:
            submission, _, refusal = store.why("8")[0]
            if submission.state is SubmissionState.REFUSED:
                break
            clock.sleep(0.02)
    assert refusal.startswith("Poison")
    assert tries.count("8") == 3
    assert tries.count("9") == 5


def test_a_row_that_breaks_a_claim_does_not_end_the_worker(
    store: SqlJobStore, settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim_submission, claim_job = store.claim_submission, store.claim_job
    broken = {"claim_submission", "claim_job"}

    def breaks(name: str, claim: Callable[[str], object]) -> Callable[[str], object]:
        def instead(owner: str) -> object:
            if name in broken:
                broken.remove(name)
                raise ValueError("a row that no code understands")
            return claim(owner)

        return instead

    monkeypatch.setattr(store, "claim_submission", breaks("claim_submission", claim_submission))
    monkeypatch.setattr(store, "claim_job", breaks("claim_job", claim_job))
    send(store)
    with working(store, settings):
        ended(store, JobState.DONE)
    assert not broken

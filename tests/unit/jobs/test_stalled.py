"""A worker that hangs is ended and its job is another's; one that is slow is left alone."""

import subprocess
import sys
import time as clock
from collections.abc import Iterator
from pathlib import Path

import pytest

import store_rows as rows
from viscera.domain.jobs import Claim
from viscera.jobs.stalled import Watch
from viscera.jobs.store import SqlJobStore


class Worker:
    """A watch over claims, looked at every second of a clock that the test turns."""

    def __init__(self, stall_s: float) -> None:
        self.now_s = 100.0
        self.watch = Watch(stall_s, clock=lambda: self.now_s)
        self.watch.stalled()

    def stalls_within(self, seconds: int) -> bool:
        for _ in range(seconds):
            self.now_s += 1
            if self.watch.stalled():
                return True
        return False


def test_silence_is_a_stall_and_progress_is_none() -> None:
    worker = Worker(stall_s=10)
    worker.watch.hear("job")
    for _ in range(5):
        assert not worker.stalls_within(9)
        worker.watch.hear("job")
    assert worker.stalls_within(11)


def test_one_silent_claim_is_enough_and_a_settled_one_is_not_missed() -> None:
    worker = Worker(stall_s=10)
    for claim in ("job", "submission"):
        worker.watch.hear(claim)
    worker.watch.forget("job")
    assert not worker.stalls_within(9)
    worker.watch.hear("submission")
    assert not worker.stalls_within(9)
    assert worker.stalls_within(2)


def test_without_claims_nobody_is_silent() -> None:
    assert not Worker(stall_s=10).stalls_within(1000)


def test_a_pause_of_all_processes_is_no_stall() -> None:
    worker = Worker(stall_s=10)
    worker.watch.hear("job")
    worker.now_s += 3600  # as a container that was frozen sees it
    assert not worker.watch.stalled()
    assert not worker.stalls_within(9)
    assert worker.stalls_within(2)


# `PyDLL` keeps Python's lock, as a driver's binding may: no thread of the worker can help.
_WORKER = """
import ctypes, sys, time
from viscera.domain.jobs import Claim
from viscera.jobs.heartbeat import Heartbeat
from viscera.jobs.stalled import show_stacks_when_asked
url, id, owner, fence, busy_s = sys.argv[1:]
show_stacks_when_asked()
heartbeat, claim = Heartbeat(url, 1.5, 3.0), Claim(id, owner, int(fence))

def hang_in_the_driver():
    while True:  # a signal ends one sleep
        ctypes.PyDLL(None).sleep(600)

if busy_s == "start":
    with heartbeat.watching("the start of an engine"):
        hang_in_the_driver()
with heartbeat.keep("jobs", claim):
    end_s = time.monotonic() + float(busy_s)
    while time.monotonic() < end_s:
        heartbeat.alive(claim)
        time.sleep(0.05)
    print("silent", flush=True)
    hang_in_the_driver()
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlJobStore]:
    opened = rows.open_store(
        f"sqlite:///{tmp_path}/viscera.db",
        tmp_path,
        lease_s=1.5,
        closing=lambda closing: closing.arrivals[0],
    )
    opened.migrate()
    yield opened
    opened.close()


def claim_of(store: SqlJobStore) -> Claim:
    store.record_arrivals([rows.arrival(0, rows.now())])
    claimed = store.claim_submission("planner")
    assert claimed is not None
    store.settle_submission(claimed[0], (), [rows.plan("k")])
    job = store.claim_job("worker")
    assert job is not None
    return job[0]


def test_a_worker_that_hangs_shows_where_and_its_job_is_anothers(
    store: SqlJobStore, tmp_path: Path
) -> None:
    claim, busy_s = claim_of(store), 6.0  # twice the silence that is allowed
    url = f"sqlite:///{tmp_path}/viscera.db"
    command = [sys.executable, "-c", _WORKER, url, claim.id, claim.owner, str(claim.fence)]
    with subprocess.Popen(
        [*command, str(busy_s)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        assert worker.stderr is not None
        assert worker.stdout.readline() == "silent\n", "it was ended while it made progress"
        assert worker.wait(30) == -9
        said = worker.stderr.read()
    assert "hang_in_the_driver" in said
    assert '"worker_stalled"' in said
    deadline_s = clock.monotonic() + 20
    while store.claim_job("heir") is None:
        assert clock.monotonic() < deadline_s
        clock.sleep(0.1)


def test_a_worker_that_hangs_before_its_first_job_is_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WORKER, f"sqlite:///{tmp_path}/viscera.db", "", "", "0"]
    with subprocess.Popen([*command, "start"], stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr is not None
        assert worker.wait(30) == -9
        assert "hang_in_the_driver" in worker.stderr.read()

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


class Ended:
    """Counts how often a worker was ended, by a clock that the test turns."""

    def __init__(self, stall_s: float) -> None:
        self.now_s, self.times = 100.0, 0
        self.watch = Watch(stall_s, self.end, clock=lambda: self.now_s)

    def end(self) -> None:
        self.times += 1

    def after(self, seconds: float) -> int:
        self.now_s += seconds
        self.watch.look()
        return self.times


def test_silence_ends_the_worker_and_progress_does_not() -> None:
    ended = Ended(stall_s=10)
    ended.watch.hear("job")
    for _ in range(5):
        assert ended.after(9) == 0
        ended.watch.hear("job")
    assert ended.after(11) == 1


def test_one_silent_claim_is_enough_and_a_settled_one_is_not_missed() -> None:
    ended = Ended(stall_s=10)
    for claim in ("job", "submission"):
        ended.watch.hear(claim)
    ended.watch.forget("job")
    ended.now_s += 9
    ended.watch.hear("submission")
    assert ended.after(9) == 0
    assert ended.after(2) == 1


def test_without_claims_nobody_is_silent() -> None:
    assert Ended(stall_s=10).after(1e6) == 0


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

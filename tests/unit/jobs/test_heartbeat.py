import os
import signal
import subprocess
import sys
import time as clock
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

import store_rows as rows
from viscera.domain.jobs import Claim
from viscera.jobs import heartbeat, schema
from viscera.jobs.database import Database
from viscera.jobs.heartbeat import Heartbeat, Pipe
from viscera.jobs.store import SqlJobStore

LEASE_S = 3.0
STALL_S = 600.0


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/viscera.db"


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[SqlJobStore]:
    opened = rows.open_store(
        url, tmp_path, lease_s=LEASE_S, closing=lambda closing: closing.arrivals[0]
    )
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def claim(store: SqlJobStore) -> Claim:
    store.record_arrivals([rows.arrival(0, rows.now())])
    claimed = store.claim_submission("planner")
    assert claimed is not None
    store.settle_submission(claimed[0], (), [rows.plan("k")])
    job = store.claim_job("worker")  # no process of this host: only its lease protects it
    assert job is not None
    return job[0]


def _lease(url: str) -> float:
    database = Database(url)
    with database.read() as connection:
        lease: float = connection.scalar(sa.select(schema.jobs.c.lease_uptime_s)) or 0.0
    database.close()
    return lease


def _wait(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline_s = clock.monotonic() + seconds
    while not condition():
        assert clock.monotonic() < deadline_s
        clock.sleep(0.05)


def test_a_kept_lease_outlives_its_length_and_a_dropped_one_runs_out(
    url: str, store: SqlJobStore, claim: Claim
) -> None:
    beat = Heartbeat(url, LEASE_S, STALL_S)
    beat.ensure()
    try:
        before = _lease(url)
        with beat.keep("jobs", claim):
            _wait(lambda: _lease(url) > before)  # a busy machine takes long to start a process
            deadline_s = clock.monotonic() + 2 * LEASE_S
            while clock.monotonic() < deadline_s:
                assert store.claim_job("thief") is None
                clock.sleep(0.1)
        _wait(lambda: store.claim_job("heir") is not None)
    finally:
        beat.close()


def test_the_child_that_was_killed_is_started_again_and_told_all(
    url: str, store: SqlJobStore, claim: Claim
) -> None:
    beat = Heartbeat(url, LEASE_S, STALL_S)
    try:
        with beat.keep("jobs", claim):
            child = psutil.Process().children()[0]
            child.kill()
            child.wait()
            before = _lease(url)
            beat.ensure()
            _wait(lambda: _lease(url) > before)
    finally:
        beat.close()


_HOLDER = """
import sys, time
from viscera.domain.jobs import Claim
from viscera.jobs.heartbeat import Heartbeat
url, id, owner, fence = sys.argv[1:]
with Heartbeat(url, 3.0, 600.0).keep("jobs", Claim(id, owner, int(fence))):
    print("held", flush=True)
    time.sleep(600)
"""


def test_it_ends_with_a_killed_worker_and_outlives_a_signal_to_the_group(
    url: str, store: SqlJobStore, claim: Claim
) -> None:
    command = [sys.executable, "-c", _HOLDER, url, claim.id, claim.owner, str(claim.fence)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        before = _lease(url)
        _wait(lambda: _lease(url) > before)
        child = psutil.Process(worker.pid).children()[0]
        child.send_signal(signal.SIGTERM)
        child.send_signal(signal.SIGINT)
        before = _lease(url)
        _wait(lambda: _lease(url) > before)
        worker.kill()
    _wait(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    _wait(lambda: store.claim_job("heir") is not None)


def test_no_command_line_shows_the_url(url: str) -> None:
    beat = Heartbeat(url, LEASE_S, STALL_S)
    beat.ensure()
    try:
        assert url not in " ".join(psutil.Process().children()[0].cmdline())
    finally:
        beat.close()


def test_a_lost_lease_is_not_beaten_for_again(url: str, claim: Claim) -> None:
    database = Database(url)
    stale = Claim(claim.id, claim.owner, claim.fence - 1)
    held: dict[str, heartbeat.Held] = {claim.id: ("jobs", stale)}
    time = rows.Time()
    heartbeat.beat(database, held, heartbeat.Timekeeper(time.clock, time.steady), LEASE_S)
    assert held == {}
    database.close()


def test_a_pipe_gives_whole_lines_however_they_come() -> None:
    read, write = os.pipe()
    pipe = Pipe(read)
    os.write(write, b"one\ntw")
    assert pipe.line(1.0) == b"one"
    assert pipe.line(0.05) is None
    os.write(write, b"o\nthree\n")
    assert (pipe.line(1.0), pipe.line(0.0)) == (b"two", b"three")
    os.close(write)
    with pytest.raises(EOFError):
        pipe.line(1.0)
    os.close(read)

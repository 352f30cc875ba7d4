"""SIGKILL from outside, at named points and at random times: each job ends in one result.

The judge reads the database and the folders by itself.
"""

import random
import signal
import subprocess
import sys
import time as clock
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil
import pysqlite3
import pytest

import small_worker
import store_rows as rows
from viscera.jobs.retention import sweep
from viscera.jobs.store import SqlJobStore

WORKER = Path(small_worker.__file__)


class Farm:
    """Worker processes over one store."""

    def __init__(self, root: Path, jobs: int, lease_s: float) -> None:
        self.root, self.lease_s = root, lease_s
        self.results = root / "results"
        self.url = f"sqlite:///{root}/viscera.db"
        self.store: SqlJobStore = rows.open_store(self.url, root)
        self.store.migrate()
        self.workers: list[subprocess.Popen[str]] = []
        for n in range(jobs):
            self.store.record_arrivals([rows.arrival(0, rows.now(), series=f"1.2.{n}")])
        # Not by the store's own rule but at once.
        self.sql("UPDATE submissions SET close_after_at = '2000-01-01 00:00:00.000000'")

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, str(WORKER), self.url, str(self.results), str(self.root),
                   str(self.lease_s)]  # fmt: skip
        worker = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.workers.append(worker)
        return worker

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        connection = pysqlite3.connect(self.root / "viscera.db", timeout=30)
        try:
            found: list[tuple[Any, ...]] = connection.execute(statement).fetchall()
            connection.commit()
        finally:
            connection.close()
        return found

    @contextmanager
    def nobody_writes(self) -> Iterator[None]:
        connection = pysqlite3.connect(self.root / "viscera.db", timeout=30, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.close()

    def states(self) -> Counter[str]:
        return Counter(state for (state,) in self.sql("SELECT state FROM jobs"))

    def await_done(self, jobs: int, seconds: float = 60) -> None:
        deadline_s = clock.monotonic() + seconds
        while self.states() != Counter(done=jobs):
            assert clock.monotonic() < deadline_s, self.states()
            clock.sleep(0.1)

    def require_one_result_each(self, jobs: int) -> None:
        """One commit a job, its files as they should be, and nothing else on the disk."""
        assert self.states() == Counter(done=jobs)
        commits = self.sql("SELECT job_id FROM events WHERE state = 'done'")
        assert sorted(Counter(commits).values()) == [1] * jobs
        assert self.sql("SELECT count(*) FROM deliveries") == [(2 * jobs,)]
        sweep(self.store, _NoSpool(), self.results, keep_instances_days=9, keep_jobs_days=9)
        keys = dict(self.sql("SELECT id, key FROM jobs"))
        committed = self.sql("SELECT job_id, kind, path, sha256 FROM results")
        for job_id, kind, path, digest in committed:
            expected = small_worker.content(keys[job_id], kind)
            assert (self.results / path).read_bytes() == expected
            assert digest == sha256(expected).hexdigest()
        on_disk = {str(p.relative_to(self.results)) for p in self.results.glob("*/*/*")}
        assert on_disk == {path for _, _, path, _ in committed}
        assert len(on_disk) == 3 * jobs

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
            if worker.stderr is not None:
                worker.stderr.close()
        self.store.close()


class _NoSpool:
    def remove(self, paths: object) -> None:
        raise AssertionError("nothing has expired")

    def old_uploads(self, before: object) -> tuple[str, ...]:
        return ()


@contextmanager
def farm(root: Path, jobs: int, lease_s: float = 30.0) -> Iterator[Farm]:
    made = Farm(root, jobs, lease_s)
    try:
        yield made
    finally:
        made.close()


def await_line(worker: subprocess.Popen[str], word: str) -> None:
    assert worker.stderr is not None
    for line in worker.stderr:
        if word in line:
            return
    pytest.fail(f"the worker ended before it said {word}")


@pytest.mark.kill
@pytest.mark.parametrize(
    "point",
    ["submission_settled", "job_claimed", "stage-seg", "stage-volumes", "results_written",
     "job_committed"],
)  # fmt: skip
def test_killed_at_a_named_point(tmp_path: Path, point: str) -> None:
    # The lease is long: the heir must see by itself that the owner is dead.
    with farm(tmp_path, jobs=1, lease_s=600) as work:
        victim = work.start()
        await_line(victim, f'"{point}"')
        victim.kill()
        victim.wait()
        work.start()
        work.await_done(1, seconds=30)
        work.require_one_result_each(1)


@pytest.mark.kill
def test_killed_at_random_times(tmp_path: Path) -> None:
    jobs, chance = 30, random.Random(7)
    with farm(tmp_path, jobs) as work:
        workers = [work.start() for _ in range(3)]
        kills = 0
        deadline_s = clock.monotonic() + 150
        while work.states() != Counter(done=jobs):
            assert clock.monotonic() < deadline_s, work.states()
            clock.sleep(chance.uniform(0.1, 0.6))
            while not (states := work.states())["running"] and states["queued"]:
                clock.sleep(0.01)
            n = chance.randrange(3)
            workers[n].send_signal(signal.SIGKILL)
            kills += 1
            workers[n] = work.start()
            if kills > 40:  # then let it end
                work.await_done(jobs, 90)
        work.require_one_result_each(jobs)
        attempts = work.sql("SELECT sum(attempts) FROM jobs")[0][0]
        assert attempts > jobs, "no kill hit a running job: the test shows nothing"


@pytest.mark.kill
def test_one_that_slept_through_its_lease_is_refused(tmp_path: Path) -> None:
    with farm(tmp_path, jobs=1, lease_s=3) as work:
        sleeper = work.start()
        await_line(sleeper, '"stage-seg"')
        tree = [psutil.Process(sleeper.pid), *psutil.Process(sleeper.pid).children()]
        # Not in the middle of a write: SQLite's lock would sleep with them, and that is no lease.
        with work.nobody_writes():
            for process in tree:  # worker and heartbeat, as a suspended machine would
                process.suspend()
        work.start()
        work.await_done(1)
        committed = work.sql("SELECT committed_fence, sha256 FROM jobs JOIN results ON job_id=id")
        for process in tree:
            process.resume()
        await_line(sleeper, '"lease_lost"')
        assert committed[0][0] == 2
        assert committed == work.sql(
            "SELECT committed_fence, sha256 FROM jobs JOIN results ON job_id=id"
        )
        clock.sleep(0.5)  # the sleeper cleans up after itself
        assert [p.name for p in work.results.glob("*/*")] == ["2"]
        work.require_one_result_each(1)

import os
import time as clock
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from instances import as_file, ct_dataset
from store_rows import QUIET_S, Time, arrival, finish, open_store, plan, submit
from viscera.domain.sources import Arrival, Origin, SubmissionState
from viscera.jobs.retention import Swept, sweep
from viscera.jobs.spool import Spool as RealSpool
from viscera.jobs.store import SqlJobStore

DAY_S = 86400


class Spool:
    """Keeps what it was told to remove."""

    def __init__(self) -> None:
        self.removed: list[str] = []

    def remove(self, paths: Sequence[str | Path], before: datetime | None = None) -> bool:
        self.removed += map(str, paths)
        return True

    def readable(self, paths: Iterable[str | Path]) -> Iterator[Arrival]:
        yield from ()

    def is_closed(self, upload: str) -> bool:
        return False

    def uploaded(self, upload: str) -> Sequence[Path]:
        return ()

    def old_uploads(self, before: datetime) -> Iterator[str]:
        yield from ()

    def remove_upload(self, upload: str) -> None:
        raise AssertionError("there is no upload")


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def store(tmp_path: Path, time: Time) -> Iterator[SqlJobStore]:
    opened = open_store(f"sqlite:///{tmp_path}/viscera.db", tmp_path, time)
    opened.migrate()
    yield opened
    opened.close()


def swept(store: SqlJobStore, spool: Spool, root: Path) -> Swept:
    return sweep(store, spool, root, keep_instances_days=7, keep_jobs_days=30)


def attempt(root: Path, job_id: str, fence: int) -> Path:
    folder = root / job_id / str(fence)
    folder.mkdir(parents=True)
    (folder / "seg").write_text("x")
    return folder


def test_instances_go_first_and_results_later(
    store: SqlJobStore, time: Time, tmp_path: Path
) -> None:
    root, spool = tmp_path / "results", Spool()
    submit(store, time, "k")
    claim, job = finish(store)
    folder = attempt(root, job.id, claim.fence)
    for _ in range(2):
        delivery = store.claim_delivery("d")
        assert delivery is not None
        store.delivered(delivery[0])
    assert swept(store, spool, root) == Swept(submissions=0, jobs=0, folders=0)
    time.pass_by(8 * DAY_S)
    assert swept(store, spool, root) == Swept(submissions=1, jobs=0, folders=0)
    assert len(spool.removed) == 3
    assert folder.is_dir()
    time.pass_by(30 * DAY_S)
    assert swept(store, spool, root) == Swept(submissions=0, jobs=1, folders=0)
    assert not folder.parent.exists()
    assert store.get_job(job.id).results == ()


def test_what_is_sent_again_during_the_sweep_has_a_row(
    store: SqlJobStore, time: Time, tmp_path: Path
) -> None:
    class Raced(Spool):
        """The peer sends one instance again between the files' end and the rows'."""

        def remove(self, paths: Sequence[str | Path], before: datetime | None = None) -> bool:
            super().remove(paths, before)
            store.record_arrivals([arrival(1, time.wall)])  # finds its old row
            return True

        def readable(self, paths: Iterable[str | Path]) -> Iterator[Arrival]:
            yield from (a for a in [arrival(1, time.wall)] if str(a.path) in paths)

    submit(store, time, "k")
    finish(store, ())
    time.pass_by(8 * DAY_S)
    assert swept(store, Raced(), tmp_path).submissions == 1
    assert store.known_paths() == {str(arrival(1, time.wall).path)}
    time.pass_by(DAY_S)
    claimed = store.claim_submission("a")
    assert claimed is not None
    assert claimed[1].version == 2


def test_what_is_not_delivered_stays(store: SqlJobStore, time: Time, tmp_path: Path) -> None:
    root = tmp_path / "results"
    submit(store, time, "k")
    claim, job = finish(store)
    folder = attempt(root, job.id, claim.fence)
    time.pass_by(400 * DAY_S)
    swept(store, Spool(), root)
    assert folder.is_dir()
    assert store.get_job(job.id).results != ()


def test_folders_of_dead_attempts_go_and_living_ones_stay(
    store: SqlJobStore, time: Time, tmp_path: Path
) -> None:
    root = tmp_path / "results"
    submit(store, time, "k1", upload="u1", principal="c")
    submit(store, time, "k2", upload="u2", principal="c")
    store.claim_job("w")
    time.pass_by(31)
    running = store.claim_job("w")
    assert running is not None
    claim, done = finish(store)
    dead = [attempt(root, running[1].id, 1), attempt(root, done.id, claim.fence + 7)]
    alive = [attempt(root, running[1].id, running[0].fence), attempt(root, done.id, claim.fence)]
    young, old = attempt(root, "stranger", 1), attempt(root, "leftover", 1)
    past_s = clock.time() - 2 * DAY_S
    os.utime(old.parent, (past_s, past_s))
    assert swept(store, Spool(), root).folders == 3
    assert [f.exists() for f in dead] == [False, False]
    assert [f.exists() for f in alive] == [True, True]
    assert young.exists()
    assert not old.parent.exists()


def test_a_sweep_that_died_between_files_and_rows_is_finished_by_the_next(
    store: SqlJobStore, time: Time, tmp_path: Path
) -> None:
    class Dying(Spool):
        def remove(self, paths: Sequence[str | Path], before: datetime | None = None) -> bool:
            raise KeyboardInterrupt

    submit(store, time, "k")
    finish(store, ())
    time.pass_by(8 * DAY_S)
    with pytest.raises(KeyboardInterrupt):
        swept(store, Dying(), tmp_path / "results")
    assert len(store.known_paths()) == 3
    assert swept(store, Spool(), tmp_path / "results").submissions == 1
    assert store.known_paths() == set()


def test_a_series_that_is_sent_again_stays_whole(
    store: SqlJobStore, time: Time, tmp_path: Path
) -> None:
    """Half of it is repeated, the sweep comes, the other half follows: nothing is ever missing."""
    day_s = [0.0]
    began = datetime.now(UTC) - timedelta(days=8)
    spool = RealSpool(tmp_path, reserve_bytes=0, clock=lambda: began + timedelta(days=day_s[0]))
    slices = [as_file(ct_dataset(sop_uid=f"1.2.{n}", z_mm=n)) for n in range(4)]

    def send(numbers: Sequence[int]) -> list[bool]:
        stored = [
            spool.put(origin=Origin.DICOM, principal="pacs", part10=slices[n]) for n in numbers
        ]
        store.record_arrivals([one.arrival for one in stored])
        return [one.repeated for one in stored]

    assert send(range(4)) == [False] * 4
    time.pass_by(QUIET_S + 1)
    claimed = store.claim_submission("planner")
    assert claimed is not None
    store.settle_submission(claimed[0], (), [plan("k", 4)])
    finish(store, ())
    time.pass_by(8 * DAY_S)
    day_s[0] = 8.0
    assert send([0, 1]) == [True, True]
    root = tmp_path / "results"
    assert sweep(store, spool, root, keep_instances_days=7, keep_jobs_days=30).submissions == 0
    assert send([2, 3]) == [True, True]
    assert len(list(spool.root.rglob("*.dcm"))) == len(store.known_paths()) == 4


@pytest.fixture
def spool(tmp_path: Path) -> RealSpool:
    return RealSpool(tmp_path / "spool", reserve_bytes=0, clock=lambda: datetime.now(UTC))


def begin(
    store: SqlJobStore, spool: RealSpool, handle: str, instances: int = 1, known: bool = True
) -> Path:
    """Open an upload; return its folder."""
    spool.open_upload(handle, "client", "")
    if known:
        store.open_upload(handle, "client", "")
    for _ in range(instances):
        part10 = as_file(ct_dataset())
        spool.put(origin=Origin.GRPC, principal="client", upload=handle, part10=part10)
    return spool.root / "grpc" / handle


def age(folder: Path, days: float) -> None:
    past_s = clock.time() - days * DAY_S
    os.utime(folder, (past_s, past_s))


def swept_days(store: SqlJobStore, spool: RealSpool, keep_days: float) -> Swept:
    root = spool.root.parent / "results"
    return sweep(store, spool, root, keep_instances_days=keep_days, keep_jobs_days=30)


def test_nothing_kept_does_not_refuse_an_upload_that_is_on_its_way(
    store: SqlJobStore, spool: RealSpool, time: Time
) -> None:
    folder = begin(store, spool, "u1")
    time.pass_by(600)
    assert swept_days(store, spool, 0).uploads == 0
    assert store.get_submission("u1").state is SubmissionState.OPEN
    assert folder.is_dir()


def test_an_upload_that_was_abandoned_gives_its_room_back_in_the_sweep_that_refuses_it(
    store: SqlJobStore, spool: RealSpool, time: Time
) -> None:
    folder = begin(store, spool, "u1")
    time.pass_by(6.9 * DAY_S)
    age(folder, 6.9)
    assert swept_days(store, spool, 7).uploads == 0
    time.pass_by(0.2 * DAY_S)
    assert swept_days(store, spool, 7).uploads == 1
    assert store.get_submission("u1").state is SubmissionState.REFUSED
    assert not folder.exists()


def test_an_upload_that_is_complete_on_disk_is_not_called_abandoned(
    store: SqlJobStore, spool: RealSpool, time: Time
) -> None:
    folder = begin(store, spool, "u1")
    spool.close_upload("u1")
    time.pass_by(9 * DAY_S)
    age(folder, 9)
    assert swept_days(store, spool, 7).uploads == 0
    assert store.get_submission("u1").state is SubmissionState.OPEN
    assert folder.is_dir()


def test_what_a_crash_left_of_uploads_goes_once_it_is_old(
    store: SqlJobStore, spool: RealSpool, time: Time
) -> None:
    folders = [
        begin(store, spool, "refused"),
        begin(store, spool, "empty", instances=0),
        begin(store, spool, "young", instances=0),
        begin(store, spool, "unknown", known=False),
        begin(store, spool, "sending"),
    ]
    half = spool.root / "grpc" / "half"  # its removal was cut off
    half.mkdir()
    for folder in [half, *folders[:2], *folders[3:]]:
        age(folder, 2)
    store.refuse_upload("refused", "DatasetMismatch: not DICOM")
    assert swept_days(store, spool, 7).uploads == 3
    assert [f.exists() for f in [half, *folders]] == [False, False, False, True, True, True]


def test_ordinary_expiry_of_an_upload_is_no_error(
    store: SqlJobStore, spool: RealSpool, time: Time
) -> None:
    folder = begin(store, spool, "u1", instances=3)
    store.record_arrivals(tuple(spool.scan(set())))
    spool.close_upload("u1")
    store.close_upload("u1")
    claimed = store.claim_submission("planner")
    assert claimed is not None
    store.settle_submission(claimed[0], (), [plan("k", 3)])
    finish(store, ())
    for file in folder.glob("*"):
        age(file, 9)
    time.pass_by(9 * DAY_S)
    with capture_logs() as logs:
        assert swept_days(store, spool, 7).submissions == 1
    assert [line["event"] for line in logs] == ["swept"]
    assert not folder.exists()

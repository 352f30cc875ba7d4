"""Rows follow the files, whatever the store does meanwhile."""

import contextlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from instances import as_file, ct_dataset
from peers import wait_for
from receive_support import FakeStore
from store_rows import open_store
from viscera.domain.sources import Origin, SubmissionState
from viscera.jobs.spool import Spool
from viscera.receive import Indexer, indexer


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path, reserve_bytes=0, clock=lambda: datetime.now(UTC))


@pytest.fixture
def store():
    return FakeStore()


@pytest.fixture
def sql_store(tmp_path):
    store = open_store(f"sqlite:///{tmp_path}/jobs.db", tmp_path)
    store.migrate()
    yield store
    store.close()


def put(spool, **where):
    where = where or {"origin": Origin.DICOM, "principal": "pacs"}
    return spool.put(**where, part10=as_file(ct_dataset())).arrival


def unbelievable(arrival):
    """A row that SQLite does not take, as a header of another version may make one."""
    return replace(arrival, expected_count=10**20)


@contextlib.contextmanager
def indexing(store, spool, **options):
    index = Indexer(store, spool, **options)
    index.start()
    try:
        yield index
    finally:
        index.stop()


def test_rows_come_in_batches(spool, store):
    with indexing(store, spool) as index:
        wait_for(lambda: store.asked, 5, "the first scan")
        arrivals = [put(spool) for _ in range(20)]
        for arrival in arrivals:
            index.add(arrival)
        wait_for(lambda: len(store.rows) == 20, 5, "20 rows")
    assert set(store.rows.values()) == set(arrivals)
    assert len(store.batches) <= 4


def test_what_an_earlier_process_left_is_found_at_start(spool, store):
    left = [put(spool) for _ in range(3)]
    store.rows[left[0].path.as_posix()] = left[0]
    with indexing(store, spool):
        wait_for(lambda: len(store.rows) == 3, 5, "3 rows")
    assert store.batches == [2]


def test_a_store_that_is_down_loses_nothing(spool, store):
    store.down = True
    with indexing(store, spool) as index:
        arrivals = [put(spool) for _ in range(5)]
        for arrival in arrivals:
            index.add(arrival)
        index.note_associations("pacs", 2)
        index.note_associations("pacs", 1)
        wait_for(lambda: store.asked >= 3, 5, "three attempts")
        assert store.rows == {}
        store.down = False
        wait_for(lambda: len(store.rows) == 5 and store.associations, 10, "5 rows")
    assert store.associations == [("pacs", 1)]


def test_memory_is_bounded_and_the_spool_tells_the_rest(spool, store):
    store.down = True
    with indexing(store, spool, max_pending=2) as index:
        wait_for(lambda: store.asked, 5, "an attempt")
        for _ in range(10):
            index.add(put(spool))
        assert index._waiting.qsize() <= 2
        store.down = False
        wait_for(lambda: len(store.rows) == 10, 10, "10 rows")


def test_rows_beyond_the_bound_are_found_after_the_start_scan_too(spool, store):
    with indexing(store, spool, max_pending=1) as index:
        wait_for(lambda: not index._scan_due.is_set(), 5, "the first scan")
        store.down = True
        for _ in range(10):
            index.add(put(spool))
        wait_for(lambda: store.asked > 3, 10, "attempts")
        store.down = False
        wait_for(lambda: len(store.rows) == 10, 10, "10 rows")


def test_one_row_that_the_database_refuses_costs_no_other_row(spool, sql_store):
    with capture_logs() as logs, indexing(sql_store, spool) as index:
        wait_for(lambda: not index._scan_due.is_set(), 5, "the first scan")
        arrivals = [put(spool) for _ in range(5)]
        bad = arrivals[2]
        for arrival in arrivals:
            index.add(unbelievable(arrival) if arrival is bad else arrival)
        others = {a.path.as_posix() for a in arrivals} - {bad.path.as_posix()}
        wait_for(lambda: sql_store.known_paths() == others, 5, "four rows")
        (culprit,) = (line for line in logs if line["event"] == "instance_not_recorded")
        assert (culprit["path"], culprit["error"]) == (bad.path.as_posix(), "OverflowError")
        assert not index._scan_due.is_set()


def test_one_row_that_the_database_refuses_stops_no_scan(spool, sql_store, monkeypatch):
    arrivals = [put(spool) for _ in range(3)]
    bad = arrivals[1].path
    scan = spool.scan
    told = [unbelievable(a) if a.path == bad else a for a in scan(set())]
    monkeypatch.setattr(spool, "scan", lambda known: iter(told))
    with indexing(sql_store, spool) as index:
        others = {a.path.as_posix() for a in arrivals} - {bad.as_posix()}
        wait_for(lambda: sql_store.known_paths() == others, 5, "two rows")
        wait_for(lambda: not index._scan_due.is_set(), 5, "the scan's end")


@pytest.mark.parametrize("fault", ["row", "file"])
def test_an_upload_of_which_an_instance_has_no_row_is_not_closed(
    spool, sql_store, monkeypatch, fault
):
    """Half of it must not be segmented as the whole."""
    spool.open_upload("u1", "anna", "abdomen")
    where = {"origin": Origin.GRPC, "principal": "anna", "upload": "u1"}
    good, bad = put(spool, **where), put(spool, **where)
    spool.close_upload("u1")
    if fault == "row":
        monkeypatch.setattr(spool, "scan", lambda known: iter([good, unbelievable(bad)]))
    else:
        spool.path(bad.path).write_bytes(b"rotten")
    with capture_logs() as logs, indexing(sql_store, spool) as index:
        wait_for(lambda: not index._scan_due.is_set(), 5, "the scan's end")
    assert sql_store.known_paths() == {good.path.as_posix()}
    assert sql_store.claim_submission("planner") is None
    assert sql_store.get_submission("u1").state is SubmissionState.OPEN
    assert "upload_not_whole" in [line["event"] for line in logs]


def test_one_row_that_no_store_takes_does_not_stop_the_others(spool, store, monkeypatch):
    monkeypatch.setattr(indexer, "_LOOK_AGAIN_S", 0.5)
    with indexing(store, spool) as index:
        wait_for(lambda: not index._scan_due.is_set(), 5, "the first scan")
        bad = put(spool)
        store.poison = bad.sop_uid
        index.add(bad)
        good = put(spool)
        index.add(good)
        wait_for(lambda: good.path.as_posix() in store.rows, 10, "the good row")
        store.poison = None
        wait_for(lambda: bad.path.as_posix() in store.rows, 15, "the other row")


def test_uploads_without_rows_are_opened_filled_and_closed(spool, store):
    paths = {}
    for upload in ("u1", "u2"):
        spool.open_upload(upload, "anna", "abdomen")
        paths[upload] = spool.put(
            origin=Origin.GRPC, principal="anna", upload=upload, part10=as_file(ct_dataset())
        ).arrival.path.as_posix()
    spool.close_upload("u1")
    with indexing(store, spool):
        wait_for(lambda: len(store.uploads) == 3, 5, "the uploads")
    assert store.uploads == [
        ("open", "u1", "anna", "abdomen"),
        ("open", "u2", "anna", "abdomen"),
        ("close", "u1", *sorted(paths.values())),
    ]


def test_stop_records_what_waits(spool, store):
    with indexing(store, spool) as index:
        wait_for(lambda: not index._scan_due.is_set(), 5, "the first scan")
        for _ in range(3):
            index.add(put(spool))
    assert len(store.rows) == 3

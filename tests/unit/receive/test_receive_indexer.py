"""Rows follow the files, whatever the store does meanwhile."""

import contextlib
from datetime import UTC, datetime

import pytest

from instances import as_file, ct_dataset
from peers import wait_for
from receive_support import FakeStore
from viscera.domain.sources import Origin
from viscera.jobs.spool import Spool
from viscera.receive import Indexer


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path, reserve_bytes=0, clock=lambda: datetime.now(UTC))


@pytest.fixture
def store():
    return FakeStore()


def put(spool):
    return spool.put(origin=Origin.DICOM, principal="pacs", part10=as_file(ct_dataset())).arrival


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


def test_one_row_that_no_store_takes_does_not_stop_the_others(spool, store):
    with indexing(store, spool) as index:
        wait_for(lambda: not index._scan_due.is_set(), 5, "the first scan")
        bad = put(spool)
        store.poison = bad.sop_uid
        index.add(bad)
        wait_for(index._scan_due.is_set, 5, "the fault noticed")
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

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc
import pytest
from api_fakes import MemoryStore
from hypothesis import given
from hypothesis import strategies as st

from viscera.api.client import requests as client_requests
from viscera.api.recovery import recover_uploads
from viscera.api.uploads import Limits, Upload, read_header, split
from viscera.api.v1 import viscera_pb2 as pb
from viscera.domain.sources import SubmissionState
from viscera.errors import (
    ConflictingInstance,
    InvalidRequest,
    RejectedInstance,
    StoreUnavailable,
)
from viscera.jobs.spool import Spool

WIDE = Limits(instance_bytes=10**9, upload_bytes=10**9)


def chunk(data: bytes, last: bool = True) -> pb.SegmentSeriesRequest:
    return pb.SegmentSeriesRequest(chunk=pb.InstanceChunk(data=data, last=last))


def breaking(requests: Sequence[pb.SegmentSeriesRequest]) -> Iterator[pb.SegmentSeriesRequest]:
    """A client that goes away after these, as grpc tells it."""
    yield from requests
    raise grpc.RpcError


def chunked(data: bytes, cuts: Sequence[int]) -> list[pb.SegmentSeriesRequest]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pairs = list(itertools.pairwise(edges))
    return [chunk(data[a:b], last=i == len(pairs) - 1) for i, (a, b) in enumerate(pairs)]


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=50), st.lists(st.integers(0, 99)))))
def test_however_instances_are_cut_they_come_out_whole(
    instances: list[tuple[bytes, list[int]]],
) -> None:
    requests = [r for data, cuts in instances for r in chunked(data, cuts)]
    assert [b"".join(p) for p in split(iter(requests), WIDE)] == [data for data, _ in instances]


def test_an_end_within_an_instance_is_told() -> None:
    with pytest.raises(InvalidRequest, match="after 2 bytes"):
        list(split(iter([chunk(b"abc"), chunk(b"de", last=False)]), WIDE))


@pytest.mark.parametrize(
    ("limits", "setting"),
    [
        (Limits(instance_bytes=5, upload_bytes=100), "max_instance_mb"),
        (Limits(instance_bytes=100, upload_bytes=11), "max_upload_mb"),
    ],
)
def test_the_chunk_that_passes_a_limit_ends_the_upload(limits: Limits, setting: str) -> None:
    def endless() -> Iterator[pb.SegmentSeriesRequest]:
        while True:
            yield chunk(b"abc", last=False)
            yield chunk(b"ab")
            yield chunk(b"abc", last=False)
            yield chunk(b"abc", last=False)

    with pytest.raises(InvalidRequest, match=setting):
        list(split(endless(), limits))


def test_a_second_header_is_refused() -> None:
    again = pb.SegmentSeriesRequest(header=pb.SeriesHeader())
    with pytest.raises(InvalidRequest):
        list(split(iter([again]), WIDE))


@pytest.mark.parametrize("requests", [[], [pb.SegmentSeriesRequest()], [chunk(b"x")]])
def test_a_stream_without_header_is_refused(requests: list[pb.SegmentSeriesRequest]) -> None:
    with pytest.raises(InvalidRequest, match="send the header first"):
        read_header(iter(requests))


@pytest.fixture
def begin(spool: Spool, store: MemoryStore) -> Callable[[int], Upload]:
    def begin(declared: int = 0) -> Upload:
        upload = Upload(handle="h1", principal="ward", declared=declared, spool=spool, store=store)
        upload.open("")
        return upload

    return begin


def test_what_the_spool_holds_is_what_was_sent(
    begin: Callable[[int], Upload],
    spool: Spool,
    store: MemoryStore,
    make_instance: Callable[..., bytes],
) -> None:
    sent = [make_instance(n) for n in range(3)]
    upload = begin(0)
    upload.take(iter([r for data in sent for r in chunked(data, [100, 200])]), WIDE)
    assert (store.arrivals, next(iter(spool.uploads())).closed) == ({}, False)
    upload.complete()
    held = [spool.path(path).read_bytes() for path in store.arrivals]
    assert sorted(held) == sorted(sent)
    assert upload.size_bytes == sum(map(len, sent))
    assert (store.closed, next(iter(spool.uploads())).closed) == (["h1"], True)


def test_an_instance_sent_twice_counts_once(
    begin: Callable[[int], Upload], make_instance: Callable[..., bytes]
) -> None:
    upload = begin(2)
    upload.take(iter([chunk(make_instance(1)), chunk(make_instance(1))]), WIDE)
    assert (upload.sent, len(upload.arrivals)) == (2, 1)


def test_one_uid_with_two_contents_is_refused(
    begin: Callable[[int], Upload], make_instance: Callable[..., bytes]
) -> None:
    with pytest.raises(ConflictingInstance, match=r"1\.2\.3\.4\.1"):
        begin(0).take(iter([chunk(make_instance(1)), chunk(make_instance(1, text="other"))]), WIDE)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 not DICOM", b"\0" * 128 + b"DICM"])
def test_what_is_not_dicom_is_refused(data: bytes, begin: Callable[[int], Upload]) -> None:
    with pytest.raises(RejectedInstance):
        begin(0).take(iter([chunk(data)]), WIDE)


def test_two_series_in_one_upload_are_refused(
    begin: Callable[[int], Upload], make_instance: Callable[..., bytes]
) -> None:
    with pytest.raises(InvalidRequest, match="a call of its own"):
        begin(0).take(iter([chunk(make_instance(1)), chunk(make_instance(2, "1.2.9"))]), WIDE)


@pytest.mark.parametrize("declared", [1, 3])
def test_another_count_than_declared_is_refused(
    declared: int, begin: Callable[[int], Upload], make_instance: Callable[..., bytes]
) -> None:
    with pytest.raises(InvalidRequest, match=f"declared {declared}"):
        begin(declared).take(iter([chunk(make_instance(n)) for n in range(2)]), WIDE)


def test_no_instance_at_all_is_refused(begin: Callable[[int], Upload]) -> None:
    with pytest.raises(InvalidRequest, match="without an instance"):
        begin(0).take(iter([]), WIDE)


def test_a_break_after_all_that_was_declared_is_a_good_end(
    begin: Callable[[int], Upload], make_instance: Callable[..., bytes]
) -> None:
    upload = begin(2)
    upload.take(breaking([chunk(make_instance(n)) for n in range(2)]), WIDE)
    assert len(upload.arrivals) == 2


@pytest.mark.parametrize("declared", [0, 3])
def test_a_break_before_that_is_none(
    declared: int, begin: Callable[[int], Upload], make_instance: Callable[..., bytes]
) -> None:
    with pytest.raises(grpc.RpcError):
        begin(declared).take(breaking([chunk(make_instance(n)) for n in range(2)]), WIDE)


@pytest.mark.parametrize("working", [0, 1])
def test_an_upload_that_the_store_missed_is_recovered(
    working: int,
    begin: Callable[[int], Upload],
    spool: Spool,
    store: MemoryStore,
    make_instance: Callable[..., bytes],
) -> None:
    """Whether the store went before the rows or between them and the close."""
    upload = begin(0)
    upload.take(iter([chunk(make_instance(n)) for n in range(2)]), WIDE)
    if working:
        store.record_arrivals(tuple(upload.arrivals.values()))
        store.record_arrivals = lambda arrivals: None  # type: ignore[method-assign]
    store.down = 1
    with pytest.raises(StoreUnavailable):
        upload.complete()
    if working:
        del store.record_arrivals
    assert recover_uploads(spool, store) == 1
    assert {a.sop_uid for a in store.arrivals.values()} == set(upload.arrivals)
    assert store.closed == ["h1"]


def test_recovery_leaves_alone_what_is_incomplete_or_settled(
    begin: Callable[[int], Upload],
    spool: Spool,
    store: MemoryStore,
    make_instance: Callable[..., bytes],
) -> None:
    upload = begin(0)
    upload.take(iter([chunk(make_instance(1))]), WIDE)
    upload.record()
    assert recover_uploads(spool, store) == 0
    upload.complete()
    store.settle("h1")
    assert store.submissions["h1"].state is SubmissionState.CLOSED
    assert recover_uploads(spool, store) == 0
    assert store.closed == ["h1"]


def test_an_upload_that_the_store_does_not_open_leaves_nothing(
    spool: Spool, store: MemoryStore
) -> None:
    store.down = 1
    upload = Upload(handle="h1", principal="ward", declared=0, spool=spool, store=store)
    with pytest.raises(StoreUnavailable):
        upload.open("")
    assert list(spool.uploads()) == []


@pytest.mark.parametrize("down", [0, 1])
def test_a_broken_upload_gives_its_room_back_at_once(
    down: int,
    begin: Callable[[int], Upload],
    spool: Spool,
    store: MemoryStore,
    make_instance: Callable[..., bytes],
) -> None:
    requests = [chunk(make_instance(1)), chunk(b"not DICOM")]
    upload = begin(0)
    store.down = down
    with pytest.raises(RejectedInstance), upload.discarded_unless_closed():
        upload.take(iter(requests), WIDE)
    assert [p for p in spool.root.rglob("*") if p.name != "grpc"] == []
    if not down:
        assert store.submissions["h1"].state is SubmissionState.REFUSED
        assert store.decisions["h1"][1].startswith("DatasetMismatch: ")


def test_the_client_sends_what_the_files_hold(tmp_path: Path) -> None:
    contents = [b"", b"x", bytes(512 * 1024), bytes(512 * 1024 + 1), bytes(3 << 20)]
    paths = [tmp_path / str(n) for n in range(len(contents))]
    for path, data in zip(paths, contents, strict=True):
        path.write_bytes(data)
    requests = client_requests(paths, "band")
    assert read_header(requests) == pb.SeriesHeader(model="band", instances=5)
    assert [b"".join(pieces) for pieces in split(requests, WIDE)] == contents

"""The spool as the record: whole files or nothing, one UID one object, rebuilt by a scan."""

import errno
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom
import pytest

from instances import SERIES_UID, STUDY_UID, as_file, ct_dataset, with_uid
from viscera.domain.sources import Origin
from viscera.errors import ConflictingInstance, InvalidRequest, InvalidUID, SpoolFull
from viscera.files import durable
from viscera.jobs.spool import Spool, Stored, Upload

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", reserve_bytes=0, clock=lambda: NOON)


def put(spool: Spool, data, principal: str = "pacs") -> Stored:
    return spool.put(origin=Origin.DICOM, principal=principal, part10=data)


def files(spool: Spool) -> list[Path]:
    return sorted(p for p in spool.root.rglob("*") if p.is_file())


def test_stores_the_bytes_as_they_are(spool):
    ds = ct_dataset(z_mm=7.0)
    data = as_file(ds)
    stored = put(spool, data)
    arrival = stored.arrival
    assert not stored.repeated
    assert spool.path(arrival.path).read_bytes() == data
    assert [spool.path(arrival.path)] == files(spool)
    assert (arrival.study_uid, arrival.series_uid) == (STUDY_UID, SERIES_UID)
    assert (arrival.sop_uid, arrival.sop_class_uid) == (ds.SOPInstanceUID, ds.SOPClassUID)
    assert arrival.position_lps == (-10.5, 20.25, 7.0)
    assert arrival.arrived_at == NOON
    assert arrival.size_bytes == len(data)
    # The digest begins where pydicom's file meta says that the data set begins.
    offset = 132 + 12 + pydicom.dcmread(spool.path(arrival.path)).file_meta[0x00020000].value
    assert arrival.sha256 == hashlib.sha256(data[offset:]).hexdigest()


def test_pieces_make_the_same_file_as_the_whole(spool, tmp_path):
    data = as_file(ct_dataset(sop_uid="1.2.3"))
    pieces = [bytearray(data[:7]), memoryview(data)[7:140], data[140:141], data[141:]]
    in_pieces = put(spool, pieces).arrival
    other = Spool(tmp_path / "other", reserve_bytes=0, clock=lambda: NOON)
    assert put(other, data).arrival == in_pieces
    assert spool.path(in_pieces.path).read_bytes() == data


def test_paths_are_hashes_below_the_peers_folder(spool):
    path = put(spool, as_file(ct_dataset(sop_uid="1.2.3"))).arrival.path
    assert path.parts[:2] == ("dicom", "pacs")
    assert len(path.parts) == 4
    assert not any(uid in str(path) for uid in ("1.2.3", SERIES_UID))


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "a\0b", "-x", "x" * 200])
def test_no_principal_or_upload_leaves_the_spool(spool, name):
    with pytest.raises(InvalidRequest):
        put(spool, as_file(ct_dataset()), principal=name)
    with pytest.raises(InvalidRequest):
        spool.open_upload(name, "anna", "")
    with pytest.raises(InvalidRequest):
        spool.path("../outside")


def test_the_same_bytes_again_are_a_success(spool):
    data = as_file(ct_dataset())
    first, again = put(spool, data), put(spool, data)
    assert (first.repeated, again.repeated) == (False, True)
    assert again.arrival == first.arrival
    assert len(files(spool)) == 1


def test_the_same_data_set_under_another_file_meta_is_the_same_instance(spool):
    data = as_file(ct_dataset())
    put(spool, data)
    assert put(spool, b"\1" * 128 + data[128:]).repeated


def test_the_same_uid_with_other_bytes_is_a_conflict(spool):
    ds = ct_dataset()
    data = as_file(ds)
    stored = put(spool, data)
    ds.InstanceNumber = 5
    with pytest.raises(ConflictingInstance, match=ds.SOPInstanceUID):
        put(spool, as_file(ds))
    assert spool.path(stored.arrival.path).read_bytes() == data
    assert len(files(spool)) == 1


def test_peers_do_not_share_instances(spool):
    ds = ct_dataset()
    put(spool, as_file(ds))
    ds.InstanceNumber = 5
    assert not put(spool, as_file(ds), principal="other").repeated


def test_refused_instances_leave_nothing(spool):
    with pytest.raises(InvalidUID):
        put(spool, with_uid(as_file(ct_dataset()), 0x00080018, b""))
    assert list(spool.root.iterdir()) == []


@pytest.mark.parametrize("same", [True, False])
def test_threads_that_store_one_uid_at_once(spool, same):
    ds = ct_dataset(size=128)
    contents = []
    for number in range(8):
        ds.InstanceNumber = 1 if same else number
        contents.append(as_file(ds))
    gate, outcomes = threading.Barrier(8), []

    def send(data):
        gate.wait()
        try:
            outcomes.append("repeated" if put(spool, data).repeated else "stored")
        except ConflictingInstance:
            outcomes.append("conflict")

    threads = [threading.Thread(target=send, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == sorted(["stored"] + ["repeated" if same else "conflict"] * 7)
    (kept,) = files(spool)
    assert kept.read_bytes() in contents


def test_reserve_is_kept(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    spool = Spool(tmp_path / "spool", reserve_bytes=2 * free, clock=lambda: NOON)
    with pytest.raises(SpoolFull, match=r"spool\.reserve_mb"):
        put(spool, as_file(ct_dataset()))
    assert files(spool) == []


def test_repeats_are_told_also_on_a_full_disk(spool, tmp_path):
    data = as_file(ct_dataset())
    put(spool, data)
    free = shutil.disk_usage(tmp_path).free
    assert put(Spool(spool.root, reserve_bytes=2 * free, clock=lambda: NOON), data).repeated


def test_full_file_system_leaves_nothing_partial(tmp_path):
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("needs root to mount a small tmpfs")
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        spool = Spool(tmp_path / "spool", reserve_bytes=0, clock=lambda: NOON)
        # statvfs would warn first: hide it, so that the write itself meets ENOSPC.
        spool._require_room = lambda size: None
        small, large = as_file(ct_dataset(size=64)), as_file(ct_dataset(size=512))
        put(spool, small)
        with pytest.raises(SpoolFull, match="ENOSPC"):
            put(spool, large)
        assert [f.suffix for f in files(spool)] == [".dcm"]
        assert not put(spool, as_file(ct_dataset(size=64))).repeated
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_file_size_limit_leaves_nothing_partial(spool):
    program = (
        "import sys, pathlib, datetime, resource\n"
        "from viscera.jobs.spool import Spool\n"
        "from viscera.domain.sources import Origin\n"
        "from viscera.errors import SpoolFull\n"
        "spool = Spool(pathlib.Path(sys.argv[1]), reserve_bytes=0,"
        " clock=lambda: datetime.datetime.now(datetime.UTC))\n"
        "data = sys.stdin.buffer.read()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    spool.put(origin=Origin.DICOM, principal='pacs', part10=data)\n"
        "except SpoolFull as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(spool.root)],
        input=as_file(ct_dataset(size=512)),
        capture_output=True,
        check=True,
    )
    assert b"EFBIG" in done.stdout
    assert files(spool) == []


@pytest.mark.parametrize("call", ["open", "write", "fsync", "link"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_at_any_step_is_spool_full(spool, monkeypatch, call, code):
    """The disk fills between any two system calls: a fault we cannot provoke from outside."""
    put(spool, as_file(ct_dataset()))
    real = getattr(durable.os, call)

    def full(*args, **kwargs):
        raise OSError(code, "no room")

    monkeypatch.setattr(durable.os, call, full)
    data = as_file(ct_dataset())
    with pytest.raises(SpoolFull, match=errno.errorcode[code]):
        put(spool, data)
    monkeypatch.setattr(durable.os, call, real)
    assert [f.suffix for f in files(spool)] == [".dcm"]
    assert not put(spool, data).repeated


def test_other_faults_of_the_disk_keep_their_name(spool, monkeypatch):
    def broken(fd):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(durable.os, "fsync", broken)
    with pytest.raises(OSError, match="broken"):
        put(spool, as_file(ct_dataset()))
    assert files(spool) == []


def test_scan_rebuilds_what_put_returned(spool):
    arrivals = [put(spool, as_file(ct_dataset(z_mm=z))).arrival for z in (0.0, 5.0, 10.0)]
    spool.open_upload("u1", "anna", "abdomen/1")
    uploaded = spool.put(
        origin=Origin.GRPC, principal="anna", upload="u1", part10=as_file(ct_dataset())
    ).arrival
    again = Spool(spool.root, reserve_bytes=0, clock=lambda: datetime.now(UTC))
    expected = {a.path: a for a in [*arrivals, uploaded]}
    assert {a.path: a for a in again.scan(set())} == expected
    known = {arrivals[0].path.as_posix(), uploaded.path.as_posix()}
    assert {a.path for a in again.scan(known)} == {a.path for a in arrivals[1:]}


def test_scan_passes_over_what_it_cannot_read(spool):
    good = put(spool, as_file(ct_dataset())).arrival
    bad = put(spool, as_file(ct_dataset())).arrival
    spool.path(bad.path).write_bytes(b"rotten")
    assert list(spool.scan(set())) == [good]


def test_scan_removes_leftovers_of_the_dead_but_not_of_the_living(spool):
    folder = spool.path(put(spool, as_file(ct_dataset())).arrival.path).parent
    dead, living = folder / "dead.part", folder / "living.part"
    dead.write_bytes(b"half")
    living.write_bytes(b"half")
    with living.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        assert len(list(spool.scan(set()))) == 1
    assert not dead.exists()
    assert living.exists()


def test_put_survives_a_sweep_that_takes_its_temporary_file(spool, monkeypatch):
    real, swept = durable.os.fsync, []

    def sweep_once(fd):
        real(fd)
        if not swept:
            swept.extend(spool.root.rglob("*.part"))
            for path in swept:
                path.unlink()

    put(spool, as_file(ct_dataset()))
    monkeypatch.setattr(durable.os, "fsync", sweep_once)
    data = as_file(ct_dataset())
    assert spool.path(put(spool, data).arrival.path).read_bytes() == data
    assert swept


def test_uploads_are_remembered_and_never_merged(spool):
    spool.open_upload("u1", "anna", "abdomen")
    spool.open_upload("u1", "mallory", "other")  # again is nothing
    spool.open_upload("u2", "bert", "two", (("a", "1.2"), ("b", "1.3")))
    spool.close_upload("u1")
    spool.close_upload("u1")
    assert list(spool.uploads()) == [
        Upload(upload="u1", principal="anna", model="abdomen", closed=True),
        Upload(
            upload="u2",
            principal="bert",
            model="two",
            closed=False,
            channels=(("a", "1.2"), ("b", "1.3")),
        ),
    ]
    data = as_file(ct_dataset())
    for upload, principal in (("u1", "anna"), ("u2", "bert")):
        stored = spool.put(origin=Origin.GRPC, principal=principal, upload=upload, part10=data)
        assert not stored.repeated
        assert stored.arrival.path.parts[:2] == ("grpc", upload)


def test_an_upload_must_be_open(spool):
    with pytest.raises(InvalidRequest):
        spool.put(origin=Origin.GRPC, principal="a", upload="u9", part10=as_file(ct_dataset()))


def test_remove_takes_empty_folders_too(spool):
    kept = put(spool, as_file(ct_dataset())).arrival
    gone = put(spool, as_file(ct_dataset(series_uid="1.2.9"))).arrival
    spool.open_upload("u1", "anna", "")
    uploaded = spool.put(
        origin=Origin.GRPC, principal="anna", upload="u1", part10=as_file(ct_dataset())
    ).arrival
    spool.close_upload("u1")
    spool.remove([gone.path, str(uploaded.path), gone.path])
    assert files(spool) == [spool.path(kept.path)]
    assert not spool.path(gone.path).parent.exists()
    assert list(spool.uploads()) == []
    assert not put(spool, as_file(ct_dataset(series_uid="1.2.9"))).repeated


def test_an_old_instance_that_is_sent_again_is_kept_and_a_young_one_is_as_it_was(spool, tmp_path):
    now = [NOON]
    spool = Spool(tmp_path / "aging", reserve_bytes=0, clock=lambda: now[0])
    data = as_file(ct_dataset(sop_uid="1.2.3"))
    path = put(spool, data).arrival.path
    for later, came in (
        (timedelta(minutes=5), NOON),
        (timedelta(days=8), NOON + timedelta(days=8)),
    ):
        now[0] = NOON + later
        assert put(spool, data).repeated
        assert spool.path(path).stat().st_mtime_ns == round(came.timestamp() * 1e6) * 1000
    assert not spool.remove([path], before=NOON + timedelta(days=1))
    assert spool.path(path).exists()
    assert spool.remove([path], before=NOON + timedelta(days=9))
    assert files(spool) == []


def test_an_instance_that_retention_takes_while_it_is_compared_is_stored_anew(spool, monkeypatch):
    data = as_file(ct_dataset(sop_uid="1.2.3"))
    path = put(spool, data).arrival.path
    whole = hashlib.file_digest

    def raced(file, name):
        digest = whole(file, name)
        spool.remove([path])
        return digest

    monkeypatch.setattr(hashlib, "file_digest", raced)
    assert not put(spool, data).repeated
    assert spool.path(path).read_bytes() == data

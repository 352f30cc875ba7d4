"""C-STORE and C-ECHO over real sockets, sent by dcmtk and by pynetdicom."""

import socket
import statistics
import subprocess
import threading
import time

import pydicom
import pytest
from pydicom.uid import (
    ComprehensiveSRStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RTPlanStorage,
)

from instances import as_file, ct_dataset
from peers import ENVIRONMENT, need, storescu, wait_for
from receive_support import PACS, Sender, receiver, send_raw


@pytest.fixture
def running(tmp_path):
    with receiver(tmp_path / "spool") as receive:
        yield receive


def data_set_bytes(data: bytes) -> bytes:
    """Return what follows the file meta; its length is the value of (0002,0000)."""
    assert data[132:140] == b"\x02\x00\x00\x00UL\x04\x00"
    return data[144 + int.from_bytes(data[140:144], "little") :]


def test_dcmtk_pushes_a_real_series(running, shared_data):
    folder = shared_data / "series" / "ge_abdomen_35x5mm"
    sent = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, folder.glob("*.dcm"))}
    done = storescu(running.listener.port, folder)
    assert done.returncode == 0, done.stderr
    kept = {}
    for path in running.files():
        ds = pydicom.dcmread(path)
        assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
        kept[ds.SOPInstanceUID] = ds
    assert kept == sent  # element by element: storescu encodes anew what it reads
    assert len(kept) == 35
    wait_for(lambda: len(running.store.rows) == 35, 10, "35 rows")
    assert running.count("stored") == 35
    wait_for(lambda: running.store.associations[-1] == ("pacs", 0), 10, "the release noted")
    assert ("pacs", 1) in running.store.associations
    assert running.associations_open() == 0


def test_bytes_are_kept_as_sent(running, shared_data):
    contexts = [(CTImageStorage, [ExplicitVRLittleEndian])]
    for path in sorted((shared_data / "series" / "ge_abdomen_35x5mm").glob("*.dcm"))[:3]:
        data = data_set_bytes(path.read_bytes())
        sop_uid = pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID
        before = set(running.files())
        with Sender(running.listener.port, contexts=contexts).association() as assoc:
            assert send_raw(assoc, sop_uid, data) == [0x0000]
        (kept,) = set(running.files()) - before
        assert data_set_bytes(kept.read_bytes()) == data


def test_what_we_write_is_dicom_for_dcmtk(running):
    Sender(running.listener.port).send(ct_dataset())
    (path,) = running.files()
    dump = subprocess.run(
        [need("/usr/bin/dcmdump"), "-E", str(path)], capture_output=True, text=True, check=True
    )
    assert "W:" not in dump.stderr
    assert "E:" not in dump.stderr
    assert "MediaStorageSOPInstanceUID" in dump.stdout


def test_echo(running):
    echo = [need("/usr/bin/echoscu"), "-aet", "PACS", "-aec", "VISCERA", "127.0.0.1"]
    done = subprocess.run(
        [*echo, str(running.listener.port)], env=ENVIRONMENT, capture_output=True, check=False
    )
    assert done.returncode == 0


def test_transfer_syntaxes_of_the_real_slice(running, shared_data):
    """Each file goes in alone, as it is; ten share a UID, so each has a series of its own."""
    taken, refused = [], []
    for path in sorted((shared_data / "odd" / "transfer_syntaxes").glob("*.dcm*")):
        ds = pydicom.dcmread(path)
        syntax = str(ds.file_meta.TransferSyntaxUID)
        with Sender(
            running.listener.port, contexts=[(ds.SOPClassUID, [syntax])]
        ).association() as assoc:
            (taken if assoc.accepted_contexts else refused).append(syntax)
    assert sorted(refused) == [
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.4.53",
        "1.2.840.10008.1.2.4.55",
    ]
    assert set(taken) >= {
        "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2",
        "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57",
        "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81",
        "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.5",
    }  # fmt: skip


def test_uncompressed_is_chosen_where_a_peer_offers_several(running):
    syntaxes = ["1.2.840.10008.1.2.4.91", ImplicitVRLittleEndian, ExplicitVRLittleEndian]
    sender = Sender(running.listener.port, contexts=[(CTImageStorage, syntaxes)])
    with sender.association() as assoc:
        (context,) = assoc.accepted_contexts
        assert context.transfer_syntax == [ExplicitVRLittleEndian]


def test_deflated_is_not_negotiated_even_for_what_is_dropped(running):
    for sop_class in (CTImageStorage, ComprehensiveSRStorage):
        contexts = [(sop_class, [DeflatedExplicitVRLittleEndian])]
        with Sender(running.listener.port, contexts=contexts).association() as assoc:
            assert not assoc.accepted_contexts


def test_repeated_and_conflicting_instances(running):
    ds = ct_dataset()
    sender = Sender(running.listener.port)
    assert sender.send(ds, ds) == [0x0000, 0x0000]
    ds.InstanceNumber = 7
    assert sender.send(ds) == [0x0111]
    assert len(running.files()) == 1
    assert (running.count("stored"), running.count("repeated")) == (1, 1)
    assert running.count("rejected", "ConflictingInstance") == 1


def test_one_instance_over_two_associations_at_once(running):
    ds = ct_dataset(size=256)
    gate, statuses = threading.Barrier(4), []

    def send():
        gate.wait()
        statuses.extend(Sender(running.listener.port).send(ds))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0] * 4
    assert len(running.files()) == 1
    assert (running.count("stored"), running.count("repeated")) == (1, 3)


def test_structured_reports_are_taken_counted_and_dropped(running):
    report = ct_dataset()
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = ComprehensiveSRStorage
    assert Sender(running.listener.port).send(report) == [0x0000]
    assert running.count("dropped") == 1
    assert running.files() == []


def test_kinds_that_a_peer_does_not_list_are_not_negotiated(tmp_path):
    peer = PACS.model_copy(update={"accept_and_drop": ("SR",)})
    with receiver(tmp_path, peers=(peer,)) as receive:
        contexts = [
            (uid, [ExplicitVRLittleEndian])
            for uid in (CTImageStorage, ComprehensiveSRStorage, RTPlanStorage)
        ]
        with Sender(receive.listener.port, contexts=contexts).association() as assoc:
            accepted = {context.abstract_syntax for context in assoc.accepted_contexts}
    assert accepted == {CTImageStorage, ComprehensiveSRStorage}


def test_data_set_that_contradicts_its_request(running):
    ds = ct_dataset()
    with Sender(
        running.listener.port, contexts=[(CTImageStorage, [ExplicitVRLittleEndian])]
    ).association() as assoc:
        statuses = send_raw(assoc, "1.2.3", data_set_bytes(as_file(ds)))
        statuses += send_raw(assoc, ds.SOPInstanceUID, b"\xff" * 400)
        statuses += send_raw(assoc, ds.SOPInstanceUID, b"")
        statuses += [assoc.send_c_store(ds).Status]
    assert statuses == [0xA900, 0xA900, 0xA900, 0x0000]
    assert len(running.files()) == 1
    assert running.count("rejected", "DatasetMismatch") == 3


@pytest.mark.parametrize("uid", ["", "../../x", "1.2.", "1.02", "9" * 70])
def test_bad_uids_in_the_request(running, uid):
    ds = ct_dataset()
    with Sender(
        running.listener.port, contexts=[(CTImageStorage, [ExplicitVRLittleEndian])]
    ).association() as assoc:
        statuses = send_raw(assoc, uid, data_set_bytes(as_file(ds)))
        statuses += [assoc.send_c_store(ds).Status]
    assert statuses == [0x0117, 0x0000]


def test_senders_with_nagles_algorithm_do_not_wait_for_our_acknowledgement(running):
    """A message of two writes, as dcmtk sends by default: a delayed ACK would cost 40 ms."""
    contexts, seconds = [(CTImageStorage, [ExplicitVRLittleEndian])], []
    with Sender(running.listener.port, contexts=contexts).association() as assoc:
        assert assoc.dul.socket.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
        for _ in range(25):
            began = time.monotonic()
            assert send_raw(assoc, "1.2.3", b"\xff" * 400) == [0xA900]  # before any disk
            seconds.append(time.monotonic() - began)
    # Every one would wait; on a busy machine only the quickest say so.
    assert statistics.quantiles(seconds, n=4)[0] < 0.03

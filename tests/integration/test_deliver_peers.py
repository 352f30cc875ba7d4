"""Delivery to dcmtk's storescp, to Orthanc that comes and goes, and to peers that say no."""

import subprocess
import threading
import time as clock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pydicom.uid import EnhancedSRStorage, ImplicitVRLittleEndian, UltrasoundImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import ComprehensiveSRStorage, SegmentationStorage

import peers
import store_rows as rows
from sendable import committed_job, write_object
from store_rows import PACS
from viscera.config import DeliverSettings, Destination
from viscera.deliver import DeliverLoop, send_dicom
from viscera.domain.jobs import Address, Delivery, DeliveryState, Job
from viscera.domain.results import ResultKind
from viscera.errors import PeerRefused, PeerUnreachable
from viscera.jobs.owners import this_process
from viscera.jobs.reports import ReportFiles
from viscera.jobs.store import SqlJobStore
from viscera.metrics import Metrics

SEG_ALONE = [Address(destination="pacs", kinds=(ResultKind.SEG,))]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlJobStore]:
    opened = rows.open_store(
        f"sqlite:///{tmp_path}/viscera.db",
        tmp_path,
        closing=lambda closing: closing.arrivals[0],
    )
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


@pytest.fixture
def deliver(store: SqlJobStore, root: Path, metrics: Metrics) -> Iterator[Callable[..., None]]:
    """Start a deliverer to the given destinations; it ends with the test."""
    stop, threads = threading.Event(), []

    def start(*destinations: Destination) -> None:
        settings = DeliverSettings(destinations=destinations, backoff_s=0.2, backoff_max_s=1.0)
        loop = DeliverLoop(
            store,
            settings,
            root,
            transactions=ReportFiles(root.parent),
            metrics=metrics,
            clock=rows.now,
            owner=this_process("deliver"),
            lease_s=30,
        )
        threads.append(threading.Thread(target=loop.run, args=(stop,)))
        threads[-1].start()

    yield start
    stop.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def pacs(port: int, name: str = "pacs", ae_title: str = "ANY-SCP") -> Destination:
    return Destination(
        name=name, kind="dicom", host="127.0.0.1", port=port, ae_title=ae_title, timeout_s=10
    )


def ended(store: SqlJobStore, job: Job, seconds: float = 30) -> tuple[Delivery, ...]:
    """Wait until nothing of `job` is under way."""

    def over() -> tuple[Delivery, ...]:
        found = store.deliveries(job.id)
        under_way = {DeliveryState.QUEUED, DeliveryState.SENDING}
        return () if under_way & {d.state for d in found} else found

    found: tuple[Delivery, ...] = peers.wait_for(over, seconds, "the end of all deliveries")
    return found


def counted(metrics: Metrics, outcome: str) -> float:
    return metrics.registry.get_sample_value("viscera_deliveries_total", {"outcome": outcome}) or 0


def jobs_observed(metrics: Metrics) -> float:
    labels = {"stage": "deliver", "engine": ""}
    return metrics.registry.get_sample_value("viscera_stage_seconds_count", labels) or 0


# pynetdicom 3.0.4 drops the socket of a refused connection unclosed.
drops_sockets = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

Answer = Callable[[evt.Event], int]


@contextmanager
def scp(answer: Answer, *classes: str) -> Iterator[tuple[int, list[str]]]:
    """A storage provider that answers as told; gives its port and what happened, in order."""
    seen: list[str] = []

    def store_it(event: evt.Event) -> int:
        seen.append(str(event.request.AffectedSOPClassUID.name))
        return answer(event)

    ae = AE()
    for sop_class in classes or (SegmentationStorage, ComprehensiveSRStorage):
        ae.add_supported_context(sop_class)
    handlers = [(evt.EVT_C_STORE, store_it), (evt.EVT_ACCEPTED, lambda _: seen.append("open"))]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield server.server_address[1], seen
    finally:
        server.shutdown()


@contextmanager
def storescp(folder: Path) -> Iterator[int]:
    """dcmtk's, which writes what it receives bit by bit."""
    program, port = peers.need("/usr/bin/storescp"), peers.free_port()
    folder.mkdir()
    process = subprocess.Popen(
        [program, "+B", "+xa", "-od", str(folder), str(port)], env=peers.ENVIRONMENT
    )
    try:
        peers.wait_for(lambda: peers.answers(port), 20, "storescp")
        yield port
    finally:
        process.kill()
        process.wait()


def data_set_bytes(part10: Path) -> bytes:
    """Return what follows the file meta; its length stands in (0002,0000)."""
    raw = part10.read_bytes()
    assert raw[128:140] == b"DICM\x02\0\0\0UL\x04\0"
    return raw[144 + int.from_bytes(raw[140:144], "little") :]


@pytest.mark.parametrize("objects", [{}, {"transfer_syntax": ImplicitVRLittleEndian}])
def test_dcmtk_receives_the_committed_bytes(
    store: SqlJobStore,
    root: Path,
    tmp_path: Path,
    deliver: Callable[..., None],
    metrics: Metrics,
    objects: dict[str, str],
) -> None:
    with storescp(tmp_path / "received") as port:
        job = committed_job(store, root, PACS, **objects)
        deliver(pacs(port))
        assert {d.state for d in ended(store, job)} == {DeliveryState.DELIVERED}
    received = sorted(data_set_bytes(p) for p in (tmp_path / "received").iterdir())
    sent = [f for f in job.results if f.kind in (ResultKind.SEG, ResultKind.SR)]
    # The file meta differs: each program writes its own.
    assert received == sorted(data_set_bytes(root / f.path) for f in sent)
    assert counted(metrics, "delivered") == 2
    assert jobs_observed(metrics) == 1


@pytest.mark.e2e
@drops_sockets
def test_orthanc_that_is_down_and_comes_back_gets_everything_once(
    store: SqlJobStore, root: Path, tmp_path: Path, deliver: Callable[..., None], metrics: Metrics
) -> None:
    port = peers.free_port()
    jobs = [committed_job(store, root, PACS, number=n) for n in range(3)]
    deliver(pacs(port, ae_title="ORTHANC"))
    peers.wait_for(lambda: counted(metrics, "postponed") >= 2, 20, "a second attempt")
    with peers.orthanc(tmp_path / "orthanc", port) as running:
        for job in jobs:
            ended(store, job, 60)
        held(running, jobs)
    late = committed_job(store, root, PACS, number=9)
    before = counted(metrics, "postponed")
    peers.wait_for(lambda: counted(metrics, "postponed") > before, 20, "an attempt while down")
    peers.wait_for(lambda: not peers.answers(port), 20, "a free port")
    with peers.orthanc(tmp_path / "orthanc", port) as running:
        ended(store, late, 60)
        held(running, [*jobs, late])
    assert counted(metrics, "failed") == 0
    assert counted(metrics, "delivered") == 8
    assert jobs_observed(metrics) == 4


def held(running: peers.Orthanc, jobs: list[Job]) -> None:
    """Orthanc holds exactly the objects of `jobs`."""
    uids = [i["MainDicomTags"]["SOPInstanceUID"] for i in running.get("/instances?expand")]
    assert sorted(uids) == sorted(
        f.sop_uid for job in jobs for f in job.results if f.kind in ("seg", "sr")
    )


def test_one_association_carries_segmentation_and_report_in_order(
    store: SqlJobStore, root: Path, deliver: Callable[..., None]
) -> None:
    jobs = [committed_job(store, root, PACS, number=n) for n in range(2)]
    with scp(lambda _: 0x0000) as (port, seen):
        deliver(pacs(port))
        for job in jobs:
            ended(store, job)
    pair = ["Segmentation Storage", "Comprehensive SR Storage"]
    assert seen == ["open", *pair, *pair]


def test_a_full_peer_is_asked_again_and_the_report_waits(
    store: SqlJobStore, root: Path, deliver: Callable[..., None], metrics: Metrics
) -> None:
    answers = [0xA700, 0xA700, 0xB000, 0x0111]
    job = committed_job(store, root, PACS)
    with scp(lambda _: answers.pop(0)) as (port, seen):
        deliver(pacs(port))
        deliveries = ended(store, job)
    assert [d.state for d in deliveries] == [DeliveryState.DELIVERED] * 2
    assert [d.attempts for d in deliveries] == [3, 1]
    assert [s for s in seen if s != "open"] == ["Segmentation Storage"] * 3 + [
        "Comprehensive SR Storage"
    ]
    assert counted(metrics, "postponed") == 2


def test_what_is_refused_for_good_fails_and_the_rest_goes(
    store: SqlJobStore, root: Path, deliver: Callable[..., None], metrics: Metrics
) -> None:
    job = committed_job(store, root, PACS)
    with scp(lambda e: 0xA900 if "Seg" in e.request.AffectedSOPClassUID.name else 0) as (port, _):
        deliver(pacs(port))
        seg, report = ended(store, job)
    assert (seg.state, report.state) == (DeliveryState.FAILED, DeliveryState.DELIVERED)
    assert "0xA900" in seg.last_error
    assert (counted(metrics, "failed"), jobs_observed(metrics)) == (1, 1)


def test_a_peer_that_knows_no_segmentations_still_gets_the_report(
    store: SqlJobStore, root: Path, deliver: Callable[..., None]
) -> None:
    job = committed_job(store, root, PACS)
    with scp(lambda _: 0, ComprehensiveSRStorage) as (port, _):
        deliver(pacs(port))
        seg, report = ended(store, job)
    assert (seg.state, report.state) == (DeliveryState.FAILED, DeliveryState.DELIVERED)
    assert "PeerRefused" in seg.last_error


def test_a_peer_that_knows_none_of_our_classes_refuses(tmp_path: Path) -> None:
    write_object(tmp_path / "o", ResultKind.SEG)
    with scp(lambda _: 0, UltrasoundImageStorage) as (port, _), pytest.raises(PeerRefused):
        send_dicom(tmp_path / "o", pacs(port), "VISCERA")


def test_another_class_of_report_opens_what_it_needs(tmp_path: Path) -> None:
    write_object(tmp_path / "o", ResultKind.SR, sop_class=EnhancedSRStorage)
    with scp(lambda _: 0, EnhancedSRStorage) as (port, seen):
        send_dicom(tmp_path / "o", pacs(port), "VISCERA")
    assert seen == ["open", "Enhanced SR Storage"]


@drops_sockets
def test_peers_that_abort_or_reject_or_are_silent_are_unreachable(tmp_path: Path) -> None:
    def abort(event: evt.Event) -> int:
        event.assoc.abort()
        return 0

    write_object(tmp_path / "o", ResultKind.SEG)
    with scp(abort) as (port, _), pytest.raises(PeerUnreachable):
        send_dicom(tmp_path / "o", pacs(port), "VISCERA")
    with pytest.raises(PeerUnreachable):
        send_dicom(tmp_path / "o", pacs(peers.free_port()), "VISCERA")
    strict = AE(ae_title="STRICT")
    strict.require_called_aet = True
    strict.add_supported_context(SegmentationStorage)
    server = strict.start_server(("127.0.0.1", 0), block=False)
    try:
        with pytest.raises(PeerUnreachable, match="rejected"):
            send_dicom(tmp_path / "o", pacs(server.server_address[1]), "VISCERA")
    finally:
        server.shutdown()


@drops_sockets
def test_a_destination_that_is_down_holds_up_no_other(
    store: SqlJobStore, root: Path, tmp_path: Path, deliver: Callable[..., None]
) -> None:
    addresses = [
        Address(destination="down", kinds=(ResultKind.SEG,)),
        Address(destination="disk", kinds=tuple(ResultKind)),
    ]
    jobs = [committed_job(store, root, addresses, number=n) for n in range(5)]
    deliver(
        pacs(peers.free_port(), "down"),
        Destination(name="disk", kind="folder", folder=tmp_path / "out"),
    )
    names = {"qc.png", "report.dcm", "seg.dcm", "volumes.json"}
    for number, job in enumerate(jobs):
        folder = tmp_path / "out" / f"1.2.840.{number}" / job.id
        peers.wait_for(lambda: {p.name for p in folder.glob("*")} == names, 20, "the files")  # noqa: B023
        assert (folder / "qc.png").read_text() == f"qc.png of {number}"
        states = {d.destination: d.state for d in store.deliveries(job.id)}
        assert states["down"] in (DeliveryState.QUEUED, DeliveryState.SENDING)


def test_a_file_that_changed_after_the_commit_is_not_sent(
    store: SqlJobStore, root: Path, deliver: Callable[..., None]
) -> None:
    job = committed_job(store, root, SEG_ALONE)
    path = root / job.results[0].path
    path.write_bytes(path.read_bytes()[:-1] + b"y")
    with scp(lambda _: 0) as (port, seen):
        deliver(pacs(port))
        (delivery,) = ended(store, job)
    assert delivery.state is DeliveryState.FAILED
    assert "RoundTripMismatch" in delivery.last_error
    assert "Segmentation Storage" not in seen


def test_a_long_send_keeps_its_lease(store: SqlJobStore, root: Path, metrics: Metrics) -> None:
    job = committed_job(store, root, SEG_ALONE)
    short = rows.open_store(f"sqlite:///{root.parent}/viscera.db", root.parent, lease_s=1.2)

    def slowly(event: evt.Event) -> int:
        clock.sleep(4)
        return 0

    with scp(slowly) as (port, seen):
        loop = DeliverLoop(
            short,
            DeliverSettings(destinations=(pacs(port),)),
            root,
            transactions=ReportFiles(root.parent),
            metrics=metrics,
            clock=rows.now,
            owner="deliverer",
            lease_s=1.2,
        )
        stop = threading.Event()
        thread = threading.Thread(target=loop.run, args=(stop,))
        thread.start()
        peers.wait_for(lambda: "Segmentation Storage" in seen, 20, "the send")
        deadline_s = clock.monotonic() + 3
        while clock.monotonic() < deadline_s:
            assert short.claim_delivery("thief") is None
            clock.sleep(0.05)
        ended(store, job)
        stop.set()
        thread.join(20)
    assert counted(metrics, "delivered") == 1
    short.close()

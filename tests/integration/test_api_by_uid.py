"""SegmentByUid: what Orthanc holds is fetched over our listener and answered like an upload."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from api_harness import CONTENTS, House, a_house, now, refusal_of, serving, stub
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage
from pynetdicom import AE, evt
from structlog.testing import capture_logs

import peers
from instances import STUDY_UID, as_file, ct_dataset
from receive_support import receiver
from viscera.api.client import save_results, segment_by_uid
from viscera.api.grpc_server import GrpcServer
from viscera.api.v1 import viscera_pb2 as pb
from viscera.config import DicomSettings, Peer
from viscera.domain.sources import Arrival, Origin, SubmissionState
from viscera.errors import PeerUnreachable
from viscera.receive import PacsArchive, pull
from viscera.receive.pull import FIND, MOVE

CT, PICTURE = "1.2.3.51", "1.2.3.53"
COUNT = 5
INVALID = (grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest", False)
NOT_FOUND = (grpc.StatusCode.NOT_FOUND, "SeriesNotFound", False)
DENIED = (grpc.StatusCode.PERMISSION_DENIED, "UnknownPeer", False)
UNUSABLE = (grpc.StatusCode.FAILED_PRECONDITION, "NotAnImageSeries", False)
REFUSED = (grpc.StatusCode.FAILED_PRECONDITION, "PeerRefused", False)
AWAY = (grpc.StatusCode.UNAVAILABLE, "StorageUnavailable", True)
UNREACHABLE = (grpc.StatusCode.UNAVAILABLE, "PeerUnreachable", True)


def pacs_peer(port: int, **changes: object) -> Peer:
    given = {"host": "127.0.0.1", "port": port, "grpc_principals": ("local",), **changes}
    return Peer(name="orthanc", ae_title="ORTHANC", networks=("127.0.0.0/8",), **given)


def settings(*known: Peer, ae_title: str = "VISCERA") -> DicomSettings:
    return DicomSettings(peers=known, ae_title=ae_title)


@dataclass(frozen=True)
class Site:
    """Orthanc with two series, our listener, and what stands behind the door."""

    house: House
    pacs: peers.Orthanc

    @contextmanager
    def calling(self, known: Peer | None = None, ae_title: str = "VISCERA") -> Iterator[GrpcServer]:
        known = known or pacs_peer(self.pacs.dicom_port)
        archive = PacsArchive(settings(known, ae_title=ae_title))
        with serving(self.house, archive=archive) as server:
            yield server

    def submissions(self) -> list[tuple[str, SubmissionState]]:
        return [(s.principal, s.state) for s, *_ in self.house.store.why(CT)]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        house = stack.enter_context(a_house(tmp_path))
        listener = stack.enter_context(
            receiver(house.spool.root, store=house.store, peers=(pacs_peer(0),))  # type: ignore[arg-type]
        )
        knows = peers.reports_to(listener.listener.port)
        allows = {"DicomAlwaysAllowFind": True, "DicomAlwaysAllowMove": True}
        pacs = stack.enter_context(peers.orthanc(tmp_path / "orthanc", **knows, **allows))
        picture = ct_dataset(series_uid=PICTURE)
        picture.SOPClassUID = picture.file_meta.MediaStorageSOPClassUID = (
            SecondaryCaptureImageStorage
        )
        picture.Modality = "OT"
        sent = tmp_path / "sent"
        sent.mkdir()
        for number, ds in enumerate([*slices(), picture]):
            (sent / f"{number}.dcm").write_bytes(as_file(ds))
        assert peers.storescu(pacs.dicom_port, sent, called="ORTHANC").returncode == 0
        yield Site(house, pacs)


def slices(count: int = COUNT) -> list[Any]:
    return [ct_dataset(series_uid=CT, sop_uid=f"{CT}.{z + 1}", z_mm=z) for z in range(count)]


def call(server: GrpcServer, series_uid: str = CT, **given: str) -> list[pb.SegmentByUidResponse]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        asked = {"peer": "orthanc", "study_uid": STUDY_UID, "series_uid": series_uid, **given}
        return list(segment_by_uid(channel, **asked))


@pytest.mark.e2e
def test_a_series_of_the_pacs_comes_back_as_results(site: Site, tmp_path: Path) -> None:
    with site.calling() as server, site.house.working(), capture_logs() as logs:
        answers = call(server)
        again = call(server)
    names = [answer.WhichOneof("part") for answer in answers]
    assert names[:4] == ["accepted", "stored", "complete", "planned"]
    assert names[-1] == "finished"
    assert answers[1].stored.instances == COUNT
    assert {a.progress.stage for a in answers} >= {"decode", "segment"}
    (tmp_path / "out").mkdir()
    saved = save_results((a.chunk for a in answers if a.HasField("chunk")), tmp_path / "out")
    assert {path.read_bytes() for path in saved} == set(CONTENTS.values())
    job = answers[-1].finished
    assert (job.series_uid, job.frames) == (CT, COUNT)
    assert site.house.store.get_job(job.id).principal == "local"
    # What is here is not fetched again, and what is answered is not computed again.
    assert [line["event"] for line in logs].count("series_fetched") == 1
    assert again[-1].finished.id == job.id
    # It is a series of the PACS, too, which nobody else's call may see.
    assert ("orthanc", SubmissionState.CLOSED) in site.submissions()


@pytest.mark.e2e
def test_what_came_in_part_is_fetched_whole(site: Site) -> None:
    for ds in slices(2):
        stored = site.house.spool.put(origin=Origin.DICOM, principal="orthanc", part10=as_file(ds))
        site.house.store.record_arrivals([stored.arrival])
    with site.calling() as server, site.house.working():
        answers = call(server)
    assert answers[1].stored.instances == COUNT
    assert answers[-1].finished.frames == COUNT


@pytest.mark.e2e
def test_what_the_pacs_or_the_settings_do_not_give(site: Site) -> None:
    port = site.pacs.dicom_port
    with site.calling() as server, stub(server) as api:

        def refused(**given: str) -> object:
            asked = {"peer": "orthanc", "study_uid": STUDY_UID, "series_uid": CT, **given}
            return refusal_of(lambda: api.SegmentByUid(pb.SegmentByUidRequest(**asked)))

        assert refused(peer="nobody") == DENIED
        assert refused(study_uid="*") == INVALID
        assert refused(series_uid="") == INVALID
        assert refused(series_uid="1.2.3.999") == NOT_FOUND
        assert refused(study_uid="1.2.3.999") == NOT_FOUND
        assert refused(series_uid=PICTURE) == UNUSABLE
        assert refused(model="none") == (grpc.StatusCode.NOT_FOUND, "ModelNotFound", False)
    assert refusal(site, pacs_peer(port, grpc_principals=())) == DENIED
    # Orthanc finds for a stranger, and does not send to one.
    assert refusal(site, pacs_peer(port), ae_title="STRANGER") == REFUSED
    assert refusal(site, pacs_peer(peers.free_port())) == UNREACHABLE
    assert refusal(site, pacs_peer(port, host="")) == NOT_FOUND
    assert site.house.plan() is None


def refusal(site: Site, known: Peer, ae_title: str = "VISCERA") -> object:
    request = pb.SegmentByUidRequest(peer="orthanc", study_uid=STUDY_UID, series_uid=CT)
    with site.calling(known, ae_title) as server, stub(server) as api:
        return refusal_of(lambda: api.SegmentByUid(request))


# --- without a PACS


class SlowArchive:
    """Sends nothing until nobody waits any more."""

    def __init__(self) -> None:
        self.asked, self.given_up = threading.Event(), threading.Event()

    def require_allowed(self, peer: str, principal: str) -> None:
        pass

    def is_asked(self, peer: str) -> bool:
        return True

    def count(
        self, peer: str, study_uid: str, series_uid: str, is_wanted: Callable[[], bool]
    ) -> int | None:
        return None

    def fetch(
        self, peer: str, study_uid: str, series_uid: str, is_wanted: Callable[[], bool]
    ) -> int:
        self.asked.set()
        while is_wanted():
            self.given_up.wait(0.01)
        self.given_up.set()
        return 0


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with a_house(tmp_path) as house:
        yield house


def test_a_client_that_goes_before_all_is_here_leaves_nothing_to_do(house: House) -> None:
    archive = SlowArchive()
    request = pb.SegmentByUidRequest(peer="orthanc", study_uid=STUDY_UID, series_uid=CT)
    with serving(house, archive=archive) as server, stub(server) as api:
        answers = api.SegmentByUid(request)
        assert next(answers).WhichOneof("part") == "accepted"
        assert archive.asked.wait(5)
        answers.cancel()
        assert archive.given_up.wait(5)
    assert house.plan() is None
    assert not any(upload.closed for upload in house.spool.uploads())


@contextmanager
def mute_pacs() -> Iterator[tuple[int, threading.Event, threading.Event]]:
    """A PACS that answers no question: its port, when it was asked, when it was left."""
    asked, left, end = (threading.Event() for _ in range(3))

    def never(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        asked.set()
        end.wait(60)
        yield 0x0000, None

    ae = AE("ORTHANC")
    for uid in (FIND, MOVE):
        ae.add_supported_context(uid)
    handlers = [(kind, never) for kind in (evt.EVT_C_FIND, evt.EVT_C_MOVE)]
    leaving = [(kind, lambda _: left.set()) for kind in (evt.EVT_ABORTED, evt.EVT_CONN_CLOSE)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[*handlers, *leaving])
    assert server is not None
    try:
        yield server.server_address[1], asked, left
    finally:
        end.set()
        server.shutdown()


def test_a_client_that_goes_while_the_pacs_is_silent_keeps_no_stream(house: House) -> None:
    request = pb.SegmentByUidRequest(peer="orthanc", study_uid=STUDY_UID, series_uid=CT)
    with mute_pacs() as (port, asked, left):
        archive = PacsArchive(settings(pacs_peer(port)))
        with serving(house, archive=archive, max_streams=1) as server, stub(server) as api:
            answers = api.SegmentByUid(request)
            assert asked.wait(10)
            assert refusal_of(lambda: api.SegmentByUid(request))[1] == "TooManyCalls"
            answers.cancel()
            assert left.wait(5)
            asked.clear()
            for _ in range(100):
                again = api.SegmentByUid(request)
                if asked.wait(0.1):
                    break
            assert asked.is_set()
            again.cancel()


@pytest.mark.parametrize("question", ["count", "fetch"])
def test_a_question_that_nobody_waits_for_ends_and_leaves_no_thread(question: str) -> None:
    before = set(threading.enumerate())
    with mute_pacs() as (port, asked, _):
        ask = getattr(PacsArchive(settings(pacs_peer(port))), question)
        began = time.monotonic()
        with pytest.raises(PeerUnreachable):
            ask("orthanc", STUDY_UID, CT, lambda: not asked.is_set())
        assert time.monotonic() - began < 5
    peers.wait_for(lambda: set(threading.enumerate()) <= before, 5, "the association's threads end")


def test_a_pacs_that_never_answers_is_waited_for_a_minute_and_not_for_a_transfers_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert pull.FIND_S <= 60
    monkeypatch.setattr(pull, "FIND_S", 0.5)
    with mute_pacs() as (port, _, _):
        began = time.monotonic()
        with pytest.raises(PeerUnreachable, match="orthanc"):
            PacsArchive(settings(pacs_peer(port))).count("orthanc", STUDY_UID, CT, lambda: True)
        assert time.monotonic() - began < 5


def keep(house: House, count: int = 3) -> tuple[Arrival, ...]:
    """Store slices as if the PACS had pushed them."""
    stored = [
        house.spool.put(origin=Origin.DICOM, principal="orthanc", part10=as_file(ds))
        for ds in slices(count)
    ]
    arrivals = tuple(one.arrival for one in stored)
    house.store.record_arrivals(arrivals)
    return arrivals


@pytest.mark.parametrize(("host", "refused"), [("", NOT_FOUND), ("127.0.0.1", UNREACHABLE)])
def test_a_pacs_that_cannot_be_asked_is_not_needed_for_what_came_completely(
    house: House, host: str, refused: object
) -> None:
    known = pacs_peer(peers.free_port(), host=host)
    arrivals = keep(house)
    request = pb.SegmentByUidRequest(peer="orthanc", study_uid=STUDY_UID, series_uid=CT)
    other = pb.SegmentByUidRequest(peer="orthanc", study_uid="1.2.9", series_uid=CT)
    with serving(house, archive=PacsArchive(settings(known))) as server, stub(server) as api:
        # It may still be on its way.
        assert refusal_of(lambda: api.SegmentByUid(request)) == refused
        assert house.plan() is not None
        assert refusal_of(lambda: api.SegmentByUid(other)) == refused
        with house.working():
            answers = list(api.SegmentByUid(request))
    assert answers[-1].finished.frames == 3
    # Retention of the PACS series takes nothing from the call.
    house.spool.remove([one.path for one in arrivals])
    (upload,) = (u for u in house.spool.uploads() if u.closed)
    links = house.store.get_submission(upload.upload).paths
    assert len(links) == 3
    assert all(path.is_file() for path in links)


@dataclass
class Counting(SlowArchive):
    """Counts `there` instances and sends at once what `sent` puts into the spool."""

    there: int
    sent: Callable[[], object]

    def count(
        self, peer: str, study_uid: str, series_uid: str, is_wanted: Callable[[], bool]
    ) -> int | None:
        return self.there

    def fetch(
        self, peer: str, study_uid: str, series_uid: str, is_wanted: Callable[[], bool]
    ) -> int:
        self.sent()
        return self.there


def nothing_came_of(house: House, archive: Counting) -> object:
    """Ask for the series; return the refusal."""
    request = pb.SegmentByUidRequest(peer="orthanc", study_uid=STUDY_UID, series_uid=CT)
    with serving(house, archive=archive) as server, stub(server) as api, house.working():
        refused = refusal_of(lambda: api.SegmentByUid(request))
    assert "local" not in [job.principal for job in house.store.list_jobs()]
    assert not list(house.spool.root.glob("grpc/*"))
    return refused


def test_fewer_instances_than_the_pacs_counts_are_not_segmented(house: House) -> None:
    archive = Counting(there=5, sent=lambda: keep(house, 3))
    assert nothing_came_of(house, archive) == UNREACHABLE


@pytest.mark.parametrize("fault", ["gone", "damaged"])
def test_a_series_of_which_an_instance_cannot_be_taken_over_is_not_segmented(
    house: House, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(house)
    held = house.spool.held

    def spoilt(principal: str, series_uid: str) -> tuple[Path, ...]:
        """Retention takes one, or a disk spoils one, after the spool was asked."""
        paths = held(principal, series_uid)
        last = house.spool.root / paths[-1]
        last.unlink() if fault == "gone" else last.write_bytes(b"rotten")
        monkeypatch.setattr(house.spool, "held", lambda *_: paths)
        return paths

    monkeypatch.setattr(house.spool, "held", spoilt)
    archive = Counting(there=3, sent=lambda: None)
    assert nothing_came_of(house, archive) == AWAY


def test_links_are_found_again_after_a_crash(house: House) -> None:
    keep(house)
    house.spool.open_upload("u1", "local", "")
    adopted = list(house.spool.adopt(house.spool.held("orthanc", CT), "u1"))
    assert list(house.spool.adopt(house.spool.held("orthanc", CT), "u1")) == adopted
    assert {one.principal for one in adopted} == {"local"}
    found = list(house.spool.scan(house.store.known_paths()))
    assert sorted(found, key=lambda one: one.path) == adopted
    assert adopted[0].arrived_at <= now()

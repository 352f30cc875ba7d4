"""Storage commitment: what counts as delivered where the PACS says that it keeps things.

Orthanc is the judge of what a PACS does; a small provider shows what Orthanc does not do: refusals,
reports on the association that asked, silence, and reports that nobody asked for.
"""

import random
import signal
import subprocess
import sys
import threading
import time as clock
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.sop_class import (
    ComprehensiveSRStorage,
    CTImageStorage,
    SegmentationStorage,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

import peers
import small_deliverer
import store_rows as rows
from receive_support import FakeStore, Receiver, receiver
from sendable import committed_job
from store_rows import PACS
from viscera.config import DeliverSettings, Destination, Peer
from viscera.deliver import DeliverLoop, asking
from viscera.domain.jobs import Address, Delivery, DeliveryState, Job
from viscera.domain.results import ResultKind
from viscera.jobs.reports import ReportFiles
from viscera.jobs.store import SqlJobStore
from viscera.jobs.text import describe_delivery
from viscera.metrics import Metrics

DELIVERED, AWAITING = DeliveryState.DELIVERED, DeliveryState.AWAITING_COMMITMENT
MOST_S = 30.0
REPORTER = Peer(name="pacs", ae_title="PACS", networks=("127.0.0.0/8",))


@dataclass
class Site:
    """A store, its files, and a deliverer for one destination."""

    store: SqlJobStore
    folder: Path
    metrics: Metrics

    @property
    def files(self) -> ReportFiles:
        return ReportFiles(self.folder)

    def job(self, number: int = 0) -> Job:
        return committed_job(self.store, self.folder / "results", PACS, number=number)

    def states(self, job: Job) -> list[DeliveryState]:
        return [one.state for one in self.store.deliveries(job.id)]

    def until(self, job: Job, *states: DeliveryState) -> tuple[Delivery, ...]:
        wanted = list(states) * (2 // len(states))
        peers.wait_for(lambda: self.states(job) == wanted, MOST_S, f"{wanted}")
        return self.store.deliveries(job.id)

    def commitments(self, outcome: str) -> float:
        return _sample(self.metrics, "viscera_commitments_total", outcome=outcome)

    @contextmanager
    def delivering(self, port: int, **settings: object) -> Iterator[None]:
        given = {"port": port, "timeout_s": 10, "commitment": "offered", **settings}
        pacs = Destination(name="pacs", kind="dicom", host="127.0.0.1", **given)
        loop = DeliverLoop(
            self.store,
            DeliverSettings(destinations=(pacs,), backoff_s=0.2, backoff_max_s=1.0),
            self.folder / "results",
            transactions=self.files,
            metrics=self.metrics,
            clock=rows.now,
            owner=f"deliverer {uuid4()}",
            lease_s=30,
        )
        stop = threading.Event()
        thread = threading.Thread(target=loop.run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(asking, "_SAME_ASSOCIATION_S", 0.3)
    store = rows.open_store(
        f"sqlite:///{tmp_path}/viscera.db", tmp_path, closing=lambda closing: closing.arrivals[0]
    )
    store.migrate()
    yield Site(store, tmp_path, Metrics(CollectorRegistry()))
    store.close()


@pytest.fixture
def listener(site: Site) -> Iterator[Receiver]:
    """Its rows go nowhere: a report must not need the job store."""
    store = FakeStore()
    store.down = True
    with receiver(site.folder, store=store, reports=site.files, peers=(REPORTER,)) as running:
        yield running


def _sample(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0


@dataclass(frozen=True)
class Asked:
    """One N-ACTION that a provider got."""

    transaction_uid: str
    sop_class_uid: str
    sop_uid: str

    def report(self, failure: int | None = None) -> Dataset:
        item = Dataset()
        item.ReferencedSOPClassUID = self.sop_class_uid
        item.ReferencedSOPInstanceUID = self.sop_uid
        report = Dataset()
        report.TransactionUID = self.transaction_uid
        if failure is None:
            report.ReferencedSOPSequence = [item]
        else:
            item.FailureReason = failure
            report.FailedSOPSequence = [item]
        return report


@dataclass
class Provider:
    """A PACS: keeps what it gets, and does with a request what `on_request` says."""

    port: int = 0
    stored: list[str] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    action_status: int = 0x0000


@contextmanager
def provider(
    on_request: Callable[[Asked, evt.Event], None] = lambda asked, event: None,
    *,
    on_store: Callable[[str], None] = lambda sop_uid: None,
    commits: bool = True,
    action_status: int = 0x0000,
) -> Iterator[Provider]:
    pacs = Provider(action_status=action_status)

    def store(event: evt.Event) -> int:
        pacs.stored.append(str(event.request.AffectedSOPInstanceUID))
        on_store(pacs.stored[-1])
        return 0x0000

    def act(event: evt.Event) -> tuple[int, None]:
        information = event.action_information
        (item,) = information.ReferencedSOPSequence
        assert event.request.RequestedSOPInstanceUID == StorageCommitmentPushModelInstance
        asked = Asked(
            str(information.TransactionUID),
            str(item.ReferencedSOPClassUID),
            str(item.ReferencedSOPInstanceUID),
        )
        pacs.asked.append(asked)
        if not pacs.action_status:
            on_request(asked, event)
        return pacs.action_status, None

    ae = AE()
    for sop_class in (SegmentationStorage, ComprehensiveSRStorage):
        ae.add_supported_context(sop_class)
    if commits:
        ae.add_supported_context(StorageCommitmentPushModel)
    handlers = [(evt.EVT_C_STORE, store), (evt.EVT_N_ACTION, act)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    pacs.port = server.server_address[1]
    try:
        yield pacs
    finally:
        server.shutdown()


def report_to(port: int, report: Dataset, event_type: int = 1, calling: str = "PACS") -> int:
    """Report on an association of the PACS's own; return the status, -1 where it is turned away."""
    ae = AE(ae_title=calling)
    ae.add_requested_context(StorageCommitmentPushModel)
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    assoc = ae.associate("127.0.0.1", port, ae_title="VISCERA", ext_neg=[role])
    if not assoc.is_established:
        return -1
    try:
        (context,) = assoc.accepted_contexts
        assert (context.as_scu, context.as_scp) == (False, True)
        status, _ = assoc.send_n_event_report(
            report, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        return int(status.Status)
    finally:
        assoc.release()


def later(act: Callable[[], object]) -> None:
    threading.Timer(0.1, act).start()


# --- a PACS that is one


@pytest.mark.e2e
def test_orthanc_commits_and_only_then_it_is_delivered(site: Site, tmp_path: Path) -> None:
    orthanc_peer = Peer(name="orthanc", ae_title="ORTHANC", networks=("127.0.0.0/8",))
    with receiver(site.folder, reports=site.files, peers=(orthanc_peer,)) as listener:
        knows = peers.reports_to(listener.listener.port)
        with peers.orthanc(tmp_path / "orthanc", **knows) as pacs:
            job = site.job()
            with site.delivering(pacs.dicom_port, ae_title="ORTHANC", commitment="required"):
                found = site.until(job, DELIVERED)
            held = {i["MainDicomTags"]["SOPInstanceUID"] for i in pacs.get("/instances?expand")}
            assert held == {one.file.sop_uid for one in found}
    assert (site.commitments("asked"), site.commitments("committed")) == (2, 2)
    assert _sample(site.metrics, "viscera_deliveries_total", outcome="delivered") == 2
    assert _sample(site.metrics, "viscera_stage_seconds_count", stage="deliver", engine="") == 1
    assert [one.requests for one in found] == [0, 0]


@pytest.mark.e2e
def test_what_orthanc_lost_is_sent_again(site: Site, tmp_path: Path) -> None:
    """Asked about an object that is gone, Orthanc reports a failure; the object goes there anew."""
    orthanc_peer = Peer(name="orthanc", ae_title="ORTHANC", networks=("127.0.0.0/8",))
    with receiver(site.folder, reports=site.files, peers=(orthanc_peer,)) as listener:
        knows = peers.reports_to(listener.listener.port)
        with peers.orthanc(tmp_path / "orthanc", **knows) as pacs:
            job = site.job()
            for _ in range(2):  # as if it had been stored: only the commitment is missing
                claimed = site.store.claim_delivery("d")
                assert claimed is not None
                soon = rows.now() + timedelta(seconds=0.5)
                site.store.deliver_later(claimed[0], soon, "", stored=True)
            assert site.states(job) == [DeliveryState.SENT] * 2
            with site.delivering(pacs.dicom_port, ae_title="ORTHANC"):
                found = site.until(job, DELIVERED)
            held = {i["MainDicomTags"]["SOPInstanceUID"] for i in pacs.get("/instances?expand")}
            assert held == {one.file.sop_uid for one in found}
    assert (site.commitments("not_committed"), site.commitments("committed")) == (2, 2)


# --- what else a PACS may do


def test_nothing_is_delivered_before_the_report_and_the_report_of_organs_does_not_wait(
    site: Site, listener: Receiver
) -> None:
    job = site.job()
    with provider() as pacs, site.delivering(pacs.port):
        peers.wait_for(lambda: len(pacs.asked) == 2, MOST_S, "both requests")
        site.until(job, AWAITING)
        first, second = pacs.asked
        assert pacs.stored == [first.sop_uid, second.sop_uid]
        assert report_to(listener.listener.port, first.report()) == 0x0000
        site.until(job, DELIVERED, AWAITING)
        assert report_to(listener.listener.port, second.report()) == 0x0000
        found = site.until(job, DELIVERED)
        # Told twice is told once.
        assert report_to(listener.listener.port, second.report()) == 0x0000
    assert [one.attempts for one in found] == [1, 1]
    assert len(pacs.asked) == 2
    assert describe_delivery(found[0]).endswith("to pacs: delivered")


def test_a_report_on_the_association_that_asked(site: Site) -> None:
    def report(asked: Asked, event: evt.Event) -> None:
        later(lambda: statuses.append(_event_report(event.assoc, asked.report())))

    statuses: list[int] = []
    job = site.job()
    with provider(report) as pacs, site.delivering(pacs.port):
        began = clock.monotonic()
        site.until(job, DELIVERED)
        assert clock.monotonic() - began < 5
        peers.wait_for(lambda: statuses == [0x0000] * 2, 5, "both answers")
    assert len(pacs.stored) == 2


def test_a_slow_report_on_the_association_that_asked(site: Site) -> None:
    """Later than is waited for at first; where nothing came, more is waited for the next time."""

    def report(asked: Asked, event: evt.Event) -> None:
        def tell() -> None:
            if event.assoc.is_established:
                _event_report(event.assoc, asked.report())

        threading.Timer(0.5, tell).start()

    only_seg = [Address(destination="pacs", kinds=(ResultKind.SEG,))]
    job = committed_job(site.store, site.folder / "results", only_seg)
    with provider(report) as pacs, site.delivering(pacs.port, commitment_timeout_s=1.0):
        peers.wait_for(lambda: site.states(job) == [DELIVERED], MOST_S, "the report")
    assert len(pacs.stored) == 1


def _event_report(assoc: object, report: Dataset) -> int:
    status, _ = assoc.send_n_event_report(  # type: ignore[attr-defined]
        report, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    return int(status.Status)


def test_what_the_pacs_could_not_keep_is_sent_again_until_it_can(
    site: Site, listener: Receiver
) -> None:
    reasons = [0x0110, 0x0213, 0x0110]
    told: list[str] = []

    def report(asked: Asked, event: evt.Event) -> None:
        failure = reasons.pop(0) if reasons else None
        event_type = 1 if failure is None else 2
        later(lambda: report_to(listener.listener.port, asked.report(failure), event_type))

    def watch() -> bool:
        told.extend(one.last_error for one in site.store.deliveries(job.id))
        return site.states(job) == [DELIVERED] * 2

    job = site.job()
    with provider(report) as pacs, site.delivering(pacs.port):
        peers.wait_for(watch, MOST_S, "the end")
        assert len(pacs.stored) == 5
    assert "NotCommitted: the destination reported with 0x0213 on its storage; sent again" in told
    assert (site.commitments("not_committed"), site.commitments("committed")) == (3, 2)
    assert _sample(site.metrics, "viscera_deliveries_total", outcome="failed") == 0


def test_a_silent_pacs_is_asked_again_and_may_answer_any_request(
    site: Site, listener: Receiver
) -> None:
    job = site.job()
    with provider() as pacs, site.delivering(pacs.port, commitment_timeout_s=0.5):
        peers.wait_for(lambda: _asked_twice(pacs) == 2, MOST_S, "two requests for each")
        assert len({one.transaction_uid for one in pacs.asked}) == len(pacs.asked)
        assert len(pacs.stored) == 2  # asked again, not sent again
        told = [one.last_error for one in site.store.deliveries(job.id)]
        assert all("times without a report" in text for text in told)
        # Of each object it answers the oldest request.
        for asked in {one.sop_uid: one for one in reversed(pacs.asked)}.values():
            assert report_to(listener.listener.port, asked.report()) == 0x0000
        site.until(job, DELIVERED)
    assert site.commitments("silent") >= 2


def _asked_twice(pacs: Provider) -> int:
    return sum(number >= 2 for number in Counter(one.sop_uid for one in pacs.asked).values())


def test_a_failure_of_an_old_request_waits_for_the_answer_to_the_new_one(
    site: Site, listener: Receiver
) -> None:
    job = site.job()
    with provider() as pacs, site.delivering(pacs.port, commitment_timeout_s=1.0):
        peers.wait_for(lambda: _asked_twice(pacs) == 2, MOST_S, "two requests for each")
        assert report_to(listener.listener.port, pacs.asked[0].report(0x0110), 2) == 0x0000
        clock.sleep(1)
        assert DeliveryState.QUEUED not in site.states(job)
    assert len(pacs.stored) == 2


def test_where_nothing_is_offered(site: Site) -> None:
    first = site.job(1)
    with provider(commits=False) as pacs:
        with site.delivering(pacs.port, commitment="offered"):
            site.until(first, DELIVERED)
        second = site.job(2)
        with site.delivering(pacs.port, commitment="required"):
            site.until(second, DeliveryState.SENT)
        assert "does not offer" in site.store.deliveries(second.id)[0].last_error
        with site.delivering(pacs.port, commitment="off"):
            site.until(second, DELIVERED)
        assert len(pacs.stored) == 4  # none was sent twice
    assert site.commitments("not_offered") >= 4


def test_a_refused_request_is_made_again(site: Site, listener: Receiver) -> None:
    job = site.job()

    def report(asked: Asked, event: evt.Event) -> None:
        later(lambda: report_to(listener.listener.port, asked.report()))

    with provider(report, action_status=0x0110) as pacs, site.delivering(pacs.port):
        peers.wait_for(lambda: site.commitments("refused") >= 2, MOST_S, "refusals")
        assert DeliveryState.SENT in site.states(job)
        errors = [one.last_error for one in site.store.deliveries(job.id)]
        assert any("N-ACTION was answered 0x0110" in error for error in errors)
        pacs.action_status = 0x0000
        site.until(job, DELIVERED)
        assert len(pacs.stored) == 2


# --- who may report, and what


def test_reports_that_nobody_asked_for_change_nothing(site: Site, listener: Receiver) -> None:
    port, count = listener.listener.port, listener.metrics.registry.get_sample_value
    job = site.job()
    with provider() as pacs, site.delivering(pacs.port):
        peers.wait_for(lambda: len(pacs.asked) == 2, MOST_S, "both requests")
        asked = pacs.asked[0]
        stranger = Asked("2.25.4711", asked.sop_class_uid, asked.sop_uid)
        assert report_to(port, stranger.report()) == 0x0115
        assert report_to(port, asked.report(), event_type=3) == 0x0113
        assert report_to(port, asked.report(), calling="STRANGER") == -1
        path = Dataset()
        path.TransactionUID = "2.25.1"
        path.PatientID = "x" * 64
        assert report_to(port, path) == 0x0115
        assert set(site.states(job)) == {AWAITING}
    outcomes = {
        outcome: count("viscera_commitments_total", {"outcome": outcome})
        for outcome in ("unknown_transaction", "invalid")
    }
    assert outcomes == {"unknown_transaction": 2, "invalid": 1}


def test_a_listener_is_no_provider_and_takes_reports_on_their_context_only(
    site: Site, listener: Receiver
) -> None:
    ae = AE(ae_title="PACS")
    ae.add_requested_context(StorageCommitmentPushModel)
    ae.add_requested_context(CTImageStorage)
    assoc = ae.associate("127.0.0.1", listener.listener.port, ae_title="VISCERA")
    try:
        asked = Asked("2.25.5", SegmentationStorage, "1.2.3")
        status, _ = assoc.send_n_action(
            asked.report(), 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        assert status.Status == 0x0110
        status, _ = assoc.send_n_event_report(
            asked.report(), 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance,
            meta_uid=CTImageStorage,
        )  # fmt: skip
        assert status.Status == 0x0118
    finally:
        assoc.release()


@pytest.mark.parametrize("information", ["nested", "large", "noise"])
def test_what_is_no_data_set_is_refused_and_the_listener_goes_on(
    site: Site, listener: Receiver, information: str
) -> None:
    """1500 sequences inside one another, two megabytes of one element, and random bytes."""
    sequence = b"\x08\0\x99\x11\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"
    hostile = {
        "nested": sequence * 1500,
        "large": b"\x08\0\x18\0" + (2 << 20).to_bytes(4, "little") + b"1" * (2 << 20),
        "noise": random.Random(1).randbytes(5000),
    }
    port = listener.listener.port
    assert report_bytes(port, hostile[information]) in (0x0110, 0x0115)
    site.files.ask("2.25.7")
    asked = Asked("2.25.7", SegmentationStorage, "1.2.3")
    assert report_to(port, asked.report()) == 0x0000
    assert [one.transaction_uid for one in site.files.waiting()] == ["2.25.7"]


def report_bytes(port: int, information: bytes) -> int:
    """Report with bytes that no library would write; return the status."""
    ae = AE(ae_title="PACS")
    ae.add_requested_context(StorageCommitmentPushModel, ImplicitVRLittleEndian)
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    assoc = ae.associate("127.0.0.1", port, ae_title="VISCERA", ext_neg=[role])
    request = N_EVENT_REPORT()
    request.MessageID, request.EventTypeID = 1, 1
    request.AffectedSOPClassUID = StorageCommitmentPushModel
    request.AffectedSOPInstanceUID = StorageCommitmentPushModelInstance
    request.EventInformation = BytesIO(information)
    assoc._reactor_checkpoint.clear()  # it would take the answer away from us
    peers.wait_for(lambda: assoc._is_paused, 5, "pause")
    assoc.dimse.send_msg(request, assoc.accepted_contexts[0].context_id)
    assoc.dimse_timeout = 10
    _, answer = assoc.dimse.get_msg(block=True)
    assoc._reactor_checkpoint.set()
    assoc.release()
    return int(answer.Status)


# --- kills


@dataclass
class Killer:
    """Kills a deliverer while the PACS works for it: before it hears that anything was done."""

    moments: list[tuple[str, int]]
    """For each deliverer: what the PACS does, and the how-manieth time."""
    struck: list[str] = field(default_factory=list)
    """The object of each kill."""
    victim: subprocess.Popen[bytes] | None = None
    _seen: int = 0

    def watch(self, does: str, sop_uid: str) -> bool:
        """Kill if this is the moment; return whether it was."""
        if self.victim is None or not self.moments or self.moments[0][0] != does:
            return False
        self._seen += 1
        if self._seen < self.moments[0][1]:
            return False
        self.victim.kill()
        self.victim.wait()
        self.victim, self._seen = None, 0
        self.moments.pop(0)
        self.struck.append(sop_uid)
        return True


@pytest.mark.kill
def test_killed_deliverers_lose_no_commitment(site: Site, listener: Receiver) -> None:
    """Killed while it stores and while it asks; what the PACS was asked then, it may forget."""
    moments = [("stores", 1), ("answers", 1), ("stores", 2), ("answers", 2), ("stores", 3)]
    killer = Killer(moments[:])
    jobs = [site.job(number) for number in range(4)]
    forgets = [False, True]

    def report(asked: Asked, event: evt.Event) -> None:
        if killer.watch("answers", asked.sop_uid) and forgets.pop(0):
            return
        later(lambda: answers.append(report_to(listener.listener.port, asked.report())))

    def all_ended() -> bool:
        return all(set(site.states(job)) == {DELIVERED} for job in jobs)

    answers: list[int] = []
    with provider(report, on_store=lambda sop_uid: killer.watch("stores", sop_uid)) as pacs:
        url, results = f"sqlite:///{site.folder}/viscera.db", str(site.folder / "results")
        command = [sys.executable, small_deliverer.__file__, url, results, str(pacs.port)]
        command.append("required")
        for _ in moments:
            victim = killer.victim = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            assert victim.wait(60) == -signal.SIGKILL
        last = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        peers.wait_for(all_ended, 60, "the end of all deliveries")
        last.kill()
        last.wait()
        clock.sleep(0.3)
    expected = {f.sop_uid for job in jobs for f in job.results if f.sop_uid}
    stored, asked = Counter(pacs.stored), Counter(one.sop_uid for one in pacs.asked)
    assert set(stored) == expected == set(asked)
    for (does, _), sop_uid in zip(moments, killer.struck, strict=True):
        assert does != "stores" or stored[sop_uid] > 1
    assert asked[killer.struck[3]] > 1
    assert set(answers) == {0x0000}

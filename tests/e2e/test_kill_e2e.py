"""SIGKILL from outside, at named points and at random times; nothing acknowledged is lost.

The PACS here keeps its own log of what was answered 0x0000, by digest of the bytes it sent; it is
compared with the spool. Orthanc's REST interface says what arrived at the destination.
"""

import contextlib
import hashlib
import itertools
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pynetdicom
import pytest
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

import band
import peers
import synthetic
from viscera.config import load_settings
from viscera.domain.jobs import Delivery, DeliveryState, Job, JobState
from viscera.domain.results import ResultKind
from viscera.roles.parts import open_store

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.kill,
    pytest.mark.timeout(900),
]

SLICES = 10
PATIENCE_S = 15.0
QUIET_S = 3.0
MOST_UNFINISHED = 5
"""Series that a PACS has sent and has no result of, before it waits."""
SEED = 20261121


class Site:
    """`viscera serve` as systemd would keep it: started again when the supervisor is gone."""

    def __init__(self, folder: Path, orthanc_port: int) -> None:
        self.folder = folder
        self.port = peers.free_port()
        band.write_band_package(folder / "models", patch=(8, 32, 32))
        self.config = peers.write_config(
            folder,
            model_repo=folder / "models",
            model="band",
            destinations=[peers.dicom_destination("orthanc", orthanc_port)],
            quiet_s=QUIET_S,
            dicom_port=self.port,
            max_attempts=20,
            extra="[decode]\nprocesses = 1\n",
        )
        # Else the pauses that kills make would stretch the silence that closes a series.
        longest = f"[series]\nquiet_max_s = {2 * QUIET_S}\n"
        self.config.write_text(self.config.read_text().replace("[series]\n", longest))
        self.running: peers.Service | None = None
        self._reader: threading.Thread | None = None
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "viscera", "--config", str(self.config), "serve"]
        process = subprocess.Popen(
            command, cwd=self.folder, env=peers.ENVIRONMENT, stderr=subprocess.PIPE
        )
        self.running = peers.Service(process)
        self._reader = threading.Thread(
            target=peers.read_log, args=(self.running, self.folder / "log.txt"), daemon=True
        )
        self._reader.start()

    def keep(self) -> None:
        """Start the supervisor again if it is gone."""
        if self.running.process.poll() is not None:
            self._reader.join(30)
            self.running.process.stderr.close()
            self.start()

    def role_pids(self) -> dict[str, list[int]]:
        """Return the newest processes of each role: several may listen."""
        newest: dict[str, dict[int | None, int]] = {}
        for line in list(self.running.log):
            if line.get("event") == "role_started":
                newest.setdefault(line["started"], {})[line["number"]] = line["child_pid"]
        return {role: list(pids.values()) for role, pids in newest.items()}

    def kill(self, target: str) -> int:
        """SIGKILL a role, the supervisor, or everything at once; return how many died of it."""
        children = self.role_pids()
        if target not in ("supervisor", "all"):
            return sum(map(self.running.kill_child, children.get(target, ())))
        self.running.process.kill()
        others = itertools.chain(*children.values()) if target == "all" else ()
        died = 1 + sum(map(self.running.kill_child, others))
        self.running.process.wait(10)
        self.keep()
        return died

    def seen(self, event: str, **facts: str) -> int:
        return sum(
            line.get("event") == event and all(line.get(k) == v for k, v in facts.items())
            for line in list(self.running.log)
        )

    def wait_a_while(self, event: str, most_s: float) -> None:
        """Wait for the log to say `event` once more, or for `most_s`."""
        before, deadline = self.seen(event), time.monotonic() + most_s
        while self.seen(event) <= before and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self) -> None:
        self.running.stop()
        self._reader.join(30)
        self.running.process.stderr.close()


class Pacs:
    """Sends series, each instance until it is answered 0x0000, and keeps a log of that."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.acknowledged: dict[str, str] = {}
        self.series: dict[str, int] = {}

    def push(self, seed: int, slices: int = SLICES) -> str:
        stored = (synthetic.body((slices, 32, 32), seed=seed) + 1024).astype(np.uint16)
        s = synthetic.Slices(stored=stored)
        todo = [synthetic.dataset_of(s, k) for k in range(slices)]
        self.series[s.series_uid] = slices
        ae = pynetdicom.AE("PACS")
        ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
        deadline = time.monotonic() + 120
        while todo:
            assert time.monotonic() < deadline, "the receiver does not come back"
            association = ae.associate("127.0.0.1", self.port, ae_title="VISCERA")
            if not association.is_established:
                time.sleep(0.1)
                continue
            while todo and association.is_established:
                status = association.send_c_store(todo[0])
                if "Status" not in status or status.Status != 0x0000:
                    break
                ds = todo.pop(0)
                self.acknowledged[ds.SOPInstanceUID] = digest(encoded(ds))
            with contextlib.suppress(Exception):
                association.release()
        return s.series_uid


def encoded(ds) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    copy = ds.copy()
    del copy.file_meta
    write_dataset(buffer, copy)
    return buffer.getvalue()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def spooled(folder: Path) -> Counter:
    """Return the digests of all data sets in the spool, read without Viscera's code."""
    digests: Counter = Counter()
    for path in folder.rglob("*.dcm"):
        raw = path.read_bytes()
        assert raw[128:132] == b"DICM"
        meta_length = int.from_bytes(raw[140:144], "little")
        digests[digest(raw[144 + meta_length :])] += 1
    return digests


Done = list[tuple[Job, Sequence[Delivery]]]


def assert_nothing_lost(site: Site, pacs: Pacs, orthanc: peers.Orthanc) -> Done:
    """Wait until all is delivered, and compare; return the jobs with their deliveries."""
    settings = load_settings(site.config)
    store = open_store(settings)
    try:
        peers.wait_for(lambda: settled(store, pacs), 240, "every series done and delivered", 1.0)
        jobs = store.list_jobs(limit=10_000)
        done, superseded = (
            [job for job in jobs if job.state is state]
            for state in (JobState.DONE, JobState.SUPERSEDED)
        )
        delivered = [(job, store.deliveries(job.id)) for job in done]
    finally:
        store.close()
    digests = spooled(settings.spool.folder)
    assert set(pacs.acknowledged.values()) <= set(digests)
    assert max(digests.values()) == 1
    for kind, modality in ((ResultKind.SEG, "SEG"), (ResultKind.SR, "SR")):
        committed, outdated = sop_uids(done, kind), sop_uids(superseded, kind)
        assert max((committed + outdated).values()) == 1
        arrived = Counter(
            orthanc.get(f"/instances/{i}")["MainDicomTags"]["SOPInstanceUID"]
            for i in orthanc.instances_of(modality)
        )
        # Of a version that a later one overtook, one object may have left before.
        assert committed <= arrived <= committed + outdated
    for series_uid, slices in pacs.series.items():
        newest = max(
            (job for job in done if job.series_uid == series_uid),
            key=lambda job: job.submission_version,
        )
        assert len(newest.stacks[0]) == slices
    assert not list(Path(settings.spool.folder).rglob("*.part"))
    return delivered


def sop_uids(jobs: Sequence[Job], kind: ResultKind) -> Counter:
    return Counter(f.sop_uid for job in jobs for f in job.results if f.kind is kind)


def settled(store, pacs: Pacs) -> bool:
    jobs = store.list_jobs(limit=10_000)
    newest = {}
    for job in jobs:
        if not job.state.is_final:
            return False
        known = newest.get(job.series_uid)
        if known is None or job.submission_version > known.submission_version:
            newest[job.series_uid] = job
    if any(len(newest[u].stacks[0]) != n if u in newest else True for u, n in pacs.series.items()):
        return False
    return all(
        delivery.state is DeliveryState.DELIVERED
        for job in jobs
        if job.state is JobState.DONE
        for delivery in store.deliveries(job.id)
    )


@pytest.fixture
def site(tmp_path):
    with peers.orthanc(tmp_path / "orthanc") as orthanc:
        site = Site(tmp_path, orthanc.dicom_port)
        site.orthanc = orthanc
        try:
            site.running.wait_event("serve_ready", 120)
            yield site
        finally:
            site.stop()


POINTS = [
    ("work", "submission_settled", {}),
    ("supervisor", "job_stage", {"stage": "segment"}),
    ("work", "job_claimed", {}),
    ("supervisor", "delivery_sent", {"kind": "seg"}),
    ("work", "job_stage", {"stage": "decode"}),
    ("all", "association_accepted", {}),
    ("work", "job_stage", {"stage": "segment"}),
    ("all", "results_written", {}),
    ("work", "job_stage", {"stage": "encode"}),
    ("all", "job_committed", {}),
    ("work", "results_written", {}),
    ("all", "delivery_claimed", {"kind": "sr"}),
    ("work", "job_committed", {}),
    ("deliver", "delivery_claimed", {"kind": "seg"}),
    ("deliver", "delivery_sent", {"kind": "seg"}),
    ("deliver", "delivery_claimed", {"kind": "sr"}),
    ("receive", "association_accepted", {}),
]
"""A role that dies again and again is started later each time; a new supervisor forgets that."""


def test_killed_at_named_points(site):
    """Each point once: push a series, wait for the log line, kill."""
    pacs = Pacs(site.port)
    for number, (target, event, facts) in enumerate(POINTS):
        before = site.seen(event, **facts)
        pusher = threading.Thread(target=pacs.push, args=(number,))
        pusher.start()
        peers.wait_for(
            lambda e=event, f=facts, b=before: site.seen(e, **f) > b, 90, f"{event} {facts}", 0.001
        )
        assert site.kill(target) > 0
        pusher.join(150)
        assert not pusher.is_alive()
    site.keep()
    assert_nothing_lost(site, pacs, site.orthanc)


class Pushing:
    """A PACS that sends a few series and falls silent for long enough that they close."""

    def __init__(self, site: Site, pacs: Pacs) -> None:
        self._pacs, self._enough = pacs, threading.Event()
        self._store = open_store(load_settings(site.config))
        self._failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            seeds = itertools.count(1000)
            while not self._enough.is_set():
                for _ in range(MOST_UNFINISHED - self._unfinished()):
                    self._pacs.push(next(seeds))
                self._enough.wait(QUIET_S + 1.5)
        except BaseException as error:
            self._failures.append(error)

    def _unfinished(self) -> int:
        jobs = self._store.list_jobs(limit=10_000)
        done = {job.series_uid for job in jobs if job.state is JobState.DONE}
        return len(self._pacs.series.keys() - done)

    def end(self) -> None:
        self._enough.set()
        self._thread.join(150)
        self._store.close()
        assert not self._failures
        assert not self._thread.is_alive()


AT_WORK = {
    "receive": ("association_accepted", 0.3),
    "work": ("job_claimed", 0.3),
    "deliver": ("delivery_claimed", 0.05),
    "supervisor": ("job_claimed", 0.3),
    "all": ("job_claimed", 0.3),
}
"""By target: what shows that it has something in hand, and for how many seconds it may."""
AMID_WORK = Counter(receive=2, work=8, deliver=6, supervisor=4, all=4)
AT_ANY_TIME = Counter(receive=2, work=2, deliver=2, supervisor=1, all=1)
"""Most of these meet programs that have just been started."""


def test_killed_at_random_times(site):
    """Kills in seeded order at random times while series keep coming, most of them amid work."""
    chance = random.Random(SEED)
    kills = [(target, True) for target in AMID_WORK.elements()]
    kills += [(target, False) for target in AT_ANY_TIME.elements()]
    chance.shuffle(kills)
    pacs = Pacs(site.port)
    pushing = Pushing(site, pacs)
    try:
        for target, amid_work in kills:
            event, lasts_s = AT_WORK[target]
            if amid_work:
                site.wait_a_while(event, PATIENCE_S)
            time.sleep(chance.uniform(0.0, lasts_s if amid_work else 3.0))
            site.kill(target)
            site.keep()
    finally:
        pushing.end()
    done = assert_nothing_lost(site, pacs, site.orthanc)
    assert len(pacs.series) > 5
    # Else the kills met nothing, and the test shows nothing.
    assert sum(job.attempts - 1 for job, _ in done) >= 5
    assert any(delivery.attempts > 1 for _, deliveries in done for delivery in deliveries)

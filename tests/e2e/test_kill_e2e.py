"""SIGKILL from outside, at named points and at random times; nothing acknowledged is lost.

The PACS here keeps its own log of what was answered 0x0000, by digest of the bytes it sent; it is
compared with the spool. Orthanc's REST interface says what arrived at the destination.
"""

import contextlib
import hashlib
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
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
from viscera.domain.jobs import DeliveryState, JobState
from viscera.domain.results import ResultKind
from viscera.roles.parts import open_store

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.kill,
    pytest.mark.timeout(900),
]

SLICES = 10
RANDOM_KILLS = 50
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
            quiet_s=3.0,
            dicom_port=self.port,
            max_attempts=20,
            extra="[decode]\nprocesses = 1\n",
        )
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

    def kill(self, target: str) -> None:
        """SIGKILL a role, the supervisor, or everything at once."""
        if target not in ("supervisor", "all"):
            peers.wait_for(lambda: target in self.role_pids(), 30, f"a process of {target}")
        pids = self.role_pids()
        chosen = {
            "supervisor": [self.running.process.pid],
            "all": [self.running.process.pid, *itertools.chain(*pids.values())],
        }.get(target) or pids[target]
        for pid in chosen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if target in ("supervisor", "all"):
            self.running.process.wait(10)
            self.keep()

    def seen(self, event: str, **facts: str) -> int:
        return sum(
            line.get("event") == event and all(line.get(k) == v for k, v in facts.items())
            for line in list(self.running.log)
        )

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


def assert_nothing_lost(site: Site, pacs: Pacs, orthanc: peers.Orthanc) -> None:
    settings = load_settings(site.config)
    store = open_store(settings)
    try:
        peers.wait_for(lambda: settled(store, pacs), 240, "every series done and delivered", 1.0)
        done = [job for job in store.list_jobs(limit=10_000) if job.state is JobState.DONE]
    finally:
        store.close()
    digests = spooled(settings.spool.folder)
    assert set(pacs.acknowledged.values()) <= set(digests)
    assert max(digests.values()) == 1
    for kind, modality in ((ResultKind.SEG, "SEG"), (ResultKind.SR, "SR")):
        committed = Counter(f.sop_uid for job in done for f in job.results if f.kind is kind)
        assert max(committed.values()) == 1
        arrived = Counter(
            orthanc.get(f"/instances/{i}")["MainDicomTags"]["SOPInstanceUID"]
            for i in orthanc.instances_of(modality)
        )
        assert arrived == committed
    for series_uid, slices in pacs.series.items():
        newest = max(
            (job for job in done if job.series_uid == series_uid),
            key=lambda job: job.submission_version,
        )
        assert len(newest.stacks[0]) == slices
    assert not list(Path(settings.spool.folder).rglob("*.part"))


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
    ("receive", "association_accepted", {}),
    ("work", "submission_settled", {}),
    ("work", "job_claimed", {}),
    ("work", "job_stage", {"stage": "decode"}),
    ("work", "job_stage", {"stage": "segment"}),
    ("work", "job_stage", {"stage": "encode"}),
    ("work", "results_written", {}),
    ("work", "job_committed", {}),
    ("deliver", "delivery_claimed", {"kind": "seg"}),
    ("deliver", "delivery_sent", {"kind": "seg"}),
    ("deliver", "delivery_claimed", {"kind": "sr"}),
    ("supervisor", "job_stage", {"stage": "segment"}),
    ("supervisor", "delivery_sent", {"kind": "seg"}),
    ("all", "association_accepted", {}),
    ("all", "results_written", {}),
    ("all", "job_committed", {}),
    ("all", "delivery_claimed", {"kind": "sr"}),
]


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
        site.kill(target)
        pusher.join(150)
        assert not pusher.is_alive()
    site.keep()
    assert_nothing_lost(site, pacs, site.orthanc)


def test_killed_at_random_times(site):
    """Fifty kills at seeded random times while series keep coming."""
    chance = random.Random(SEED)
    pacs, enough = Pacs(site.port), threading.Event()
    failures: list[BaseException] = []

    def keep_pushing() -> None:
        try:
            for seed in range(10_000):
                if enough.is_set():
                    return
                pacs.push(1000 + seed)
        except BaseException as error:
            failures.append(error)

    pusher = threading.Thread(target=keep_pushing)
    pusher.start()
    for _ in range(RANDOM_KILLS):
        time.sleep(chance.uniform(0.2, 5.0))
        site.kill(chance.choice(["receive", "work", "deliver", "work", "supervisor", "all"]))
        site.keep()
    enough.set()
    pusher.join(150)
    assert not failures
    assert not pusher.is_alive()
    assert len(pacs.series) > 5
    assert_nothing_lost(site, pacs, site.orthanc)

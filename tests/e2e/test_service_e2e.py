"""A PACS, a gRPC client and an operator at one running service, with Orthanc as destination."""

import re
import sqlite3
import subprocess
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
import pydicom
import pytest

import band
import judges
import peers
import synthetic
from viscera.api import client
from viscera.api.v1 import viscera_pb2 as pb
from viscera.config import load_settings
from viscera.domain.jobs import DeliveryState
from viscera.metrics import STAGES
from viscera.roles.parts import open_store

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    band.write_band_package(folder / "models", patch=(16, 64, 64), step=1.0)
    ours = peers.free_port()
    with peers.orthanc(folder / "orthanc", **peers.reports_to(ours)) as orthanc:
        destination = peers.dicom_destination("orthanc", orthanc.dicom_port, commitment="required")
        config = peers.write_config(
            folder,
            model_repo=folder / "models",
            model="band",
            destinations=[destination],
            quiet_s=2.0,
            peers=("PACS", "ORTHANC"),
            dicom_port=ours,
            extra="[decode]\nprocesses = 1\n",
        )
        named = 'name = "pacs"\n'
        text = config.read_text().replace(named, f'{named}grpc_principals = ["local"]\n')
        config.write_text(text)
        with peers.service(config, folder=folder) as service:
            service.orthanc, service.folder = orthanc, folder
            service.store = open_store(load_settings(config))
            yield service
            service.store.close()


@pytest.fixture
def site(running):
    """The service with nothing left to do of the test before, and what it had done until now."""
    peers.wait_for(lambda: all_delivered(running.store), 120, "the end of what was before")
    running.held_before = {m: set(running.orthanc.instances_of(m)) for m in ("SEG", "SR")}
    running.counts_before = counts(running.metrics())
    return running


def all_delivered(store) -> bool:
    jobs = store.list_jobs(limit=1000)
    return all(job.state.is_final for job in jobs) and all(
        delivery.state is DeliveryState.DELIVERED
        for job in jobs
        for delivery in store.deliveries(job.id)
    )


def arrived(service, modality: str, scratch: Path) -> Path:
    """Return Orthanc's one new instance of a modality as a file."""
    before = service.held_before[modality]
    found = peers.wait_for(
        lambda: set(service.orthanc.instances_of(modality)) - before, 120, f"{modality} in Orthanc"
    )
    assert len(found) == 1
    path = scratch / f"{modality}.dcm"
    path.write_bytes(service.orthanc.file(found.pop()))
    return path


def by_grpc(service, paths: list[Path], scratch: Path) -> Path:
    """Send the files by SegmentSeries; return the SEG that came back on the stream."""
    scratch.mkdir()
    with grpc.insecure_channel(f"127.0.0.1:{service.ports['grpc_port']}") as channel:
        answers = list(client.segment_files(channel, paths))
    chunks = [a.chunk for a in answers if a.WhichOneof("part") == "chunk"]
    client.save_results(iter(chunks), scratch)
    kinds = [a.WhichOneof("part") for a in answers]
    assert kinds[0] == "accepted"
    assert kinds[-1] == "finished"
    assert "progress" in kinds
    segs = [p for p in scratch.rglob("*.dcm") if pydicom.dcmread(p).Modality == "SEG"]
    assert len(segs) == 1
    return segs[0]


def test_storescu_pushes_and_orthanc_holds_seg_and_sr_and_grpc_agrees(site, shared_data, tmp_path):
    paths = sorted((shared_data / "series" / "ge_abdomen_35x5mm").iterdir())
    sent = peers.storescu(site.ports["dicom_port"], *paths)
    assert sent.returncode == 0, sent.stderr
    seg, sr = (arrived(site, modality, tmp_path) for modality in ("SEG", "SR"))
    assert judges.dciodvfy_errors(seg) == []
    assert judges.dciodvfy_errors(sr) == []
    dump = subprocess.run(["/usr/bin/dsrdump", str(sr)], capture_output=True, text=True, check=True)
    assert dump.stdout.count("Volume") >= 10

    again = by_grpc(site, paths, tmp_path / "grpc")
    pushed, called = judges.highdicom_labels(seg), judges.highdicom_labels(again)
    assert judges.segment_titles(seg) == judges.segment_titles(again)
    assert pushed.keys() == called.keys()
    for uid, labels in pushed.items():
        np.testing.assert_array_equal(labels, called[uid])
    answers = called_by_uid(site, paths[0])
    assert answers[1].stored.instances == len(paths)
    assert answers[-1].finished.frames == len(paths)
    assert {chunk.info.kind for chunk in (a.chunk for a in answers)} > {pb.RESULT_KIND_SEG}


def called_by_uid(service, path: Path):
    """Return what SegmentByUid answers about a series that came from the peer `pacs`."""
    ds = pydicom.dcmread(path, stop_before_pixels=True)
    uids = (str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID))
    with grpc.insecure_channel(f"127.0.0.1:{service.ports['grpc_port']}") as channel:
        return list(client.segment_by_uid(channel, "pacs", *uids))


def counts(page: str) -> Counter[str]:
    """Return stages, whole series and commitments as they were counted, over engines."""
    found: Counter[str] = Counter()
    for line in page.splitlines():
        if line.startswith("viscera_stage_seconds_count"):
            found[re.search(r'stage="(\w+)"', line).group(1)] += int(float(line.split()[-1]))
        elif line.startswith("viscera_series_seconds_count{"):
            found["series"] += int(float(line.split()[-1]))
        elif re.match(r'viscera_commitments_total\{[^}]*outcome="committed"', line):
            found["committed"] += int(float(line.split()[-1]))
    return found


def test_one_page_counts_each_stage_once_and_outlives_the_worker(site, tmp_path):
    stored = (synthetic.body(seed=3) + 1024).astype(np.uint16)
    s = synthetic.Slices(stored=stored)
    paths = synthetic.write_series(s, tmp_path / "in")
    assert peers.storescu(site.ports["dicom_port"], *paths).returncode == 0

    def risen() -> Counter[str]:
        return counts(site.metrics()) - site.counts_before

    peers.wait_for(lambda: risen()["deliver"], 120, "the delivery", 0.3)
    assert risen() == {**dict.fromkeys(STAGES, 1), "series": 1, "committed": 2}
    page = site.metrics()
    for secret in (s.series_uid, s.patient_id, "PACS", "ORTHANC"):
        assert secret not in page
    assert promtool(page) == ""

    assert site.kill_child(site.child_pid("work"))
    peers.wait_for(lambda: 'viscera_role_up{role="work"} 0' in site.metrics(), 20, "role_up 0")
    assert promtool(site.metrics()) == ""
    peers.wait_for(lambda: 'viscera_role_up{role="work"} 1' in site.metrics(), 90, "a new worker")


def promtool(page: str) -> str:
    """Return what `promtool check metrics` objects to."""
    program = peers.need("/usr/bin/promtool")
    run = subprocess.run(
        [program, "check", "metrics"], input=page, capture_output=True, text=True, check=False
    )
    return run.stdout + run.stderr


def test_receiving_goes_on_while_the_database_is_locked(site, tmp_path):
    s = synthetic.Slices(stored=(synthetic.body(seed=4) + 1024).astype(np.uint16))
    paths = synthetic.write_series(s, tmp_path / "in")
    spool = site.folder / "spool"
    held = len(list(spool.rglob("*.dcm")))
    missed = len(site.events("index_waits_for_store"))
    holder = sqlite3.connect(site.folder / "viscera.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        sent = peers.storescu(site.ports["dicom_port"], *paths)
        assert sent.returncode == 0, sent.stderr
        assert len(list(spool.rglob("*.dcm"))) == held + len(paths)
        site.wait_event("index_waits_for_store", 60, missed + 1)
        assert set(site.orthanc.instances_of("SEG")) == site.held_before["SEG"]
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    arrived(site, "SEG", tmp_path)

"""A PACS, a gRPC client and an operator at one running service, with Orthanc as destination."""

import os
import re
import signal
import sqlite3
import subprocess
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
from viscera.metrics import STAGES

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture
def site(tmp_path):
    band.write_band_package(tmp_path / "models", patch=(16, 64, 64), step=1.0)
    ours = peers.free_port()
    with peers.orthanc(tmp_path / "orthanc", **peers.reports_to(ours)) as orthanc:
        destination = peers.dicom_destination("orthanc", orthanc.dicom_port, commitment="required")
        config = peers.write_config(
            tmp_path,
            model_repo=tmp_path / "models",
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
        with peers.service(config, folder=tmp_path) as service:
            service.orthanc = orthanc
            yield service


def arrived(orthanc: peers.Orthanc, modality: str, scratch: Path) -> Path:
    """Return Orthanc's one instance of a modality as a file."""
    found = peers.wait_for(lambda: orthanc.instances_of(modality), 120, f"{modality} in Orthanc")
    assert len(found) == 1
    path = scratch / f"{modality}.dcm"
    path.write_bytes(orthanc.file(found[0]))
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
    seg, sr = (arrived(site.orthanc, modality, tmp_path) for modality in ("SEG", "SR"))
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


def counts(page: str) -> dict[str, int]:
    """Return how often each stage was observed, over engines."""
    found: dict[str, int] = {}
    for line in page.splitlines():
        if line.startswith("viscera_stage_seconds_count"):
            stage = re.search(r'stage="(\w+)"', line).group(1)
            found[stage] = found.get(stage, 0) + int(float(line.split()[-1]))
    return found


def test_one_page_counts_each_stage_once_and_outlives_the_worker(site, tmp_path):
    stored = (synthetic.body(seed=3) + 1024).astype(np.uint16)
    s = synthetic.Slices(stored=stored)
    paths = synthetic.write_series(s, tmp_path / "in")
    assert peers.storescu(site.ports["dicom_port"], *paths).returncode == 0
    page = peers.wait_for(
        lambda: (p := site.metrics()) and counts(p).get("deliver") and p, 120, "the delivery", 0.3
    )
    assert counts(page) == dict.fromkeys(STAGES, 1)
    assert "viscera_series_seconds_count{" in page
    lines = [line for line in page.splitlines() if line.startswith("viscera_series_seconds_count")]
    assert [line.split()[-1] for line in lines] == ["1.0"]
    assert re.search(r'commitments_total\{[^}]*outcome="committed"[^}]*} 2', page)
    for secret in (s.series_uid, s.patient_id, "PACS", "ORTHANC"):
        assert secret not in page
    assert promtool(page) == ""

    os.kill(site.child_pid("work"), signal.SIGKILL)
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
    holder = sqlite3.connect(tmp_path / "viscera.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        sent = peers.storescu(site.ports["dicom_port"], *paths)
        assert sent.returncode == 0, sent.stderr
        assert len(list((tmp_path / "spool").rglob("*.dcm"))) == len(paths)
        peers.wait_for(lambda: site.events("index_waits_for_store"), 60, "the store is missed")
        assert site.orthanc.instances_of("SEG") == []
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    arrived(site.orthanc, "SEG", tmp_path)

"""When a series closes: associations with pauses, one per instance, a late slice."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest

import band
import judges
import peers
import synthetic

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


@pytest.fixture
def running(tmp_path):
    band.write_band_package(tmp_path / "models")
    config = peers.write_config(
        tmp_path,
        model_repo=tmp_path / "models",
        model="band",
        destinations=[peers.folder_destination("out", tmp_path / "out")],
        quiet_s=30.0,  # the default
        extra="[decode]\nprocesses = 1\n",
    )
    with peers.service(config, folder=tmp_path) as service:
        service.out, service.config = tmp_path / "out", config
        yield service


def results(service) -> list[Path]:
    return sorted(path.parent for path in service.out.rglob("volumes.json"))


def slices_read(result: Path) -> int:
    return len(
        next(iter(seg_and_sr(result)[0].ReferencedSeriesSequence)).ReferencedInstanceSequence
    )


def seg_and_sr(result: Path) -> tuple[pydicom.Dataset, pydicom.Dataset]:
    by_modality = {ds.Modality: ds for ds in map(pydicom.dcmread, result.glob("*.dcm"))}
    return by_modality["SEG"], by_modality["SR"]


def write(tmp_path: Path, count: int) -> tuple[synthetic.Slices, list[Path]]:
    hu = synthetic.body((count, 32, 32), seed=8)
    s = synthetic.Slices(stored=(hu + 1024).astype(np.uint16))
    return s, synthetic.write_series(s, tmp_path / "in")


def test_six_associations_with_pauses_give_one_result(running, tmp_path):
    _, paths = write(tmp_path, 300)
    for start in range(0, 300, 50):
        if start:
            time.sleep(5)
        assert (
            peers.storescu(running.ports["dicom_port"], *paths[start : start + 50]).returncode == 0
        )
    peers.wait_for(lambda: results(running), 120, "a result")
    time.sleep(3)
    assert len(results(running)) == 1
    assert slices_read(results(running)[0]) == 300


def test_one_association_per_instance_gives_one_result(running, tmp_path):
    _, paths = write(tmp_path, 24)
    for path in paths:
        assert peers.storescu(running.ports["dicom_port"], path).returncode == 0
        time.sleep(0.3)
    peers.wait_for(lambda: results(running), 120, "a result")
    time.sleep(3)
    assert len(results(running)) == 1
    assert slices_read(results(running)[0]) == 24


def test_a_late_slice_gives_version_2_that_names_version_1(running, tmp_path):
    s, paths = write(tmp_path, 21)
    assert peers.storescu(running.ports["dicom_port"], *paths[:20]).returncode == 0
    peers.wait_for(lambda: results(running), 120, "the first result")
    first = peers.wait_for(
        lambda: (r := results(running)) and len(list(r[0].glob("*.dcm"))) == 2 and r[0], 30, "files"
    )
    first_sr = seg_and_sr(first)[1]
    assert peers.storescu(running.ports["dicom_port"], paths[20]).returncode == 0

    def second():
        found = [r for r in results(running) if slices_read(r) == 21]
        return found and found[0]

    _, later_sr = seg_and_sr(peers.wait_for(second, 120, "the second result"))
    item = later_sr.PredecessorDocumentsSequence[0]
    named = item.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == first_sr.SOPInstanceUID
    assert judges.dciodvfy_errors(Path(later_sr.filename)) == []
    why = subprocess.run(
        [sys.executable, "-m", "viscera", "--config", str(running.config), "why", s.series_uid],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "version 1" in why
    assert "version 2" in why
    assert json.dumps(why).count("segment") == 2

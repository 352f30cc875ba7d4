"""When a series closes: associations with pauses, one per instance, a late slice.

All at twice a PACS's pace: pauses and quiet periods are half of what they are by default.
"""

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
from viscera.config import SeriesSettings, load_settings
from viscera.roles.parts import open_store

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


PACE = 0.5


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("closing")
    band.write_band_package(folder / "models")
    config = peers.write_config(
        folder,
        model_repo=folder / "models",
        model="band",
        destinations=[peers.folder_destination("out", folder / "out")],
        quiet_s=30.0 * PACE,
        extra="[decode]\nprocesses = 1\n",
    )
    shortest = f"[series]\nquiet_min_s = {7.5 * PACE}\n"
    config.write_text(config.read_text().replace("[series]\n", shortest))
    with peers.service(config, folder=folder) as service:
        service.out, service.config = folder / "out", config
        service.store = open_store(load_settings(config))
        yield service
        service.store.close()


def test_the_pace_is_that_of_the_defaults(running):
    given, default = load_settings(running.config).series, SeriesSettings()
    assert (given.quiet_s, given.quiet_min_s) == (
        default.quiet_s * PACE,
        default.quiet_min_s * PACE,
    )


def results(service, s: synthetic.Slices) -> list[Path]:
    return sorted(path.parent for path in (service.out / s.series_uid).rglob("volumes.json"))


def assert_one_result(service, s: synthetic.Slices) -> None:
    """Of all slices, in one closing: nothing was cut off, and nothing is to come."""
    (result,) = peers.wait_for(lambda: results(service, s), 120, "a result")
    assert slices_read(result) == len(s.stored)
    assert [submission.version for submission, *_ in service.store.why(s.series_uid)] == [1]
    assert len(results(service, s)) == 1


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
    s, paths = write(tmp_path, 300)
    for start in range(0, 300, 50):
        if start:
            time.sleep(5 * PACE)
        assert (
            peers.storescu(running.ports["dicom_port"], *paths[start : start + 50]).returncode == 0
        )
    assert_one_result(running, s)


def test_one_association_per_instance_gives_one_result(running, tmp_path):
    s, paths = write(tmp_path, 24)
    for path in paths:
        assert peers.storescu(running.ports["dicom_port"], path).returncode == 0
        time.sleep(0.3 * PACE)
    assert_one_result(running, s)


def test_a_late_slice_gives_version_2_that_names_version_1(running, tmp_path):
    s, paths = write(tmp_path, 21)
    assert peers.storescu(running.ports["dicom_port"], *paths[:20]).returncode == 0
    peers.wait_for(lambda: results(running, s), 120, "the first result")
    first = peers.wait_for(
        lambda: (r := results(running, s)) and len(list(r[0].glob("*.dcm"))) == 2 and r[0],
        30,
        "files",
    )
    first_sr = seg_and_sr(first)[1]
    assert peers.storescu(running.ports["dicom_port"], paths[20]).returncode == 0

    def second():
        found = [r for r in results(running, s) if slices_read(r) == 21]
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

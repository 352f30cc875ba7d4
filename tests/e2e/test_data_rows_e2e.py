"""Every row of the shared data ends as its README says, while another series goes through."""

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

import band
import peers
import synthetic
from viscera.config import load_settings
from viscera.roles.parts import open_store

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    band.write_band_package(folder / "models", patch=(16, 64, 64), step=1.0)
    config = peers.write_config(
        folder,
        model_repo=folder / "models",
        model="band",
        destinations=[peers.folder_destination("out", folder / "out")],
        quiet_s=1.0,
        extra="[decode]\nprocesses = 1\n",
    )
    with peers.service(config, folder=folder) as service:
        service.folder, service.config = folder, config
        service.store = open_store(load_settings(config))
        yield service
        service.store.close()


@pytest.fixture
def another_series_goes_through(running, tmp_path):
    """Push a good series beside the test's own, and require its result."""
    stored = (synthetic.body(seed=9) + 1024).astype(np.uint16)
    s = synthetic.Slices(stored=stored)
    paths = synthetic.write_series(s, tmp_path / "good")
    answers = []
    pusher = threading.Thread(
        target=lambda: answers.append(peers.storescu(running.ports["dicom_port"], *paths))
    )
    pusher.start()
    yield
    pusher.join(60)
    assert answers[0].returncode == 0
    peers.wait_for(
        lambda: (running.folder / "out" / s.series_uid).is_dir(), 120, "the other series' result"
    )


def ends(running, series_uid: str) -> str:
    """Return why the series was refused, or an empty string."""

    def settled():
        for submission, choices, refusal in running.store.why(series_uid):
            if submission.state != "open":
                reasons = [c.reason for c in choices if c.what == "refuse"]
                return (refusal, *reasons)
        return None

    found = peers.wait_for(settled, 120, f"the end of {series_uid}")
    return " ".join(found)


def series_of(paths) -> str:
    return str(pydicom.dcmread(paths[0], stop_before_pixels=True, force=True).SeriesInstanceUID)


@pytest.mark.usefixtures("another_series_goes_through")
def test_tilted_head_with_two_spacings(running, shared_data):
    paths = sorted((shared_data / "odd" / "ge_tilt18_variable_spacing").glob("*.dcm"))
    assert peers.storescu(running.ports["dicom_port"], *paths).returncode == 0
    assert "UnevenSpacing" in ends(running, series_of(paths))


@pytest.mark.usefixtures("another_series_goes_through")
def test_transfer_syntaxes_are_conflicting_instances_of_a_short_series(running, shared_data):
    folder = shared_data / "odd" / "transfer_syntaxes"
    paths = sorted(folder.glob("CTImage.dcm_*Explicit*1.2.1.dcm")) + sorted(
        folder.glob("CTImage.dcm_*Implicit*.dcm")
    )
    first = peers.storescu(running.ports["dicom_port"], paths[0])
    assert first.returncode == 0, first.stderr
    second = peers.storescu(running.ports["dicom_port"], paths[1], extra=["-v"])
    assert "Unknown Status: 0x111" in second.stderr  # PS3.7: duplicate SOP instance
    assert "IncompleteSeries" in ends(running, series_of(paths))


@pytest.mark.usefixtures("another_series_goes_through")
@pytest.mark.parametrize("name", ["23x38x3/image", "24x38x3/image", "ct-3slice"])
def test_three_slices_are_too_few(running, shared_data, name):
    folder = shared_data / "odd" / "seg_and_enhanced" / "dcmqi_segmentations" / name
    paths = sorted(folder.glob("*.dcm"))
    assert peers.storescu(running.ports["dicom_port"], *paths).returncode == 0
    assert "IncompleteSeries" in ends(running, series_of(paths))


@pytest.mark.usefixtures("another_series_goes_through")
def test_enhanced_ct_of_two_frames_is_too_short(running, shared_data):
    path = shared_data / "odd" / "seg_and_enhanced" / "eCT_Supplemental.dcm"
    sent = peers.storescu(running.ports["dicom_port"], path)
    assert sent.returncode == 0, sent.stderr
    assert "IncompleteSeries" in ends(running, series_of([path]))


def segment(source: Path, out: Path, running) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "viscera", "segment", str(source), "--out", str(out)]
    command += ["--model", "band", "--model-repo", str(running.folder / "models")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.usefixtures("another_series_goes_through")
def test_a_seg_is_dropped_at_the_door_and_no_image_series_as_files(running, shared_data, tmp_path):
    seg = shared_data / "odd" / "seg_and_enhanced" / "dcmqi_segmentations" / "liver.dcm"
    assert peers.storescu(running.ports["dicom_port"], seg, extra=["-R"]).returncode == 0
    dropped = [x for x in running.metrics().splitlines() if 'outcome="dropped"' in x]
    assert next(x for x in dropped if x.startswith("viscera_instances_total")).endswith(" 1.0")
    (tmp_path / "in").mkdir()
    shutil.copy(seg, tmp_path / "in")
    answer = segment(tmp_path / "in", tmp_path / "out", running)
    assert answer.returncode == 1
    assert "NotAnImageSeries" in answer.stdout + answer.stderr


def test_siemens_without_uids_is_refused_by_name(running, shared_data, tmp_path):
    source = shared_data / "series" / "siemens_mct_20x2mm_j2k"
    answer = segment(source, tmp_path / "out", running)
    assert answer.returncode == 2
    assert "InvalidUID" in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


def test_siemens_pixels_serve_as_a_volume(running, shared_data, tmp_path):
    source = shared_data / "series" / "siemens_mct_20x2mm_j2k"
    slices = sorted(
        (pydicom.dcmread(p) for p in source.rglob("*") if p.is_file()),
        key=lambda ds: float(ds.ImagePositionPatient[2]),
    )
    hu = np.stack(
        [ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in slices]
    ).astype(np.int16)
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((*map(float, slices[0].PixelSpacing[::-1]), 2.0))
    sitk.WriteImage(image, tmp_path / "volume.nrrd")
    assert_band_labels(tmp_path / "volume.nrrd", tmp_path / "out", running)


@pytest.mark.parametrize("name", ["example_ct", "example_ct_sm", "example_mr_sm"])
def test_volumes_are_segmented_from_file(running, shared_data, tmp_path, name):
    path = shared_data / "volumes" / f"{name}.nii.gz"
    assert_band_labels(path, tmp_path / "out", running)


def assert_band_labels(source: Path, out: Path, running) -> None:
    answer = segment(source, out, running)
    assert answer.returncode == 0, answer.stderr
    image, labels = sitk.ReadImage(str(source)), sitk.ReadImage(str(out / "labels.nii.gz"))
    expected = band.expected_labels(sitk.GetArrayFromImage(image))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(labels), expected)
    np.testing.assert_allclose(labels.GetOrigin(), image.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(labels.GetDirection(), image.GetDirection(), atol=1e-5)
    organs = json.loads((out / "volumes.json").read_text())["organs"]
    assert {o["label"]: o["voxels"] for o in organs} == {
        value: int((expected == value).sum()) for value in range(1, 16)
    }
    assert (out / "qc.png").is_file()

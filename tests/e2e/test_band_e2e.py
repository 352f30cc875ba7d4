"""The band model through a running service: the right answer is known for every voxel.

The expected labels are computed here from the raw pixels by pydicom and numpy; the SEG that left
the service is read by dcmqi (world coordinates) and by highdicom (per source image).
"""

import itertools
import json
import tarfile
from pathlib import Path

import numpy as np
import pydicom
import pynetdicom
import pytest
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian

import band
import judges
import peers
import synthetic
from viscera.domain.organs import AMOS

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("band")
    band.write_band_package(folder / "models", patch=(8, 32, 32))
    # Whole patches side by side: half-overlapping tiles cost eight times as much.
    band.write_band_package(folder / "models", patch=(32, 128, 128), step=1.0, name="band-large")
    config = peers.write_config(
        folder,
        model_repo=folder / "models",
        model="band",
        destinations=[peers.folder_destination("out", folder / "out")],
        quiet_s=1.5,
        extra="[decode]\nprocesses = 1\n"
        '[[series.rules]]\nname = "large"\nmin_slices = 100\nmodel = "band-large"\n'
        '[[series.rules]]\nname = "others"\n',
    )
    with peers.service(config, folder=folder) as service:
        service.out = folder / "out"
        yield service


def result_of(service, series_uid: str) -> Path:
    """Return the folder of one series' result, once its volumes.json is there."""

    def found():
        for path in service.out.rglob("volumes.json"):
            if json.loads(path.read_text())["series_uid"] == series_uid:
                return path.parent
        return None

    return peers.wait_for(found, 240, f"the result of {series_uid}")


def hu_of(ds: pydicom.Dataset) -> np.ndarray:
    """Return one slice's HU as float64; padding is air."""
    stored, missing = stored_of(ds)
    hu = stored * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    if "PixelPaddingValue" in ds:
        low = int(ds.PixelPaddingValue)
        high = int(ds.get("PixelPaddingRangeLimit", low))
        hu[(stored >= min(low, high)) & (stored <= max(low, high))] = -1024
    hu.flat[hu.size - missing :] = -1024
    return hu


def stored_of(ds: pydicom.Dataset) -> tuple[np.ndarray, int]:
    """Return stored values as int64, and how many are missing at a truncated end."""
    expected = ds.Rows * ds.Columns * 2
    missing = expected - len(ds.PixelData)
    if missing <= 1:
        return ds.pixel_array.astype(np.int64), 0
    kind = "<i2" if ds.PixelRepresentation else "<u2"
    stored = np.frombuffer(ds.PixelData + bytes(missing), kind).reshape(ds.Rows, ds.Columns)
    return stored.astype(np.int64), missing // 2


def world_points(ds: pydicom.Dataset, mask: np.ndarray) -> np.ndarray:
    """Return the LPS points of `mask`'s pixels by PS3.3 equation C.7.6.2.1-1."""
    along_row, down_column = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
    rows, columns = np.nonzero(mask)
    spacing = np.array(ds.PixelSpacing, float)
    return (
        np.array(ds.ImagePositionPatient, float)
        + columns[:, None] * along_row * spacing[1]
        + rows[:, None] * down_column * spacing[0]
    )


def assert_right(result: Path, paths: list[Path], scratch: Path) -> None:
    """Compare the service's SEG and volumes with what the raw pixels say."""
    seg = next(p for p in result.glob("*.dcm") if pydicom.dcmread(p).Modality == "SEG")
    assert judges.dciodvfy_errors(seg) == []
    titles = judges.segment_titles(seg)
    by_title = {label.title: label.value for label in AMOS}
    # Label 15 is named by PatientSex.
    by_title |= {"Prostate": 15, "Uterus": 15, "Prostate or uterus": 15}
    value_of = {number: by_title[title] for number, title in titles.items()}

    expected_points = {value: [] for value in range(1, 16)}
    expected_voxels = np.zeros(16, int)
    read = judges.highdicom_labels(seg)
    for path in paths:
        ds = pydicom.dcmread(path)
        expected = band.expected_labels(hu_of(ds))
        expected_voxels += np.bincount(expected.ravel(), minlength=16)
        for value in np.unique(expected[expected > 0]):
            expected_points[int(value)].append(world_points(ds, expected == value))
        got = np.zeros_like(expected)
        if ds.SOPInstanceUID in read:
            for number, value in value_of.items():
                got[read[ds.SOPInstanceUID] == number] = value
        np.testing.assert_array_equal(got, expected)

    seen = judges.dcmqi_points(seg, scratch)
    for number, value in value_of.items():
        expected_world = np.concatenate(expected_points.pop(value))
        assert len(seen[number]) == len(expected_world)
        np.testing.assert_allclose(
            sort_points(seen[number]), sort_points(expected_world), atol=0.02
        )
    assert all(points == [] for points in expected_points.values())

    organs = json.loads((result / "volumes.json").read_text())["organs"]
    assert {o["label"]: o["voxels"] for o in organs} == dict(enumerate(expected_voxels[1:], 1))
    voxel_ml = voxel_volume_ml(paths)
    for organ in organs:
        assert by_title[organ["title"]] == organ["label"]
        volume_ml = organ["voxels"] * voxel_ml
        assert organ["volume_ml"] == pytest.approx(volume_ml, rel=1e-4, abs=1e-3)


def sort_points(points: np.ndarray) -> np.ndarray:
    """Sort by place, z first, to 0.1 mm: one number for each is much quicker than three."""
    x, y, z = np.rint(points * 10).astype(np.int64).T + (1 << 20)
    return points[np.argsort((z << 42) | (y << 21) | x)]


def voxel_volume_ml(paths: list[Path]) -> float:
    """Return |det| of row, column and slice steps in mL, from the headers alone."""
    headers = [pydicom.dcmread(p, stop_before_pixels=True) for p in paths]
    along_row, down_column = np.array(headers[0].ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(along_row, down_column)
    positions = np.array([np.array(h.ImagePositionPatient, float) for h in headers])
    positions = positions[np.argsort(positions @ normal)]
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    spacing = np.array(headers[0].PixelSpacing, float)
    return abs(np.linalg.det([step, down_column * spacing[0], along_row * spacing[1]])) / 1000


def push_with_pynetdicom(service, paths: list[Path]) -> None:
    """Send what dcmtk would not even read: a truncated file goes as far as it goes."""
    ae = pynetdicom.AE("PACS")
    ae.add_requested_context(CTImageStorage, ImplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", service.ports["dicom_port"], ae_title="VISCERA")
    assert association.is_established
    for path in paths:
        assert association.send_c_store(pydicom.dcmread(path)).Status == 0
    association.release()


def push(service, paths: list[Path]) -> None:
    sent = peers.storescu(service.ports["dicom_port"], *paths)
    assert sent.returncode == 0, sent.stderr


def test_ge_abdomen(running, shared_data, tmp_path):
    paths = sorted((shared_data / "series" / "ge_abdomen_35x5mm").iterdir())
    push(running, paths)
    uid = pydicom.dcmread(paths[0], stop_before_pixels=True).SeriesInstanceUID
    assert_right(result_of(running, uid), paths, tmp_path)


def test_275_slices(running, shared_data, tmp_path):
    archive = shared_data / "series" / "philips_chest_upper_abdomen_275x1mm.tar.xz"
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "in", filter="data")
    paths = sorted(p for p in (tmp_path / "in").rglob("*") if p.is_file())
    paths = [p for p in paths if p.read_bytes()[128:132] == b"DICM"]
    push_with_pynetdicom(running, paths)
    uid = pydicom.dcmread(paths[0], stop_before_pixels=True).SeriesInstanceUID
    result = result_of(running, uid)
    assert_right(result, paths, tmp_path / "scratch")
    # One of the 275 files is cut off; the result says so.
    verdict = json.loads((result / "volumes.json").read_text())["verdict"]
    assert verdict["decision"] == "flag"
    assert "3739 of 262144 pixels" in verdict["reasons"][0]


def rotation(degrees: float, axis: int) -> np.ndarray:
    angle = np.deg2rad(degrees)
    turn = np.eye(3)
    a, b = [i for i in range(3) if i != axis]
    turn[a, a] = turn[b, b] = np.cos(angle)
    turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
    return turn


def oriented(hu: np.ndarray, row: np.ndarray, column: np.ndarray, slice_: np.ndarray, **more):
    """Return slices whose rows, columns and stack run along the given unit vectors."""
    return synthetic.Slices(
        stored=(hu + 1024).astype(np.uint16),
        orientation=(*row, *column),
        step=tuple(2.5 * slice_),
        **more,
    )


X, Y, Z = np.eye(3)
PERMUTATIONS = [
    pytest.param(signs[0] * p[0], signs[1] * p[1], signs[2] * p[2], id=f"{k}-{signs}")
    for k, p in enumerate(itertools.permutations((X, Y, Z)))
    for signs in (
        [(1, 1, 1), (-1, 1, 1), (1, -1, -1)] if k else [(1, 1, 1), (-1, -1, 1), (1, 1, -1)]
    )
]


@pytest.mark.parametrize(("row", "column", "slice_"), PERMUTATIONS)
def test_flips_and_permutations_of_axes(running, tmp_path, row, column, slice_):
    s = oriented(synthetic.body(seed=1), row, column, slice_)
    paths = synthetic.write_series(s, tmp_path / "in")
    push(running, paths)
    assert_right(result_of(running, s.series_uid), paths, tmp_path / "scratch")


def test_shuffled_order(running, tmp_path):
    s = oriented(synthetic.body(seed=2), X, Y, Z)
    order = np.random.default_rng(0).permutation(len(s.stored))
    paths = synthetic.write_series(s, tmp_path / "in", order=order)
    push(running, paths)
    assert_right(result_of(running, s.series_uid), paths, tmp_path / "scratch")


@pytest.mark.parametrize("degrees", [12.0, 30.0])
def test_oblique(running, tmp_path, degrees):
    turn = rotation(degrees, 0) @ rotation(degrees / 2, 2)
    s = oriented(synthetic.body(seed=3), turn @ X, turn @ Y, turn @ Z)
    paths = synthetic.write_series(s, tmp_path / "in")
    push(running, paths)
    assert_right(result_of(running, s.series_uid), paths, tmp_path / "scratch")


@pytest.mark.parametrize("padding", [-2000, -32768])
def test_padding_value(running, tmp_path, padding):
    hu = synthetic.body(seed=4)
    rows, columns = np.indices(hu.shape[1:])
    outside = (rows - 24) ** 2 + (columns - 20) ** 2 > 18**2
    stored = hu.copy()
    stored[:, outside] = padding
    s = synthetic.Slices(stored=stored, intercepts=[0.0] * len(hu), padding=padding)
    paths = synthetic.write_series(s, tmp_path / "in")
    push(running, paths)
    assert_right(result_of(running, s.series_uid), paths, tmp_path / "scratch")


def test_rescale_of_each_slice(running, tmp_path):
    hu = synthetic.body(seed=5)
    intercepts = [-1024.0 + 10 * k for k in range(len(hu))]
    slopes = [1.0 + (k % 3) for k in range(len(hu))]
    stored = np.stack(
        [np.clip((h - b) / a, 0, 4095) for h, a, b in zip(hu, slopes, intercepts, strict=True)]
    ).astype(np.uint16)
    s = synthetic.Slices(stored=stored, slopes=slopes, intercepts=intercepts)
    paths = synthetic.write_series(s, tmp_path / "in")
    push(running, paths)
    assert_right(result_of(running, s.series_uid), paths, tmp_path / "scratch")


def test_same_series_by_dicom_and_by_files_agree(running, tmp_path):
    """`viscera segment` and the service write the same label map and volumes."""
    import subprocess
    import sys

    s = oriented(synthetic.body(seed=6), X, Y, Z)
    paths = synthetic.write_series(s, tmp_path / "in")
    push(running, paths)
    served = result_of(running, s.series_uid)
    command = [sys.executable, "-m", "viscera", "segment", str(tmp_path / "in")]
    command += ["--out", str(tmp_path / "cli"), "--model", "band"]
    command += ["--model-repo", str(running.out.parent / "models")]
    subprocess.run(command, check=True, capture_output=True)
    offline = next((tmp_path / "cli").rglob("volumes.json"))
    assert_right(offline.parent, paths, tmp_path / "scratch")
    assert (
        json.loads(offline.read_text())["organs"]
        == json.loads((served / "volumes.json").read_text())["organs"]
    )

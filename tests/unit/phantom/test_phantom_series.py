import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

from phantoms import SMALL, small_phantom
from viscera.phantom import Phantom, SliceOrder, Storage, make_phantom, write_series

TURN = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
DCIODVFY = Path(sys.executable).with_name("dciodvfy")

STORAGES = {
    "plain": Storage(),
    "flipped": Storage(axes="IAR"),
    "coronal": Storage(axes="AIL"),
    "sagittal": Storage(axes="RSP", order=SliceOrder.SHUFFLED),
    "feet first": Storage(order=SliceOrder.DESCENDING, patient_position="FFS"),
    "oblique": Storage(rotation_lps=TURN),
    "padded": Storage(padding_value=-2000, rescale_by_slice=True),
}


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    from dataclasses import replace

    return make_phantom(5, replace(SMALL, slices=9, matrix=(40, 44)))


def world_of(ds: pydicom.Dataset) -> np.ndarray:
    """LPS of every pixel, (row, column, 3), by equation C.7.6.2.1-1 of PS3.3."""
    across, down = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = map(float, ds.PixelSpacing)
    rows, columns = np.mgrid[: ds.Rows, : ds.Columns]
    return (
        np.array(ds.ImagePositionPatient, float)
        + columns[..., None] * across * between_columns
        + rows[..., None] * down * between_rows
    )


@pytest.mark.parametrize("name", STORAGES)
def test_every_pixel_lies_where_the_phantom_has_it(
    name: str, phantom: Phantom, tmp_path: Path
) -> None:
    storage = STORAGES[name]
    seen = np.zeros(phantom.labels.shape, int)
    for path in write_series(phantom, tmp_path, storage):
        ds = pydicom.dcmread(path)
        world = world_of(ds).reshape(-1, 3)
        if storage.rotation_lps is not None:
            world = world @ storage.rotation_lps  # the inverse of a rotation is its transpose
        k, j, i = np.rint(phantom.volume.geometry.to_index(world)).astype(int).T
        stored = ds.pixel_array.astype(int).ravel()
        hu = stored + int(ds.RescaleIntercept)
        if storage.padding_value is not None:
            hu[stored == ds.PixelPaddingValue] = -1024
        assert np.array_equal(hu, phantom.volume.voxels[k, j, i])
        seen[k, j, i] += 1
    assert (seen == 1).all()


def test_writing_twice_gives_the_same_bytes(phantom: Phantom, tmp_path: Path) -> None:
    first = write_series(phantom, tmp_path / "a")
    again = write_series(phantom, tmp_path / "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again]


def test_uids_are_valid_and_differ(phantom: Phantom, tmp_path: Path) -> None:
    headers = [pydicom.dcmread(p, stop_before_pixels=True) for p in write_series(phantom, tmp_path)]
    uids = {ds.SOPInstanceUID for ds in headers}
    assert len(uids) == len(headers)
    assert all(uid.is_valid for uid in uids)
    assert len({ds.SeriesInstanceUID for ds in headers}) == 1
    other = pydicom.dcmread(write_series(small_phantom(7), tmp_path / "other")[0])
    assert other.StudyInstanceUID != headers[0].StudyInstanceUID


@pytest.mark.parametrize("name", STORAGES)
def test_dciodvfy_finds_no_fault(name: str, phantom: Phantom, tmp_path: Path) -> None:
    paths = write_series(phantom, tmp_path, STORAGES[name])
    for path in (paths[0], paths[-1]):
        judge = subprocess.run(
            [str(DCIODVFY), "-new", str(path)], capture_output=True, text=True, check=False
        )
        said = judge.stdout + judge.stderr
        assert "CTImage" in said
        assert "Error" not in said, said
        assert "Warning" not in said, said

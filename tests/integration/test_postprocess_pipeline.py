"""Postprocessing through the pipeline: the band model, judged by SimpleITK's components."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import band
from viscera.cli import main

SHAPE = (12, 40, 48)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> tuple[Path, np.ndarray]:
    """Segment smooth noise twice: as the network has it, and with one piece for each organ."""
    folder = tmp_path_factory.mktemp("postprocess")
    for name, more in (("band", {}), ("band-one", {"postprocess": {"max_pieces": 1}})):
        band.write_band_package(folder / "models", patch=(8, 32, 32), step=1.0, name=name, **more)
    noise = np.random.default_rng(5).normal(size=SHAPE)
    for axis in range(3):
        for _ in range(3):
            noise = noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)
    hu = (noise / noise.std() * 200).astype(np.int16)
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((2.0, 3.0, 4.0))
    sitk.WriteImage(image, str(folder / "scan.nii.gz"))
    for name in ("band", "band-one"):
        out, repo = str(folder / name), str(folder / "models")
        source = str(folder / "scan.nii.gz")
        assert main(["segment", source, "--out", out, "--model", name, "--model-repo", repo]) == 0
    return folder, hu


def read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path / "labels.nii.gz")))


def largest_only(labels: np.ndarray) -> np.ndarray:
    kept = np.zeros_like(labels)
    for value in range(1, 16):
        pieces = sitk.ConnectedComponent(sitk.GetImageFromArray(labels) == value, True)
        ranked = sitk.GetArrayFromImage(sitk.RelabelComponent(pieces, sortByObjectSize=True))
        kept[ranked == 1] = value
    return kept


def test_without_the_table_the_label_map_is_the_networks(results):
    folder, hu = results
    assert np.array_equal(read(folder / "band"), band.expected_labels(hu))
    organs = json.loads((folder / "band" / "volumes.json").read_text())["organs"]
    assert {one["removed_ml"] for one in organs} == {0.0}


def test_with_it_one_piece_of_each_organ_is_left_and_the_rest_is_told(results):
    folder, hu = results
    raw, ours = band.expected_labels(hu), read(folder / "band-one")
    expected = largest_only(raw)
    assert np.array_equal(np.bincount(ours.ravel()), np.bincount(expected.ravel()))
    # Of two pieces of one size either may stay.
    assert (ours != expected).sum() <= 20
    organs = json.loads((folder / "band-one" / "volumes.json").read_text())["organs"]
    for one in organs:
        before, after = ((array == one["label"]).sum() for array in (raw, ours))
        assert one["voxels"] == after
        assert one["removed_ml"] == pytest.approx((before - after) * 0.024)

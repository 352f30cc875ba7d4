"""Networks that know one pair of organs: left and right are looked at in that pair."""

import json
from pathlib import Path

import numpy as np
import pytest

from brought import Viscera, brought, write_scan
from thresholds import thresholds_onnx
from viscera.domain.geometry import Geometry
from viscera.domain.volumes import Volume

PAIRS = (
    ("right kidney", "left kidney"),
    ("right adrenal gland", "left adrenal gland"),
    ("liver", "spleen"),
)
BRIGHT_RIGHT, BRIGHT_LEFT = (150, 50), (50, 150)
"""HU of the block on the patient's right and of the one on the left."""


def scan(path: Path, hu: tuple[int, int], side_mm: float) -> Path:
    """Two cubes in air; x grows towards the patient's left."""
    step = side_mm / 8
    voxels = np.full((24, 24, 40), -1000, np.int16)
    voxels[8:16, 8:16, 4:12], voxels[8:16, 8:16, 28:36] = hu
    geometry = Geometry.from_planes(
        voxels.shape, np.zeros(3), np.array([0, 0, step]), (1, 0, 0, 0, 1, 0), (step, step)
    )
    write_scan(path, Volume(voxels=voxels, geometry=geometry, modality="CT"))
    return path


@pytest.mark.parametrize("pair", PAIRS)
def test_a_network_of_one_pair_is_checked_by_it(
    viscera: Viscera, tmp_path: Path, pair: tuple[str, str]
) -> None:
    """It calls what is about 50 HU the right one, about 150 the left one."""
    network, manifest = brought(tmp_path, output={"labels": list(pair)})
    network.write_bytes(thresholds_onnx((0.5, 100.5)))
    assert viscera("model", "import", "onnx", network, "--manifest", manifest)[0] == 0
    side_mm = 14 if "adrenal" in pair[0] else 60  # 3 mL and 216 mL
    good = scan(tmp_path / "good.nii.gz", BRIGHT_LEFT, side_mm)
    status, said = viscera("model", "activate", "mine/1", "--volume", good)
    assert (status, f"to the right of the {pair[1]}" in said) == (0, True), said
    bad = scan(tmp_path / "bad.nii.gz", BRIGHT_RIGHT, side_mm)
    status, said = viscera("model", "activate", "mine/1", "--volume", bad)
    assert (status, "its orientation is wrong" in said) == (2, True), said
    small = scan(tmp_path / "small.nii.gz", BRIGHT_LEFT, side_mm / 3)
    status, said = viscera("model", "activate", "mine/1", "--volume", small)
    assert (status, f"finds no {pair[0]} or no {pair[1]}" in said) == (2, True), said


def test_exchanged_kidneys_are_not_delivered_without_a_word(
    viscera: Viscera, tmp_path: Path
) -> None:
    network, manifest = brought(tmp_path, output={"labels": list(PAIRS[0])})
    network.write_bytes(thresholds_onnx((0.5, 100.5)))
    assert viscera("model", "import", "onnx", network, "--manifest", manifest)[0] == 0
    for hu, decision in ((BRIGHT_LEFT, "deliver"), (BRIGHT_RIGHT, "flag")):
        path, out = scan(tmp_path / "scan.nii.gz", hu, 60), tmp_path / decision
        assert viscera("segment", path, "--out", out, "--model", "mine")[0] == 0
        assert json.loads((out / "volumes.json").read_text())["verdict"]["decision"] == decision


def test_a_network_without_a_pair_is_not_checked(viscera: Viscera, tmp_path: Path) -> None:
    network, manifest = brought(tmp_path, output={"labels": ["liver", "left kidney"]})
    network.write_bytes(thresholds_onnx((0.5, 100.5)))
    assert viscera("model", "import", "onnx", network, "--manifest", manifest)[0] == 0
    status, said = viscera("model", "activate", "mine/1")
    assert (status, "left and right were not checked" in said) == (0, True), said

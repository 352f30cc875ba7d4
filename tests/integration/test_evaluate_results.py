"""`viscera evaluate` on what `viscera segment` wrote, of models that number their labels anew."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from brought import BANDS, Viscera, brought, write_scan
from phantoms import small_phantom
from thresholds import thresholds_onnx
from viscera.domain.organs import AMOS
from viscera.phantom import write_series

AMOS_VALUE = {label.name: label.value for label in AMOS}
BORDERS = (-100.5, 20.5, 60.5)


@pytest.fixture
def imported(viscera: Viscera, tmp_path: Path):
    """Import a network of bands of HU whose labels are as given."""

    def one(labels: list[object], not_segmented: list[str] | None = None) -> None:
        output = {"labels": labels, "not_segmented": not_segmented or []}
        network, manifest = brought(tmp_path, output=output, verdict={"sides": False})
        network.write_bytes(thresholds_onnx(BORDERS[: len(labels)]))
        assert viscera("model", "import", "onnx", network, "--manifest", manifest)[0] == 0

    return one


def labels_of(scan: Path, folder: Path, viscera: Viscera) -> sitk.Image:
    write_scan(scan, small_phantom(7).volume)
    status, said = viscera("segment", scan, "--out", folder, "--model", "mine")
    assert status == 0, said
    return sitk.ReadImage(str(folder / "labels.nii.gz"))


def save_as(image: sitk.Image, values: dict[int, int], path: Path) -> Path:
    """Write what `image` shows under other values."""
    table = np.zeros(256, np.uint8)
    for ours, theirs in values.items():
        table[ours] = theirs
    other = sitk.GetImageFromArray(table[sitk.GetArrayFromImage(image)])
    other.CopyInformation(image)
    sitk.WriteImage(other, str(path))
    return path


def test_our_own_labels_have_the_names_of_their_model(viscera, tmp_path, imported) -> None:
    # AMOS's 2 is the right kidney, which this model lacks: no name of its value 2.
    names = ["liver", "spleen", "aorta"]
    imported(names, ["right kidney", "bladder"])
    found = labels_of(tmp_path / "scan.nii.gz", tmp_path / "out" / "a", viscera)
    values = {k: AMOS_VALUE[name] for k, name in enumerate(names, 1)}
    (tmp_path / "ref").mkdir()
    save_as(found, values, tmp_path / "ref" / "a.nii.gz")
    report = tmp_path / "e.json"
    status, said = viscera("evaluate", tmp_path / "out", tmp_path / "ref", "--json", report)
    assert status == 0, said
    tree = json.loads(report.read_text())
    assert {one["organ"]: one["dice"]["mean"] for one in tree["organs"]} == dict.fromkeys(names, 1)


def test_a_map_that_is_given_speaks_for_our_labels_too(viscera, tmp_path, imported) -> None:
    imported(["liver", "spleen", "aorta"])
    found = labels_of(tmp_path / "scan.nii.gz", tmp_path / "out", viscera)
    reference = save_as(found, {1: 1, 2: 2, 3: 3}, tmp_path / "r.nii.gz")
    (tmp_path / "map.toml").write_text('1 = "spleen"\n2 = "liver"\n')
    given = (tmp_path / "out" / "labels.nii.gz", reference, "--labels", tmp_path / "map.toml")
    status, said = viscera("evaluate", *given)
    assert status == 0
    assert "mean of organs      1  1.000" in said
    assert "value 3 (1)" in said


def test_an_organ_that_our_model_did_not_find_is_scored(viscera, tmp_path, imported) -> None:
    imported(["liver", "spleen", "aorta"])
    found = labels_of(tmp_path / "scan.nii.gz", tmp_path / "out", viscera)
    reference = save_as(found, {1: 6, 2: 1, 3: 8}, tmp_path / "r.nii.gz")
    folder = tmp_path / "out"
    save_as(found, {1: 1, 2: 2}, folder / "labels.nii.gz")
    status, said = viscera("evaluate", folder / "labels.nii.gz", reference)
    assert status == 0
    line = next(one for one in said.splitlines() if one.startswith("aorta"))
    assert line.split()[1:] == ["1", "0.000", "0.000"]


def test_labels_beside_a_broken_volumes_json_are_refused(viscera, tmp_path, imported) -> None:
    imported(["liver", "spleen", "aorta"])
    labels_of(tmp_path / "scan.nii.gz", tmp_path / "out", viscera)
    ours = tmp_path / "out" / "labels.nii.gz"
    for text in ("{", "[]", "{}", '{"organs": [{"name": 1}]}', '{"organs": [[]]}', "\udc80"):
        (tmp_path / "out" / "volumes.json").write_text(text, errors="surrogateescape")
        status, said = viscera("evaluate", ours, ours)
        assert (status, "volumes.json does not say what the values of" in said) == (2, True), said


def test_a_seg_of_labels_of_ones_own_has_their_names(viscera, tmp_path, imported) -> None:
    imported(["liver", *BANDS[:2]])
    write_series(small_phantom(7), tmp_path / "series")
    out = tmp_path / "out"
    status, said = viscera("segment", tmp_path / "series", "--out", out, "--model", "mine")
    assert status == 0, said
    found = labels_of(tmp_path / "scan.nii.gz", tmp_path / "nifti", viscera)
    reference = save_as(found, {1: 6, 2: 16, 3: 17}, tmp_path / "r.nii.gz")
    (tmp_path / "map.toml").write_text('[reference]\n6 = "liver"\n16 = "band 1"\n17 = "band 2"\n')
    given = (out / "segmentation.dcm", reference, "--labels", tmp_path / "map.toml")
    status, said = viscera("evaluate", *given)
    assert status == 0, said
    for organ in ("liver", "band 1", "band 2"):
        line = next(one for one in said.splitlines() if one.startswith(organ))
        assert line.split()[-2:] == ["1.000", "1.000"]

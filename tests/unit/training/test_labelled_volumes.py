"""Folders in nnU-Net's form become structures; what nobody labelled is no background."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from viscera.errors import InvalidRequest
from viscera.training.folder import VALUES, open_folder, organ_name
from viscera.training.labelled import UNSURE, LabelledVolume, read_labelled


def write(folder: Path, labels: dict[str, int], array: np.ndarray, direction: list[float]) -> None:
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "licence": "CC0"}))
    for path, values in (
        ("imagesTr/one_0000.nii.gz", np.where(array > 0, 60, 40).astype(np.int16)),
        ("labelsTr/one.nii.gz", array.astype(np.uint8)),
    ):
        image = sitk.GetImageFromArray(values)
        image.SetSpacing([2.0, 2.0, 2.0])
        image.SetDirection(direction)
        sitk.WriteImage(image, str(folder / path))


def test_a_folder_is_read_on_the_networks_grid_and_axes(tmp_path: Path) -> None:
    array = np.zeros((20, 30, 40), np.uint8)
    array[12:, 4:10, 5:15] = 7  # high, in front, and with this direction on the patient's left
    write(tmp_path, {"background": 0, "kidney_left": 7}, array, [-1, 0, 0, 0, 1, 0, 0, 0, 1])
    folder = open_folder(tmp_path)
    (volume,) = read_labelled(folder, 4.0)
    assert folder.licence == "CC0"
    assert volume.hu.shape == (10, 15, 20)
    at = np.argwhere(volume.organs[volume.structures] == VALUES["left kidney"]).mean(0)
    assert at == pytest.approx([7.5, 3.0, 19 - 4.5], abs=0.8)  # S, P, L


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be used"),
        ("{", "cannot be used"),
        ('{"labels": [1]}', "cannot be used"),
        ('{"labels": {"background": 0, "hat": 1}}', "none of the fifteen"),
    ],
)
def test_a_bad_dataset_json_is_one_plain_error(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(InvalidRequest, match=said):
        open_folder(tmp_path)


def test_labels_without_their_image_are_named(tmp_path: Path) -> None:
    write(tmp_path, {"liver": 1}, np.ones((4, 4, 4)), [1, 0, 0, 0, 1, 0, 0, 0, 1])
    (tmp_path / "imagesTr/one_0000.nii.gz").unlink()
    with pytest.raises(InvalidRequest, match="one_0000"):
        read_labelled(open_folder(tmp_path), 4.0)


def test_other_releases_names_are_the_same_organs() -> None:
    assert organ_name("Kidney_Right") == "right kidney"
    assert organ_name("inferior_vena_cava") == "postcava"
    assert organ_name("prostate/uterus") == "prostate/uterus"


def test_only_deep_soft_tissue_may_be_an_organ_that_nobody_labelled(volume: LabelledVolume) -> None:
    labels = volume.targets[volume.structures]
    assert volume.unlabelled == tuple(v for v in VALUES.values() if v not in (6, 14))
    assert labels[28, 30, 25] == 6
    assert labels[28, 30, 40] == UNSURE  # inside the wall
    assert labels[28, 30, 54] == 0  # fat
    assert labels[10, 34, 44] == 0  # bone that has a name
    assert volume.structures[20, 59].max() == 0  # the table is gone
    assert (volume.hu[20, 59] == -1000).all()


def test_what_is_unlabelled_but_deep_spares_the_outer_tissue(volume: LabelledVolume) -> None:
    names = (*volume.names[:3], *set(VALUES) - {"liver", "bladder", "esophagus"}, *volume.names[3:])
    told = LabelledVolume(name="", hu=volume.hu, structures=volume.structures, names=names)
    assert told.unlabelled == (VALUES["esophagus"],)
    assert told.targets[names.index("soft tissue")] == UNSURE
    assert told.targets[names.index("outer tissue")] == 0

"""nnU-Net's folders read without torch: the newest layout, 2.2's, and what is refused.

`tests/parity` imports real folders and compares with nnU-Net itself.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from viscera.errors import ModelRefused
from viscera.models.nnunet.labels import label_tables
from viscera.models.nnunet.plans import Resampling, read_configuration
from viscera.models.nnunet.request import Request
from viscera.models.nnunet.tables import _axes, _modalities
from viscera.models.nnunet.trainers import is_known_trainer

STRIDES = [[1, 1, 1], [2, 2, 2], [1, 2, 2]]
RESAMPLING = {
    "resampling_fn_data": "resample_data_or_seg_to_shape",
    "resampling_fn_data_kwargs": {
        "is_seg": False,
        "order": 3,
        "order_z": 0,
        "force_separate_z": None,
    },
    "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
    "resampling_fn_probabilities_kwargs": {
        "is_seg": False,
        "order": 1,
        "order_z": 0,
        "force_separate_z": None,
    },
}
COMMON = {
    "preprocessor_name": "DefaultPreprocessor",
    "patch_size": [16, 32, 48],
    "spacing": [3.0, 1.0, 1.5],
    "normalization_schemes": ["CTNormalization"],
    "use_mask_for_norm": [False],
    **RESAMPLING,
}
NEW = {
    **COMMON,
    "architecture": {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {"n_stages": 3, "strides": STRIDES, "features_per_stage": [8, 16, 32]},
        "_kw_requires_import": [],
    },
}
OLD = {
    **COMMON,
    "UNet_class_name": "PlainConvUNet",
    "UNet_base_num_features": 32,
    "unet_max_num_features": 80,
    "n_conv_per_stage_encoder": [2, 2, 2],
    "n_conv_per_stage_decoder": [2, 2],
    "num_pool_per_axis": [1, 2, 2],
    "pool_op_kernel_sizes": STRIDES,
    "conv_kernel_sizes": [[3, 3, 3]] * 3,
}
INTENSITIES = {"percentile_00_5": -900, "percentile_99_5": 400, "mean": 50.5, "std": 120, "max": 1}


def plans() -> dict[str, Any]:
    return {
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [1, 0, 2],
        "foreground_intensity_properties_per_channel": {"0": INTENSITIES},
        "configurations": {
            "2d": {**NEW, "patch_size": [32, 32]},
            "3d_fullres": json.loads(json.dumps(NEW)),
            "3d_old": json.loads(json.dumps(OLD)),
            "3d_lowres": {"inherits_from": "3d_fullres", "spacing": [4.0, 2.0, 2.0]},
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
    }


def dataset() -> dict[str, Any]:
    return {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "spleen": 2}}


def write(folder: Path, given: dict[str, Any], told: dict[str, Any]) -> Path:
    (folder / "plans.json").write_text(json.dumps(given))
    (folder / "dataset.json").write_text(json.dumps(told))
    return folder


def test_newest_layout(tmp_path: Path) -> None:
    found = read_configuration(write(tmp_path, plans(), dataset()), "3d_fullres")
    assert (found.network, found.patch_size) == ("PlainConvUNet", (16, 32, 48))
    assert found.spacing_mm == (3.0, 1.0, 1.5)
    assert found.labels == {"background": 0, "liver": 1, "spleen": 2}
    assert found.normalisation == (
        {"scheme": "ct", "lower": -900, "upper": 400, "mean": 50.5, "sd": 120},
    )
    assert found.image == Resampling(order=3, apart_order=0, apart_above=3.0)
    assert found.logits == Resampling(order=1, apart_order=0, apart_above=3.0)
    assert found.network_arguments["features_per_stage"] == [8, 16, 32]
    lowres = read_configuration(tmp_path, "3d_lowres")
    assert (lowres.spacing_mm, lowres.patch_size) == ((4.0, 2.0, 2.0), (16, 32, 48))


def test_layout_of_nnunet_2_2(tmp_path: Path) -> None:
    given, told = plans(), dataset()
    given["foreground_intensity_properties_by_modality"] = given.pop(
        "foreground_intensity_properties_per_channel"
    )
    told["modality"] = told.pop("channel_names")
    found = read_configuration(write(tmp_path, given, told), "3d_old")
    arguments = found.network_arguments
    assert arguments["features_per_stage"] == [32, 64, 80]
    assert arguments["n_conv_per_stage"] == [2, 2, 2]
    assert arguments["strides"] == STRIDES
    assert arguments["norm_op_kwargs"] == {"eps": 1e-5, "affine": True}
    assert found.normalisation[0]["mean"] == 50.5
    given["configurations"]["3d_old"]["UNet_class_name"] = "ResidualEncoderUNet"
    found = read_configuration(write(tmp_path, given, told), "3d_old")
    assert found.network_arguments["n_blocks_per_stage"] == [2, 2, 2]


def full(given: dict[str, Any]) -> dict[str, Any]:
    table: dict[str, Any] = given["configurations"]["3d_fullres"]
    return table


Edit = Callable[[dict[str, Any], dict[str, Any]], object]


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda p, d: full(p).update(patch_size=[32, 32]), "is 2d"),
        (lambda p, d: full(p).update(previous_stage="3d_lowres"), "second stage of a cascade"),
        (lambda p, d: full(p).update(patch_size=[15, 32, 48]), "15 along axis 0 does not divide"),
        (lambda p, d: full(p).update(preprocessor_name="Mine"), "preprocessor Mine is unknown"),
        (lambda p, d: full(p).update(resampling_fn_data="mine"), "resampling_fn_data is mine"),
        (
            lambda p, d: full(p)["resampling_fn_probabilities_kwargs"].update(order=3),
            "known is resample_data_or_seg_to_shape of order 0 or 1",
        ),
        (
            lambda p, d: full(p)["resampling_fn_data_kwargs"].update(force_separate_z=True),
            "apart by the anisotropy alone",
        ),
        (lambda p, d: full(p).update(normalization_schemes=["Mine"]), "normalisation Mine is"),
        (lambda p, d: full(p)["architecture"].update(network_class_name="a.B"), "network B is"),
        (lambda p, d: p.update(image_reader_writer="Tiff3DIO"), "image reader Tiff3DIO"),
        (lambda p, d: p.update(label_manager="Mine"), "label manager Mine"),
        (lambda p, d: p.pop("transpose_forward"), "not what nnU-Net v2 writes"),
        (lambda p, d: full(p).pop("spacing"), "not what nnU-Net v2 writes"),
        (lambda p, d: p.update(configurations={}), "no configuration 3d_fullres"),
        (lambda p, d: full(p).update(inherits_from="3d_fullres"), "inherits from itself"),
        (lambda p, d: d["labels"].update(whole=[1, 2]), r"labels are regions \(whole\)"),
        (lambda p, d: d["labels"].update(spleen=3), "count from 0 without gaps"),
        (lambda p, d: d["channel_names"].update({"1": "MR"}), "names 2 channels, plans.json"),
        (lambda p, d: d.pop("labels"), "not what nnU-Net v2 writes"),
    ],
)
def test_what_cannot_be_served_is_refused(tmp_path: Path, edit: Edit, says: str) -> None:
    given, told = plans(), dataset()
    edit(given, told)
    with pytest.raises(ModelRefused, match=says):
        read_configuration(write(tmp_path, given, told), "3d_fullres")


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match=r"dataset\.json is missing"):
        read_configuration(tmp_path, "3d_fullres")
    write(tmp_path, plans(), dataset())
    (tmp_path / "plans.json").write_text("{")
    with pytest.raises(ModelRefused, match=r"plans\.json cannot be read as JSON"):
        read_configuration(tmp_path, "3d_fullres")


def test_names_of_amos_are_known() -> None:
    names = {"background": 0, "arota": 1, "gall bladder": 2, "Kidney_Right": 3}
    with pytest.raises(ModelRefused, match=r"the labels Kidney_Right are.*--labels FILE"):
        label_tables(names, None)
    names = {"background": 0, "arota": 1, "gall bladder": 2, "right_kidney": 3}
    tables = label_tables(names, None)
    assert tables.labels == ["aorta", "gall bladder", "right kidney"]
    assert tables.outputs == [0, 1, 2, 3]
    assert len(tables.not_segmented) == 12


def test_totalsegmentators_other_classes_are_not_reported() -> None:
    names = {"background": 0, "spleen": 1, "vertebrae_L1": 2, "kidney_left": 3, "heart": 4}
    tables = label_tables(names, "totalsegmentator")
    assert (tables.labels, tables.outputs) == (["spleen", "left kidney"], [0, 1, 0, 2, 0])
    assert "liver" in tables.not_segmented


def test_a_file_says_what_labels_are(tmp_path: Path) -> None:
    path = tmp_path / "map.toml"
    path.write_text(
        '[labels]\nmilz = "spleen"\nrest = ""\n[labels.psoas]\ntitle = "Psoas"\nrgb = [1, 2, 3]\n'
    )
    tables = label_tables({"background": 0, "rest": 1, "psoas": 2, "milz": 3}, path)
    assert tables.labels == [{"name": "psoas", "title": "Psoas", "rgb": [1, 2, 3]}, "spleen"]
    assert tables.outputs == [0, 0, 1, 2]
    with pytest.raises(ModelRefused, match="the labels liver are"):
        label_tables({"background": 0, "liver": 1}, path)
    with pytest.raises(ModelRefused, match="none of the network's labels"):
        label_tables({"background": 0, "rest": 1}, path)
    path.write_text('[labels]\na = "liver"\nb = "liver"\n')
    with pytest.raises(ModelRefused, match="two outputs become one"):
        label_tables({"background": 0, "a": 1, "b": 2}, path)


def test_orientation_is_never_guessed(tmp_path: Path) -> None:
    found = read_configuration(write(tmp_path, plans(), dataset()), "3d_fullres")
    asked = {"folder": tmp_path, "name": "a", "version": "1"}
    with pytest.raises(ModelRefused, match="give --orientation"):
        _axes(Request(**asked), found)
    # Stored (x, y, z) = LPS is (z, y, x) = SPL; the plans exchange the first two axes.
    assert _axes(Request(**asked, orientation="LPS"), found) == "PSL"
    assert _axes(Request(**asked, orientation="ras"), found) == "ASR"
    with pytest.raises(ModelRefused, match="three letters"):
        _axes(Request(**asked, orientation="LLS"), found)
    given = plans()
    given["image_reader_writer"] = "NibabelIOWithReorient"
    turned = read_configuration(write(tmp_path, given, dataset()), "3d_fullres")
    assert _axes(Request(**asked), turned) == "ASR"


@pytest.mark.parametrize("stored", ["RAS", "LPS", "PIR", "SRA"])
def test_orientation_is_read_from_a_training_image(tmp_path: Path, stored: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.DICOMOrient(sitk.Image([4, 5, 6], sitk.sitkInt16), stored)
    sitk.WriteImage(image, str(tmp_path / "case.nii.gz"))
    given = plans()
    given["transpose_forward"] = [0, 1, 2]
    found = read_configuration(write(tmp_path, given, dataset()), "3d_fullres")
    asked = Request(folder=tmp_path, name="a", version="1", example=tmp_path / "case.nii.gz")
    assert _axes(asked, found) == stored[::-1]


def test_modality_is_read_from_channels_or_asked_for() -> None:
    assert _modalities(("CT",)) == ("CT",)
    assert _modalities(("T1", "T2")) == ("MR",)
    with pytest.raises(ModelRefused, match="give --modality"):
        _modalities(("CT", "T1"))


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("nnUNetTrainer", True),
        ("nnUNetTrainer_4000epochs_NoMirroring", True),
        ("nnUNetTrainer_onlyMirror01", True),
        ("nnUNetTrainerDA5", True),
        ("nnUNetTrainer_DASegOrd0_NoMirroring", True),
        ("nnUNetTrainerNoDeepSupervision", True),
        ("nnUNetTrainerBN", False),
        ("nnUNet_Primus_M_Trainer", False),
        ("MyTrainer", False),
        ("nnUNetTrainerMine", False),
    ],
)
def test_trainers(name: str, known: bool) -> None:
    assert is_known_trainer(name) is known

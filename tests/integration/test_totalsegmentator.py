"""TotalSegmentator's networks as one package, and its own answer: judged by SciPy's `zoom`.

The child process that opens checkpoints is replaced, for torch is not here: it answers with
networks of known thresholds. `tests/importing` has it.
"""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from thresholds import thresholds_logits, thresholds_onnx
from viscera import models, volume
from viscera.cli import main
from viscera.domain.geometry import to_axes
from viscera.models.nnunet import GOLDEN_SEED

ORGANS = (
    *("background", "spleen", "kidney_right", "kidney_left", "gallbladder", "liver", "stomach"),
    *("pancreas", "adrenal_gland_right", "adrenal_gland_left", "lung_upper_lobe_left"),
    *("lung_lower_lobe_left", "lung_upper_lobe_right", "lung_middle_lobe_right"),
    *("lung_lower_lobe_right", "esophagus", "trachea", "thyroid_gland", "small_bowel", "duodenum"),
    *("colon", "urinary_bladder", "prostate", "kidney_cyst_left", "kidney_cyst_right"),
)
CARDIAC = (
    *("background", "heart", "aorta", "pulmonary_vein", "brachiocephalic_trunk"),
    *("superior_vena_cava", "inferior_vena_cava", "portal_vein_and_splenic_vein"),
)
RIBS = ("background", "rib_left_1", "rib_left_2")
V1 = (*ORGANS[:4], "urinary_bladder", "aorta", "inferior_vena_cava", "esophagus", "duodenum")
SPACING = 3.0
"""TotalSegmentator's `fast`; its plans say the same."""
CASES = {"organs": (ORGANS, -400), "cardiac": (CARDIAC, 30), "ribs": (RIBS, 300), "v1": (V1, -200)}


def borders(name: str) -> tuple[float, ...]:
    """Half-integers, so that whole HU never tie."""
    names, first = CASES[name]
    return tuple(first + 0.5 + 20 * k for k in range(len(names) - 1))


def folder(tmp_path: Path, name: str) -> Path:
    """A results folder but for its checkpoint."""
    made = tmp_path / name / "nnUNetTrainerNoMirroring__nnUNetPlans__3d_fullres"
    made.mkdir(parents=True)
    kwargs = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    plans = {
        "dataset_name": f"Dataset291_TotalSegmentator_{name}",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "NibabelIO",
        "transpose_forward": [0, 1, 2],
        "configurations": {
            "3d_fullres": {
                "preprocessor_name": "DefaultPreprocessor",
                "patch_size": [32, 32, 32],
                "spacing": [SPACING] * 3,
                "normalization_schemes": ["NoNormalization"],
                "use_mask_for_norm": [False],
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": kwargs,
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities_kwargs": {**kwargs, "order": 1},
                "architecture": {
                    "network_class_name": "PlainConvUNet",
                    "arch_kwargs": {"strides": [[1, 1, 1], [2, 2, 2]]},
                },
            }
        },
    }
    labels = {label: value for value, label in enumerate(CASES[name][0])}
    (made / "plans.json").write_text(json.dumps(plans))
    (made / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}, "labels": labels}))
    return made


def fake_child(request: Any, folder: Path, out: Path) -> dict[str, Any]:
    name = folder.parent.name
    (out / "model.onnx").write_bytes(thresholds_onnx(borders(name)))
    tile = np.random.default_rng(GOLDEN_SEED).standard_normal((1, 1, 32, 32, 32), np.float32)
    np.save(out / "logits.npy", thresholds_logits(borders(name), tile))
    return {
        "configuration": "3d_fullres",
        "trainer": "nnUNetTrainerNoMirroring",
        "mirror_axes": [0, 1, 2],
        "folds": ["0"],
        "dataset": name,
        "plans": "nnUNetPlans",
    }


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setenv("VISCERA_MODELS__REPO", str(tmp_path / "repo"))
    build = importlib.import_module("viscera.models.nnunet.build")  # beside it lies its function
    monkeypatch.setattr(build, "_run_child", fake_child)

    def command(*arguments: object) -> tuple[int, str]:
        status = main([str(one) for one in arguments])
        said = capsys.readouterr()
        return status, said.out + said.err

    return command


def importing(*folders: Path) -> tuple[object, ...]:
    return ("model", "import", "nnunet", *folders, "--name", "total", "--version", "2")


def scan(path: Path) -> sitk.Image:
    """Whole HU from -1000 to 800, thick slices, stored LPS-wards."""
    rng = np.random.default_rng(5)
    values = ndimage.gaussian_filter(rng.normal(0, 1, (19, 60, 50)), (1, 3, 3))
    hu = np.round(values / values.std() * 250).clip(-1000, 800).astype(np.int16)
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((0.9, 1.1, 5.0))
    sitk.WriteImage(image, str(path))
    return image


def totals(hu_ras: np.ndarray, spacing_mm: np.ndarray, order: int) -> np.ndarray:
    """TotalSegmentator's way, on arrays (z, y, x) that grow towards S, A, R: class names."""
    zoomed = ndimage.zoom(hu_ras.astype(float), spacing_mm / SPACING, mode="nearest", order=order)
    whole = zoomed.astype(np.int32)
    names = np.full(whole.shape, "background", dtype="U40")
    for part in ("organs", "cardiac"):
        found = np.array(CASES[part][0])[np.digitize(whole, borders(part))]
        names = np.where(found == "background", names, found)
    index = {name: k for k, name in enumerate(np.unique(names))}
    numbers = np.vectorize(index.__getitem__)(names).astype(np.uint8)
    ratio = np.array(hu_ras.shape) / np.array(numbers.shape)
    back = ndimage.zoom(numbers, ratio, mode="nearest", order=0)
    return np.array(list(index))[back]


@pytest.mark.parametrize("order", [3, 1])
def test_its_own_answer(order: int, run: Any, tmp_path: Path) -> None:
    given = ("--totalsegmentator", order) if order != 3 else ("--totalsegmentator",)
    folders = [folder(tmp_path, name) for name in ("organs", "cardiac")]
    status, said = run(*importing(*folders), *given)
    assert status == 0, said
    model = models.load_model(tmp_path / "repo", "total")
    assert [(part.step, part.mirror_axes, part.axes) for part in model.parts] == (
        [(0.8, (), "SAR")] * 2
    )
    image = scan(tmp_path / "scan.nii.gz")
    out = tmp_path / "out"
    status, said = run("segment", tmp_path / "scan.nii.gz", "--out", out, "--model", "total")
    assert status == 0, said

    hu_ras = to_axes(sitk.GetArrayFromImage(image), "SPL", "SAR")
    theirs = totals(hu_ras, np.array([5.0, 1.1, 0.9]), order)
    found = to_axes(volume.read_volume(out / "labels.nii.gz", "CT").voxels, "SPL", "SAR")
    amos = {"kidney_right": "right kidney", "inferior_vena_cava": "postcava", "liver": "liver"}
    amos |= {"adrenal_gland_left": "left adrenal gland", "urinary_bladder": "bladder"}
    amos |= {"aorta": "aorta", "prostate": "prostate", "duodenum": "duodenum"}
    values = {label.name: label.value for label in model.labels}
    for theirs_name, ours_name in amos.items():
        mask, ours = theirs == theirs_name, found == values[ours_name]
        assert mask.any(), theirs_name
        # Where a spline gives a whole number, cutting hangs on its last digit.
        assert np.mean(mask != ours) < 1e-3, theirs_name
        assert np.count_nonzero(mask & ours) > 0.99 * np.count_nonzero(mask)
    # Lungs, heart and cysts are nobody's, also where they took an organ's voxel.
    assert not found[np.isin(theirs, ["heart", "trachea", "colon", "kidney_cyst_left"])].any()


def test_what_the_model_lacks_is_not_segmented(run: Any, tmp_path: Path) -> None:
    given = importing(folder(tmp_path, "v1"))
    status, said = run(*given, "--labels", "totalsegmentator", "--orientation", "RAS")
    assert status == 0, said
    model = models.load_model(tmp_path / "repo", "total/2")
    assert model.parts == ()
    assert (model.first, model.step, model.mirror_axes) == (None, 0.5, (0, 1, 2))
    reported = ["spleen", "right kidney", "left kidney", "bladder", "aorta", "postcava"]
    assert [label.name for label in model.labels] == [*reported, "esophagus", "duodenum"]
    lacking = ["gall bladder", "liver", "stomach", "pancreas", "right adrenal gland"]
    lacking += ["left adrenal gland", "prostate/uterus"]
    assert [label.name for label in model.not_segmented] == lacking
    scan(tmp_path / "scan.nii.gz")
    out = tmp_path / "out"
    assert run("segment", tmp_path / "scan.nii.gz", "--out", out, "--model", "total")[0] == 0
    told = json.loads((out / "volumes.json").read_text())["organs"]
    assert [one["name"] for one in told if one["presence"] == "not_segmented"] == lacking


def test_a_part_without_an_organ_is_refused(run: Any, tmp_path: Path) -> None:
    folders = [folder(tmp_path, name) for name in ("organs", "ribs")]
    status, said = run(*importing(*folders), "--totalsegmentator")
    assert status == 2
    assert "ribs" in said
    assert "none of the network's labels would be reported" in said
    assert not list((tmp_path / "repo").glob("*"))

"""nnU-Net results folders: planned by nnU-Net, its network classes, trained just long enough.

What was trained lies in ``.cache/parity`` and is trained again when its recipe or the data change.
"""

import fcntl
import hashlib
import json
import multiprocessing.dummy
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import numpy as np
import SimpleITK as sitk
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from fitting import fit
from nnunetv2.experiment_planning.dataset_fingerprint import fingerprint_extractor as extractor
from nnunetv2.experiment_planning.experiment_planners import default_experiment_planner
from nnunetv2.experiment_planning.experiment_planners.residual_unets import (
    residual_encoder_unet_planners as residual,
)
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from recipes import NAMES, Recipe

CACHE = Path(__file__).parents[2] / ".cache" / "parity"
TRAINER = "nnUNetTrainer"
_VERSION = 2
"""Raise it when the same recipe gives another folder."""


def resampled(image: sitk.Image, spacing_xyz: tuple[float, ...]) -> sitk.Image:
    """Resample a CT onto a grid over the same box."""
    size = [
        round(n * s / t)
        for n, s, t in zip(image.GetSize(), image.GetSpacing(), spacing_xyz, strict=True)
    ]
    reference = sitk.Image(size, sitk.sitkUInt8)
    spacing = [n * s / m for n, s, m in zip(image.GetSize(), image.GetSpacing(), size, strict=True)]
    reference.SetSpacing(spacing)
    reference.SetDirection(image.GetDirection())
    shift = [(t - s) / 2 for s, t in zip(image.GetSpacing(), spacing, strict=True)]
    direction = np.reshape(image.GetDirection(), (3, 3))
    reference.SetOrigin(list(np.array(image.GetOrigin()) + direction @ shift))
    real = sitk.Cast(image, sitk.sitkFloat32)
    real = sitk.Resample(real, reference, sitk.Transform(), sitk.sitkBSpline, -1024.0)
    return sitk.Cast(
        sitk.Clamp(sitk.Round(real), lowerBound=-1024, upperBound=3071), sitk.sitkInt16
    )


def training_image(data: Path, recipe: Recipe, labels: bool = False) -> sitk.Image:
    """Return the CT, or its labels, as the recipe has it stored; voxels of 3 mm."""
    name = "example_ct_AMOS15_labels.nii.gz" if labels else "example_ct.nii.gz"
    image = sitk.ReadImage(str(data / "volumes" / name), sitk.sitkInt16)
    return sitk.DICOMOrient(image, recipe.orientation)


def channel_images(image: sitk.Image, recipe: Recipe) -> list[sitk.Image]:
    """Return one image a channel.

    With two, all around the trunk is 0 in both, and there is much of it, as in a masked MR: nnU-Net
    then crops it away, and its planner z-scores over the rest.
    """
    if len(recipe.channels) == 1:
        return [image]
    smooth = sitk.Cast(sitk.SmoothingRecursiveGaussian(image, 5.0), sitk.sitkInt16)
    body = sitk.Cast(smooth > -400, sitk.sitkInt16)
    return [_surrounded((one + 1024) * body) for one in (image, smooth)]


def _surrounded(image: sitk.Image) -> sitk.Image:
    """Return `image` with zeros beside it, in front and behind."""
    width = [round(0.15 * n) for n in image.GetSize()[:2]] + [0]
    return sitk.ConstantPad(image, width, width, 0.0)


def build(data: Path, recipe: Recipe) -> Path:
    """Return the results folder of `recipe`, from the cache where it is there."""
    key = hashlib.sha256(
        json.dumps([_VERSION, asdict(recipe)]).encode()
        + (data / "volumes" / "example_ct.nii.gz").read_bytes()
    ).hexdigest()[:16]
    home = CACHE / f"{recipe.name}-{key}"
    results = home / "results" / f"{TRAINER}__nnUNetPlans__3d_fullres"
    before = build(data, recipe.start_from) if recipe.start_from else None
    CACHE.mkdir(parents=True, exist_ok=True)
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the suite's other process may be at it
        if not (home / "done").exists():
            shutil.rmtree(home, ignore_errors=True)
            _plan(data, recipe, home, results)
            _train(recipe, home, results, before)
            (home / "done").touch()
    return results


def _plan(data: Path, recipe: Recipe, home: Path, results: Path) -> None:
    raw = home / "raw" / "Dataset001_Parity"
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    images = channel_images(training_image(data, recipe), recipe)
    for k, image in enumerate(images):
        sitk.WriteImage(image, str(raw / "imagesTr" / f"case_{k:04d}.nii.gz"))
    masked = len(recipe.channels) > 1
    labels = training_image(data, recipe, labels=True)
    labels = _surrounded(labels) if masked else labels
    sitk.WriteImage(labels, str(raw / "labelsTr" / "case.nii.gz"))
    dataset = {
        "channel_names": {str(k): name for k, name in enumerate(recipe.channels)},
        "labels": {name: value for value, name in enumerate(NAMES)},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(dataset))
    preprocessed = home / "preprocessed"
    (preprocessed / raw.name).mkdir(parents=True)
    # nnU-Net reads its folders from the environment, each time anew.
    os.environ["nnUNet_raw"] = str(home / "raw")  # noqa: SIM112 - its name
    os.environ["nnUNet_preprocessed"] = str(preprocessed)  # noqa: SIM112
    # Its one worker as a thread: a process of its own would take ten seconds to import torch.
    with mock.patch.object(
        extractor.multiprocessing, "get_context", return_value=multiprocessing.dummy
    ):
        extractor.DatasetFingerprintExtractor(1, num_processes=1).run()
    make = getattr(default_experiment_planner, recipe.planner, None) or getattr(
        residual, recipe.planner
    )
    planner = make(
        1,
        gpu_memory_target_in_gb=8,
        plans_name="nnUNetPlans",
        overwrite_target_spacing=recipe.spacing_mm,
    )
    planner.UNet_base_num_features = recipe.features
    planner.UNet_max_features_3d = recipe.features * 8
    planner.UNet_reference_val_3d *= recipe.memory_share
    if recipe.planner != "ExperimentPlanner":  # three to six blocks a stage take too long here
        planner.UNet_blocks_per_stage_encoder = (1, 2, 2, 2, 2, 2, 2)
    planner.plan_experiment()
    masks = planner.plans["configurations"]["3d_fullres"]["use_mask_for_norm"]
    assert masks == [masked] * len(images)
    results.mkdir(parents=True)
    shutil.copy(preprocessed / raw.name / "nnUNetPlans.json", results / "plans.json")
    shutil.copy(raw / "dataset.json", results)


def _train(recipe: Recipe, home: Path, results: Path, before: Path | None) -> None:
    """Write the folds' checkpoints."""
    plans = PlansManager(json.loads((results / "plans.json").read_text()))
    dataset = json.loads((results / "dataset.json").read_text())
    configuration = plans.get_configuration("3d_fullres")
    raw = home / "raw" / "Dataset001_Parity"
    images = sorted(map(str, (raw / "imagesTr").iterdir()))
    data, seg, _ = DefaultPreprocessor(verbose=False).run_case(
        images, str(raw / "labelsTr" / "case.nii.gz"), plans, configuration, dataset
    )
    patch = configuration.patch_size
    data, seg = (pad_nd_image(array, patch) for array in (data, np.maximum(seg, 0)))
    image, labels = torch.from_numpy(data), torch.from_numpy(seg[0]).long()
    torch.manual_seed(0)
    network = nnUNetTrainer.build_network_architecture(
        plans, configuration, len(recipe.channels), len(NAMES), enable_deep_supervision=False
    )
    if before is not None:
        _begin_with(network, before)
    steps = recipe.steps
    for fold in range(recipe.folds):
        fit(network.train(), image, labels, patch, steps, fold, recipe.flips)
        folder = results / f"fold_{fold}"
        folder.mkdir()
        # What nnUNetTrainer.save_checkpoint writes, its numpy scalars in the log included.
        content = {
            "network_weights": {k: v.clone() for k, v in network.state_dict().items()},
            "optimizer_state": {},
            "grad_scaler_state": None,
            "logging": {"ema_fg_dice": [np.float64(0.5), np.float32(0.25)]},
            "_best_ema": np.float64(0.5),
            "current_epoch": steps,
            "init_args": {"plans": plans.plans, "configuration": "3d_fullres", "fold": fold},
            "trainer_name": TRAINER,
            "inference_allowed_mirroring_axes": recipe.flips or (0, 1, 2),
        }
        torch.save(content, folder / "checkpoint_final.pth")
        steps = recipe.steps // 6  # a further fold goes on from the one before


def _begin_with(network: torch.nn.Module, before: Path) -> None:
    """Take the weights of another folder; what is new in the first convolution is 0."""
    content = torch.load(before / "fold_0" / "checkpoint_final.pth", weights_only=False)
    state = network.state_dict()
    for key, weights in content["network_weights"].items():
        new = torch.zeros_like(state[key])
        new[tuple(slice(0, n) for n in weights.shape)] = weights
        state[key] = new
    network.load_state_dict(state)

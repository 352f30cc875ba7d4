"""nnU-Net results folders: planned by nnU-Net, its network classes, trained just long enough.

Training is a plain loop: what is judged is how weights are run, not how they came to be. What was
trained lies in ``.cache/parity`` and is trained again when its recipe or the data change.
"""

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.experiment_planning.dataset_fingerprint import fingerprint_extractor as extractor
from nnunetv2.experiment_planning.experiment_planners import default_experiment_planner
from nnunetv2.experiment_planning.experiment_planners.residual_unets import (
    residual_encoder_unet_planners as residual,
)
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch.nn import functional

CACHE = Path(__file__).parents[2] / ".cache" / "parity"
TRAINER = "nnUNetTrainer"
_VERSION = 1
"""Raise it when the same recipe gives another folder."""
NAMES = (
    *("background", "spleen", "right kidney", "left kidney", "gall bladder", "esophagus", "liver"),
    *("stomach", "aorta", "postcava", "pancreas", "right adrenal gland", "left adrenal gland"),
    *("duodenum", "bladder", "prostate/uterus"),
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One results folder."""

    name: str
    planner: str = "ExperimentPlanner"
    spacing_mm: tuple[float, float, float] = (4.5, 4.5, 4.5)
    """(z, y, x) of the training image as it is stored."""
    orientation: str = "RAS"
    channels: tuple[str, ...] = ("CT",)
    features: int = 8
    memory_share: float = 0.01
    """Of nnU-Net's own budget: decides the patch."""
    steps: int = 200
    folds: int = 1
    start_from: "Recipe | None" = None
    """Weights to begin with; a network of more channels sees the first at first."""
    flips: tuple[int, ...] = ()
    """Axes along which patches are flipped in training, and which the checkpoint then allows. A
    network that has seen none, but may be mirrored along all, finds nothing when it is."""


def resampled(image: sitk.Image, spacing_xyz: tuple[float, ...], nearest: bool) -> sitk.Image:
    """Resample onto a grid over the same box."""
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
    if nearest:
        return sitk.Resample(image, reference, sitk.Transform(), sitk.sitkNearestNeighbor)
    real = sitk.Cast(image, sitk.sitkFloat32)
    real = sitk.Resample(real, reference, sitk.Transform(), sitk.sitkLinear, -1024.0)
    return sitk.Cast(sitk.Round(real), sitk.sitkInt16)


def training_image(data: Path, recipe: Recipe, nearest: bool = False) -> sitk.Image:
    """Return the CT, or its labels, as the recipe has it stored."""
    name = "example_ct_AMOS15_labels.nii.gz" if nearest else "example_ct.nii.gz"
    image = sitk.DICOMOrient(sitk.ReadImage(str(data / "volumes" / name)), recipe.orientation)
    return resampled(image, recipe.spacing_mm[::-1], nearest)


def channel_images(image: sitk.Image, recipe: Recipe) -> list[sitk.Image]:
    """Return one image a channel.

    With two, air around the trunk is 0 in both, as in a masked MR: nnU-Net then crops much away,
    and its planner z-scores over the rest.
    """
    images = [image]
    if len(recipe.channels) > 1:
        smooth = sitk.Cast(sitk.SmoothingRecursiveGaussian(image, 5.0), sitk.sitkInt16)
        body = sitk.Cast(smooth > -400, sitk.sitkInt16)
        images = [(one + 1024) * body for one in (image, smooth)]
    return images


def build(data: Path, recipe: Recipe) -> Path:
    """Return the results folder of `recipe`, from the cache where it is there."""
    key = hashlib.sha256(
        json.dumps([_VERSION, asdict(recipe)]).encode()
        + (data / "volumes" / "example_ct.nii.gz").read_bytes()
    ).hexdigest()[:16]
    home = CACHE / f"{recipe.name}-{key}"
    results = home / "results" / f"{TRAINER}__nnUNetPlans__3d_fullres"
    if not (home / "done").exists():
        shutil.rmtree(home, ignore_errors=True)
        _plan(data, recipe, home, results)
        _train(recipe, home, results, build(data, recipe.start_from) if recipe.start_from else None)
        (home / "done").touch()
    return results


def _plan(data: Path, recipe: Recipe, home: Path, results: Path) -> None:
    raw = home / "raw" / "Dataset001_Parity"
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    images = channel_images(training_image(data, recipe), recipe)
    for k, image in enumerate(images):
        sitk.WriteImage(image, str(raw / "imagesTr" / f"case_{k:04d}.nii.gz"))
    labels = training_image(data, recipe, nearest=True)
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
    extractor.DatasetFingerprintExtractor(1, num_processes=1).run()
    make = getattr(default_experiment_planner, recipe.planner, None) or getattr(
        residual, recipe.planner
    )
    planner = make(1, gpu_memory_target_in_gb=8, plans_name="nnUNetPlans")
    planner.UNet_base_num_features = recipe.features
    planner.UNet_max_features_3d = recipe.features * 8
    planner.UNet_reference_val_3d *= recipe.memory_share
    if recipe.planner != "ExperimentPlanner":  # three to six blocks a stage take too long here
        planner.UNet_blocks_per_stage_encoder = (1, 2, 2, 2, 2, 2, 2)
    planner.plan_experiment()
    results.mkdir(parents=True)
    shutil.copy(preprocessed / raw.name / "nnUNetPlans.json", results / "plans.json")
    shutil.copy(raw / "dataset.json", results)


def _train(recipe: Recipe, home: Path, results: Path, before: Path | None) -> None:
    """Overfit the one case by whole patches at random places, without augmentation."""
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
    image, labels = torch.from_numpy(data)[None], torch.from_numpy(seg).long()
    torch.manual_seed(0)
    network = nnUNetTrainer.build_network_architecture(
        plans, configuration, len(recipe.channels), len(NAMES), enable_deep_supervision=False
    )
    if before is not None:
        _begin_with(network, before)
    steps = recipe.steps
    for fold in range(recipe.folds):
        _fit(network.train(), image, labels, patch, steps, fold, recipe.flips)
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


def _fit(
    network: torch.nn.Module,
    image: torch.Tensor,
    labels: torch.Tensor,
    patch: list[int],
    steps: int,
    seed: int,
    flips: tuple[int, ...],
) -> None:
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, steps, pct_start=0.1)
    rarer = torch.ones(len(NAMES))
    rarer[0] = 0.2  # air and fat would be all that is learnt in so few steps
    room = [n - p for n, p in zip(image.shape[2:], patch, strict=True)]
    for step in range(steps):
        start = [int(rng.integers(0, r + 1)) for r in room]
        place = tuple(slice(s, s + p) for s, p in zip(start, patch, strict=True))
        flipped = [axis - 3 for axis in flips if rng.integers(2)]
        target = labels[(slice(None), *place)].flip(flipped)
        logits = network(image[(slice(None), slice(None), *place)].flip(flipped))
        probability = logits.softmax(1)
        truth = functional.one_hot(target, len(NAMES)).movedim(-1, 1)
        both = (probability * truth).sum((0, 2, 3, 4))
        sizes = (probability + truth).sum((0, 2, 3, 4))
        present = truth.sum((0, 2, 3, 4)) > 0
        dice = ((2 * both + 1) / (sizes + 1))[present].mean()
        loss = functional.cross_entropy(logits, target, rarer) - dice
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 40 == 39:
            print(f"step {step + 1}: loss {loss.item():.3f}", flush=True)

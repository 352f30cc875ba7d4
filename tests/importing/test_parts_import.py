"""Folders of several networks through the real child: torch's own logits are the judge."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet

from viscera import importing, models
from viscera.config import Settings, load_settings
from viscera.models.nnunet import GOLDEN_SEED, Request
from viscera.segment.golden import HALF

STRIDES = [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
ARGUMENTS: dict[str, Any] = {
    "n_stages": 3,
    "features_per_stage": [8, 16, 32],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3]] * 3,
    "strides": STRIDES,
    "n_conv_per_stage_decoder": [1, 1],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
KINDS = {
    "organs": (PlainConvUNet, {"n_conv_per_stage": [1, 1, 1]}, ["spleen", "lung_upper_lobe_left"]),
    "cardiac": (ResidualEncoderUNet, {"n_blocks_per_stage": [1, 1, 1]}, ["heart", "aorta"]),
}
PATCH = (16, 32, 24)


def network(kind: str) -> torch.nn.Module:
    torch.manual_seed(len(kind))
    made, more, labels = KINDS[kind]
    given = {**ARGUMENTS, **more, "conv_op": torch.nn.Conv3d, "nonlin": torch.nn.LeakyReLU}
    given["norm_op"] = torch.nn.InstanceNorm3d
    return made(
        input_channels=1, num_classes=len(labels) + 1, deep_supervision=False, **given
    ).eval()


def folder(tmp_path: Path, kind: str) -> Path:
    made, more, labels = KINDS[kind]
    path = tmp_path / kind / "nnUNetTrainerNoMirroring__nnUNetPlans__3d_fullres"
    (path / "fold_0").mkdir(parents=True)
    kwargs = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration = {
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": list(PATCH),
        "spacing": [1.5, 1.5, 1.5],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {**kwargs, "order": 3},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": kwargs,
        "architecture": {
            "network_class_name": f"{made.__module__}.{made.__name__}",
            "arch_kwargs": {**ARGUMENTS, **more},
        },
    }
    plans = {
        "dataset_name": kind,
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "NibabelIOWithReorient",
        "transpose_forward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
    }
    names = {"background": 0} | {name: k for k, name in enumerate(labels, start=1)}
    (path / "plans.json").write_text(json.dumps(plans))
    (path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}, "labels": names}))
    content = {
        "network_weights": network(kind).state_dict(),
        "init_args": {"configuration": "3d_fullres"},
        "trainer_name": "nnUNetTrainer_4000epochs_NoMirroring",
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(content, path / "fold_0" / "checkpoint_final.pth")
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = load_settings(None)
    repo = found.models.model_copy(update={"repo": tmp_path / "model_repo"})
    return found.model_copy(update={"models": repo})


def test_every_part_answers_as_torch_does_in_both_precisions(
    tmp_path: Path, settings: Settings
) -> None:
    first, second = (folder(tmp_path, kind) for kind in KINDS)
    request = Request(
        folder=first, further=(second,), name="total", version="1", totalsegmentator=3
    )
    model = importing.import_nnunet(request, settings)
    assert model == models.load_model(settings.models.repo, "total")
    assert [label.name for label in model.labels] == ["spleen", "aorta"]
    assert [part.outputs for part in model.parts] == [(0, 1, 0), (0, 0, 2)]
    shape = (1, 1, *PATCH)
    tile = np.random.default_rng(GOLDEN_SEED).standard_normal(shape, np.float32)
    for kind, part in zip(KINDS, model.parts, strict=True):
        with torch.inference_mode():
            theirs = network(kind)(torch.from_numpy(tile)).numpy()
        for path, tolerance in ((part.onnx, 1e-5), (part.half, HALF.logits)):
            assert path is not None
            session = onnxruntime.InferenceSession(str(path))
            (ours,) = session.run(None, {session.get_inputs()[0].name: tile})
            largest = np.abs(theirs).max()
            assert np.abs(ours - theirs).max() < tolerance * max(1.0, largest)
        assert part.half.stat().st_size < 0.6 * part.onnx.stat().st_size

"""Results folders: nnU-Net 2.2's layout gives the same network, damaged ones are refused."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from recipes import NAMES, PLAIN
from results_folder import build

from viscera import importing, models
from viscera.config import Settings, load_settings
from viscera.errors import ModelRefused
from viscera.models.nnunet import Request


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = load_settings(None)
    repo = found.models.model_copy(update={"repo": tmp_path / "model_repo"})
    return found.model_copy(update={"models": repo})


@pytest.fixture
def folder(shared_data: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(build(shared_data, PLAIN), tmp_path / "results"))


def request_of(folder: Path, **changed: object) -> Request:
    given = {"name": "net", "version": "1", "folds": ("0",), "orientation": "RAS", **changed}
    return Request(folder=folder, **given)


def edited(folder: Path, name: str, edit: Callable[[dict], object]) -> None:
    content = json.loads((folder / name).read_text())
    edit(content)
    (folder / name).write_text(json.dumps(content))


def checkpoint(folder: Path, edit: Callable[[dict], object]) -> None:
    path = folder / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    edit(content)
    torch.save(content, path)


class Code:
    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("open('/tmp/viscera-was-here', 'w')",))


def cut_off(folder: Path) -> None:
    path = folder / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def two_channels(folder: Path) -> None:
    edited(folder, "dataset.json", lambda d: d["channel_names"].update({"1": "CT"}))

    def twice(plans: dict) -> None:
        table = plans["configurations"]["3d_fullres"]
        table["normalization_schemes"] *= 2
        table["use_mask_for_norm"] *= 2
        intensities = plans["foreground_intensity_properties_per_channel"]
        intensities["1"] = intensities["0"]

    edited(folder, "plans.json", twice)


BAD = {
    "plans.json is missing": lambda f: (f / "plans.json").unlink(),
    "damaged or cut off": cut_off,
    "may be code": lambda f: checkpoint(f, lambda c: c.update(logging=Code())),
    "takes 1 channels, dataset.json names 2": two_channels,
    "answers 16 labels, dataset.json names 15": lambda f: edited(
        f, "dataset.json", lambda d: d["labels"].pop(NAMES[-1])
    ),
    "does not divide": lambda f: edited(
        f,
        "plans.json",
        lambda p: p["configurations"]["3d_fullres"].update(patch_size=[33, 28, 32]),
    ),
    "are not those of the PlainConvUNet": lambda f: checkpoint(
        f, lambda c: c["network_weights"].pop("encoder.stages.0.0.convs.0.conv.weight")
    ),
    "trainer Mine is none": lambda f: checkpoint(f, lambda c: c.update(trainer_name="Mine")),
    "is no checkpoint of nnU-Net": lambda f: checkpoint(f, lambda c: c.pop("init_args")),
    "has no fold 0": lambda f: shutil.rmtree(f / "fold_0"),
}


@pytest.mark.parametrize("says", BAD)
def test_a_bad_folder_is_refused_and_the_repository_stays(
    says: str, folder: Path, settings: Settings
) -> None:
    BAD[says](folder)
    repo = settings.models.repo
    with pytest.raises(ModelRefused, match=says):
        importing.import_nnunet(request_of(folder), settings)
    assert not list(repo.rglob("*"))
    assert not Path("/tmp/viscera-was-here").exists()


def test_a_trainer_that_is_trusted_is_taken(folder: Path, settings: Settings) -> None:
    checkpoint(folder, lambda c: c.update(trainer_name="Mine"))
    model = importing.import_nnunet(request_of(folder, trust_trainer=True), settings)
    assert models.load_model(settings.models.repo, "net") == model
    assert "trainer Mine" in (model.folder / "MODEL_CARD.md").read_text()


def test_the_layout_of_nnunet_2_2_is_the_same_network(folder: Path, settings: Settings) -> None:
    new = importing.import_nnunet(request_of(folder), settings)

    def as_2_2(plans: dict) -> None:
        table = plans["configurations"]["3d_fullres"]
        arguments = table.pop("architecture")["arch_kwargs"]
        table["UNet_class_name"] = "PlainConvUNet"
        table["UNet_base_num_features"] = arguments["features_per_stage"][0]
        table["unet_max_num_features"] = arguments["features_per_stage"][-1]
        table["n_conv_per_stage_encoder"] = arguments["n_conv_per_stage"]
        table["n_conv_per_stage_decoder"] = arguments["n_conv_per_stage_decoder"]
        table["pool_op_kernel_sizes"] = arguments["strides"]
        table["conv_kernel_sizes"] = arguments["kernel_sizes"]
        table["num_pool_per_axis"] = [2, 2, 2]

    edited(folder, "plans.json", as_2_2)
    old = importing.import_nnunet(request_of(folder, version="2.2"), settings)
    digests = [hashlib.sha256(one.golden.read_bytes()).hexdigest() for one in (new, old)]
    assert digests[0] == digests[1]  # torch's logits, bit for bit
    assert (old.spacing_mm, old.patch_size) == (new.spacing_mm, new.patch_size)


def test_folds_are_one_network_that_answers_their_mean(folder: Path, settings: Settings) -> None:
    import numpy as np

    logits = []
    for folds in (("0",), ("1",), ("0", "1")):
        version = "".join(folds)
        request = request_of(folder, folds=folds, version=version)
        model = importing.import_nnunet(request, settings)
        golden = models.read_golden(model)
        logits.append(golden.logits)
    np.testing.assert_allclose((logits[0] + logits[1]) / 2, logits[2], atol=1e-4)

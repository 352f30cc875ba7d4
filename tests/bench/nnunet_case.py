"""Make what `bench_nnunet.py` compares on: a results folder, its package, one volume.

Runs in the environment of `make test-parity`, with `tests/parity` on its path. The network is the
parity suite's, widened to nnU-Net's own 32 features by channels of zeros: it computes as much as
any of that width and answers as the small one that was trained. It is run on voxels half as wide
as those it was trained on, in patches of twice as many, which keep two cores busy for a while; what
it finds there is poor anatomy, but has organs and borders.
"""

import json
import shutil
import sys
from pathlib import Path

import SimpleITK as sitk
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from recipes import NAMES, PLAIN
from results_folder import build, resampled, training_image

from viscera import importing
from viscera.config import load_settings
from viscera.models.nnunet import Request

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SHAPE = (300, 512, 512)
FEATURES = 32
FINER = 2


def widen(folder: Path) -> None:
    """Give the network in `folder` `FEATURES` features, most of them zeros, and finer voxels."""
    plans = json.loads((folder / "plans.json").read_text())
    configuration = plans["configurations"]["3d_fullres"]
    configuration["spacing"] = [mm / FINER for mm in configuration["spacing"]]
    configuration["patch_size"] = [n * FINER for n in configuration["patch_size"]]
    table = configuration["architecture"]["arch_kwargs"]
    table["features_per_stage"] = [FEATURES * 2**k for k in range(table["n_stages"])]
    (folder / "plans.json").write_text(json.dumps(plans))
    manager = PlansManager(plans)
    network = nnUNetTrainer.build_network_architecture(
        manager, manager.get_configuration("3d_fullres"), 1, len(NAMES), False
    )
    path = folder / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    narrow = content["network_weights"]
    content["network_weights"] = {
        key: _embedded(narrow[key], torch.zeros_like(wide))
        for key, wide in network.state_dict().items()
    }
    content["init_args"]["plans"] = plans
    torch.save(content, path)


def _embedded(narrow: torch.Tensor, wide: torch.Tensor) -> torch.Tensor:
    """Put `narrow` at the beginning of `wide`; after a skip connection, of each of its halves."""
    halves = 2 if wide.ndim == 5 and wide.shape[1] == 2 * wide.shape[0] else 1
    for k in range(halves):
        source = narrow if wide.ndim == 1 else narrow.chunk(halves, 1)[k]
        target = wide if wide.ndim == 1 else wide.chunk(halves, 1)[k]
        target[tuple(slice(0, n) for n in source.shape)] = source
    return wide


def main(out: Path) -> None:
    """Write ``folder``, ``model_repo`` and ``image.nii.gz`` into `out`."""
    folder = out / "folder"
    shutil.copytree(build(DATA, PLAIN), folder)
    widen(folder)
    ct = training_image(DATA, PLAIN)
    spacing = [
        n * s / m for n, s, m in zip(ct.GetSize(), ct.GetSpacing(), SHAPE[::-1], strict=True)
    ]
    sitk.WriteImage(resampled(ct, tuple(spacing)), str(out / "image.nii.gz"))
    settings = load_settings(None)
    models = settings.models.model_copy(update={"repo": out / "model_repo"})
    request = Request(
        folder=folder,
        name="wide",
        version="1",
        folds=("0",),
        orientation=PLAIN.orientation,
        mirroring=False,
    )
    importing.import_nnunet(request, settings.model_copy(update={"models": models}))
    print("{}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

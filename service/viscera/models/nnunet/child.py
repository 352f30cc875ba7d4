"""The process that opens checkpoints: ``python -m viscera.models.nnunet.child ORDER OUT``.

ORDER is JSON. OUT gets ``answer.json`` (facts, or ``refused``), ``model.onnx`` and
``logits.npy``. It alone imports torch, the extra ``import``.
"""

import json
import sys
from pathlib import Path
from typing import Any

from viscera.errors import ModelRefused
from viscera.models.nnunet.plans import read_configuration
from viscera.models.nnunet.trainers import is_known_trainer


def main(order: dict[str, Any], out: Path) -> None:
    """Do the order, or say why not."""
    try:
        answer = _import(order, out)
    except ModelRefused as error:
        answer = {"refused": str(error)}
    (out / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


def _import(order: dict[str, Any], out: Path) -> dict[str, Any]:
    folder = Path(order["folder"])
    folds = _folds(folder, order["folds"], order["checkpoint"])
    torch_side = _torch_side()
    read = [torch_side.read_checkpoint(path) for path in folds.values()]
    first = read[0]
    for path, other in zip(folds.values(), read, strict=True):
        if (other.trainer, other.configuration) != (first.trainer, first.configuration):
            raise ModelRefused(
                f"{path} is of trainer {other.trainer}, configuration {other.configuration}; the"
                f" first fold is of {first.trainer}, {first.configuration}"
            )
    if not (is_known_trainer(first.trainer) or order["trust_trainer"]):
        raise ModelRefused(
            f"trainer {first.trainer} is none of nnU-Net's own that keep to the plans; if it"
            " changes neither the network nor the preprocessing, say --trust-trainer"
        )
    found = read_configuration(folder, first.configuration)
    torch_side.export(found, [one.weights for one in read], order["seed"], out)
    return {
        "configuration": first.configuration,
        "trainer": first.trainer,
        "mirror_axes": first.mirror_axes,
        "folds": list(folds),
        **_names(folder),
    }


def _folds(folder: Path, wanted: list[str], checkpoint: str) -> dict[str, Path]:
    """Return the checkpoint of each fold."""
    if Path(checkpoint).name != checkpoint:
        raise ModelRefused(f"checkpoint {checkpoint!r} must be a file's name")
    there = {
        path.parent.name.removeprefix("fold_"): path
        for path in sorted(folder.glob(f"fold_*/{checkpoint}"))
    }
    names = wanted or [name for name in there if name.isdecimal()] or list(there)
    if missing := [name for name in names if name not in there]:
        raise ModelRefused(
            f"{folder} has no fold {', '.join(missing)} with {checkpoint}; there are"
            f" {', '.join(there) or 'none'}"
        )
    if not names:
        raise ModelRefused(f"{folder} has no fold_*/{checkpoint}; give --checkpoint or --folds")
    return {name: there[name] for name in names}


def _names(folder: Path) -> dict[str, str]:
    plans = json.loads((folder / "plans.json").read_text(encoding="utf-8"))
    return {"dataset": str(plans.get("dataset_name")), "plans": str(plans.get("plans_name"))}


def _torch_side() -> Any:
    try:
        from viscera.models.nnunet import export
    except ImportError as error:
        raise ModelRefused(
            f"importing needs the extra `import`: {error}; pip install 'viscera[import]'"
        ) from error
    return export


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]))

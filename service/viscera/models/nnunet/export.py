"""Checkpoints to networks, networks to ONNX. The only module of the service with torch."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet

from viscera.errors import ModelRefused
from viscera.models.nnunet.plans import Configuration

_OPSET = 17
_MOST_BYTES = 1_900_000_000
"""A protobuf, and so an ONNX file, ends at 2 GiB."""
_NETWORKS = {"PlainConvUNet": PlainConvUNet, "ResidualEncoderUNet": ResidualEncoderUNet}
_MODULES = {
    "Conv3d": torch.nn.Conv3d,
    "InstanceNorm3d": torch.nn.InstanceNorm3d,
    "LeakyReLU": torch.nn.LeakyReLU,
    "ReLU": torch.nn.ReLU,
    "Dropout3d": torch.nn.Dropout3d,
}
_SCALAR: Any = np._core.multiarray.scalar  # type: ignore[attr-defined]  # numpy's own stubs hide it
# What nnU-Net's training log holds beside tensors; numpy 1 and 2 name it differently.
_ALLOWED: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "bool")),
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """What a checkpoint says that is of use."""

    trainer: str
    configuration: str
    mirror_axes: list[int]
    weights: dict[str, torch.Tensor]


class Ensemble(torch.nn.Module):  # type: ignore[misc]  # torch is not where mypy runs
    """The mean of several networks' logits: nnU-Net's way to join folds.

    It takes the mean after the sliding window; tiles are weighted alike for every fold, so that
    is the same.
    """

    def __init__(self, networks: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self.networks = torch.nn.ModuleList(networks)

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Return (tile, output, z, y, x)."""
        total: torch.Tensor = self.networks[0](tiles)
        for network in self.networks[1:]:
            total = total + network(tiles)
        return total / len(self.networks)


def read_checkpoint(path: Path) -> Checkpoint:
    """Open one checkpoint: tensors, plain values and numpy scalars, nothing else.

    Raises
    ------
    ModelRefused
        If it is damaged, asks for code, or lacks what nnU-Net writes.
    """
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelRefused(
            f"{path} asks for more than tensors and numbers when it is opened, which may be code:"
            f" {_first_line(error)}; it was not opened"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise ModelRefused(f"{path} is damaged or cut off: {_first_line(error)}") from error
    try:
        return Checkpoint(
            trainer=str(content["trainer_name"]),
            configuration=str(content["init_args"]["configuration"]),
            mirror_axes=[int(k) for k in content.get("inference_allowed_mirroring_axes") or ()],
            weights=dict(content["network_weights"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelRefused(
            f"{path} is no checkpoint of nnU-Net v2 ({type(error).__name__}: {error})"
        ) from error


def export(
    found: Configuration, weights: Sequence[Mapping[str, torch.Tensor]], seed: int, out: Path
) -> None:
    """Write ``model.onnx`` and, for the golden input, ``logits.npy``.

    Raises
    ------
    ModelRefused
        If the weights are not those of the network that the plans describe.
    """
    ensemble = Ensemble([_network(found, one) for one in weights]).eval()
    size = sum(p.numel() * p.element_size() for p in ensemble.parameters())
    if size > _MOST_BYTES:
        raise ModelRefused(
            f"{len(weights)} folds are {size / 1e9:.1f} GB of weights, one ONNX file holds"
            f" {_MOST_BYTES / 1e9:.1f}; take fewer --folds"
        )
    shape = (1, len(found.channels), *found.patch_size)
    golden = torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, np.float32))
    with torch.inference_mode():
        np.save(out / "logits.npy", ensemble(golden).numpy())
    axes = {0: "tile", 2: "z", 3: "y", 4: "x"}
    with warnings.catch_warnings():
        # The older exporter, chosen for its plain graph, says that it is the older exporter.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            ensemble,
            (torch.zeros(1, len(found.channels), *_smallest_patch(found)),),
            str(out / "model.onnx"),
            dynamo=False,
            opset_version=_OPSET,
            input_names=["input"],
            output_names=["logits"],
            dynamic_axes={"input": axes, "logits": axes},
        )


def _smallest_patch(found: Configuration) -> list[int]:
    """Return a patch that can be traced quickly: four voxels at the lowest resolution."""
    strides = np.array(found.network_arguments["strides"])
    return [int(n) for n in strides.prod(axis=0) * 4]


def _network(found: Configuration, weights: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    _refuse_sizes(found, weights)
    try:
        network: torch.nn.Module = _NETWORKS[found.network](
            input_channels=len(found.channels),
            num_classes=len(found.labels),
            deep_supervision=False,
            **_arguments(found),
        )
        network.load_state_dict(dict(weights))
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise ModelRefused(
            f"the checkpoint's weights are not those of the {found.network} in plans.json:"
            f" {' '.join(line.strip() for line in lines[:3])[:400]}"
        ) from error
    return network


def _refuse_sizes(found: Configuration, weights: Mapping[str, torch.Tensor]) -> None:
    """Say in nnU-Net's words what load_state_dict would say in torch's."""
    inputs = next((w.shape[1] for w in weights.values() if w.ndim == 5), None)
    if inputs != len(found.channels):
        raise ModelRefused(
            f"the checkpoint's network takes {inputs} channels, dataset.json names"
            f" {len(found.channels)} ({', '.join(found.channels)})"
        )
    heads = [w.shape[0] for key, w in weights.items() if ".seg_layers." in key and w.ndim == 5]
    if set(heads) != {len(found.labels)}:
        raise ModelRefused(
            f"the checkpoint's network answers {heads[-1] if heads else 'no'} labels, dataset.json"
            f" names {len(found.labels)} with background"
        )


def _arguments(found: Configuration) -> dict[str, Any]:
    arguments = dict(found.network_arguments)
    for key in ("conv_op", "norm_op", "dropout_op", "nonlin"):
        name = arguments.get(key)
        if name is None:
            continue
        module = _MODULES.get(str(name).rsplit(".", 1)[-1])
        if module is None:
            raise ModelRefused(f"{key} {name} is unknown; {', '.join(_MODULES)} are known")
        arguments[key] = module
    arguments.pop("deep_supervision", None)
    return arguments


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]

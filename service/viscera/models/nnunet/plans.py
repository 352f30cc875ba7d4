"""What dataset.json and plans.json say, checked: only what the run-time can honour passes."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from viscera.errors import ModelRefused

NETWORKS = ("PlainConvUNet", "ResidualEncoderUNet")
_NORMALISATION = {
    "CTNormalization": "ct",
    "ZScoreNormalization": "zscore",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "minmax",
}
_RESAMPLING = "resample_data_or_seg_to_shape"
_REORIENTING = {"NibabelIOWithReorient": "RAS", "SimpleITKIOWithReorient": "RAS"}
_STORED_AS_IS = ("SimpleITKIO", "NibabelIO")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """One of nnU-Net's resampling functions with its arguments."""

    order: int
    apart_order: int
    apart_above: float | None
    """None: no axis is ever apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One configuration of a plans.json. Sizes and spacings are after nnU-Net's transposition."""

    name: str
    channels: tuple[str, ...]
    labels: dict[str, int]
    """Background included, the ignore label not."""
    spacing_mm: tuple[float, ...]
    patch_size: tuple[int, ...]
    transpose_forward: tuple[int, ...]
    normalisation: tuple[dict[str, Any], ...]
    """One manifest table for each channel."""
    image: Resampling
    logits: Resampling
    orientation: str | None
    """Three letters where the reader turns every image, e.g. ``RAS``; None: stored as it was."""
    network: str
    """One of `NETWORKS`."""
    network_arguments: dict[str, Any]


def read_configuration(folder: Path, name: str) -> Configuration:
    """Read one configuration of a results folder.

    Raises
    ------
    ModelRefused
        If a file is missing or not what nnU-Net writes, or asks for what cannot be served.
    """
    dataset, plans = _read(folder / "dataset.json"), _read(folder / "plans.json")
    try:
        return _configuration(dataset, plans, name)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelRefused(
            f"{folder}: dataset.json and plans.json are not what nnU-Net v2 writes"
            f" ({type(error).__name__}: {error})"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelRefused(
            f"{path} is missing; give the folder that holds dataset.json, plans.json and fold_*"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelRefused(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelRefused(f"{path} holds no JSON object")
    return content


def _configuration(dataset: dict[str, Any], plans: dict[str, Any], name: str) -> Configuration:
    found = _inherited(plans["configurations"], name)
    _refuse_unlike_default(plans, found, name)
    network, arguments = _architecture(found)
    patch = tuple(int(n) for n in found["patch_size"])
    _refuse_indivisible(patch, arguments["strides"])
    channels = dataset.get("channel_names") or dataset["modality"]
    channels = tuple(str(channels[str(k)]) for k in range(len(channels)))
    return Configuration(
        name=name,
        channels=channels,
        labels=_labels(dataset),
        spacing_mm=tuple(float(mm) for mm in found["spacing"]),
        patch_size=patch,
        transpose_forward=tuple(int(k) for k in plans["transpose_forward"]),
        normalisation=_normalisation(plans, found, len(channels)),
        image=_resampling(found, "resampling_fn_data", (0, 1, 3)),
        logits=_resampling(found, "resampling_fn_probabilities", (0, 1)),
        orientation=_orientation(plans),
        network=network,
        network_arguments=arguments,
    )


def _inherited(configurations: Mapping[str, Any], name: str) -> dict[str, Any]:
    if name not in configurations:
        raise ModelRefused(
            f"plans.json has no configuration {name}, only {', '.join(configurations)}"
        )
    chain: list[tuple[str, dict[str, Any]]] = []
    at = name
    while at:
        if any(at == seen for seen, _ in chain):
            raise ModelRefused(f"configuration {name} inherits from itself")
        chain.append((at, configurations[at]))
        at = configurations[at].get("inherits_from", "")
    return {key: value for _, table in reversed(chain) for key, value in table.items()}


def _refuse_unlike_default(plans: Mapping[str, Any], found: Mapping[str, Any], name: str) -> None:
    if len(found["patch_size"]) != 3:
        raise ModelRefused(
            f"configuration {name} is 2d: it sees slices, and the run-time cuts volumes into 3-D"
            " tiles; import a 3d_fullres or 3d_lowres one"
        )
    if found.get("previous_stage"):
        raise ModelRefused(
            f"configuration {name} is the second stage of a cascade: it needs the answer of"
            f" {found['previous_stage']} as input, which the run-time does not feed; import that"
            " one, or 3d_fullres"
        )
    preprocessor = found.get("preprocessor_name", "DefaultPreprocessor")
    if preprocessor != "DefaultPreprocessor":
        raise ModelRefused(f"preprocessor {preprocessor} is unknown; DefaultPreprocessor is known")
    manager = plans.get("label_manager", "LabelManager")
    if manager != "LabelManager":
        raise ModelRefused(f"label manager {manager} is unknown; LabelManager is known")


def _refuse_indivisible(patch: tuple[int, ...], strides: list[list[int]]) -> None:
    for axis, size in enumerate(patch):
        factor = math.prod(int(stride[axis]) for stride in strides)
        if size % factor:
            raise ModelRefused(
                f"the patch is {patch}, and {size} along axis {axis} does not divide by {factor},"
                " which the network's strides need; the plans were edited or are damaged"
            )


def _labels(dataset: Mapping[str, Any]) -> dict[str, int]:
    labels = {name: value for name, value in dataset["labels"].items() if name != "ignore"}
    regions = [name for name, value in labels.items() if isinstance(value, list)]
    if regions or dataset.get("regions_class_order"):
        raise ModelRefused(
            f"the labels are regions ({', '.join(regions) or 'regions_class_order'}): such a"
            " network answers overlapping masks, and the run-time takes the winner of exclusive"
            " ones"
        )
    if sorted(map(int, labels.values())) != list(range(len(labels))):
        raise ModelRefused(f"labels must count from 0 without gaps, not {list(labels.values())}")
    return {str(name): int(value) for name, value in labels.items()}


def _normalisation(
    plans: Mapping[str, Any], found: Mapping[str, Any], channels: int
) -> tuple[dict[str, Any], ...]:
    names, masks = found["normalization_schemes"], found["use_mask_for_norm"]
    if len(names) != channels or len(masks) != channels:
        raise ModelRefused(
            f"dataset.json names {channels} channels, plans.json normalises {len(names)}"
        )
    intensities = plans.get("foreground_intensity_properties_per_channel")
    if intensities is None:  # before nnU-Net 2.1
        intensities = plans.get("foreground_intensity_properties_by_modality", {})
    return tuple(
        _scheme(name, bool(masked), intensities.get(str(k), {}))
        for k, (name, masked) in enumerate(zip(names, masks, strict=True))
    )


def _scheme(name: str, masked: bool, intensities: Mapping[str, Any]) -> dict[str, Any]:
    if name not in _NORMALISATION:
        raise ModelRefused(
            f"normalisation {name} is unknown; {', '.join(_NORMALISATION)} are known"
        )
    table: dict[str, Any] = {"scheme": _NORMALISATION[name]}
    if table["scheme"] == "zscore" and masked:
        table["masked"] = True
    if table["scheme"] == "ct":
        table["lower"] = float(intensities["percentile_00_5"])
        table["upper"] = float(intensities["percentile_99_5"])
        table["mean"] = float(intensities["mean"])
        table["sd"] = max(float(intensities["std"]), 1e-8)
    return table


def _resampling(found: Mapping[str, Any], key: str, orders: tuple[int, ...]) -> Resampling:
    function, given = found[key], found[f"{key}_kwargs"]
    known = {"is_seg", "order", "order_z", "force_separate_z", "separate_z_anisotropy_threshold"}
    order, apart = int(given.get("order", 3)), int(given.get("order_z", 0))
    forced = given.get("force_separate_z", False)
    if (
        function != _RESAMPLING
        or set(given) - known
        or given.get("is_seg")
        or forced not in (None, False)
        or order not in orders
        or apart not in (0, 1)
    ):
        raise ModelRefused(
            f"{key} is {function} with {given}; known is {_RESAMPLING} of order"
            f" {' or '.join(map(str, orders))}, with order_z 0 or 1 and an axis apart by the"
            " anisotropy alone"
        )
    above = None if forced is False else float(given.get("separate_z_anisotropy_threshold", 3.0))
    return Resampling(order=order, apart_order=apart, apart_above=above)


def _orientation(plans: Mapping[str, Any]) -> str | None:
    reader = plans["image_reader_writer"]
    if reader in _REORIENTING:
        return _REORIENTING[reader]
    if reader not in _STORED_AS_IS:
        known = ", ".join((*_REORIENTING, *_STORED_AS_IS))
        raise ModelRefused(f"image reader {reader} is unknown; {known} are known")
    return None


def _architecture(found: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if "architecture" not in found:
        return _old_architecture(found)
    table = found["architecture"]
    network = str(table["network_class_name"]).rsplit(".", 1)[-1]
    return _known_network(network), dict(table["arch_kwargs"])


def _old_architecture(found: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return what nnU-Net up to 2.2 built from the loose keys of its plans."""
    network = _known_network(str(found["UNet_class_name"]))
    convolutions = list(found["n_conv_per_stage_encoder"])
    stages = len(convolutions)
    base, most = int(found["UNet_base_num_features"]), int(found["unet_max_num_features"])
    encoder = "n_conv_per_stage" if network == "PlainConvUNet" else "n_blocks_per_stage"
    return network, {
        "n_stages": stages,
        "features_per_stage": [min(base * 2**k, most) for k in range(stages)],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": found["conv_kernel_sizes"],
        "strides": found["pool_op_kernel_sizes"],
        encoder: convolutions,
        "n_conv_per_stage_decoder": found["n_conv_per_stage_decoder"],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def _known_network(name: str) -> str:
    if name not in NETWORKS:
        raise ModelRefused(f"network {name} is unknown; {' and '.join(NETWORKS)} are known")
    return name

"""The band model: a network whose right answer is known for every input.

One 1x1x1 convolution, 1 -> 16 channels, at native spacing. Channel k is the line
``k * x - (m_1 + ... + m_k)`` over the HU x, so lines k-1 and k cross at m_k and the highest line
at x is the number of borders m below x. Borders are half-integers, whole HU never tie, and every
number here is exact in float32 (below 2^16 in steps of 1/2): neighbours differ by at least 0.5.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from viscera import models
from viscera.domain.models import Golden, Model

NAME, VERSION = "band", "1"

BORDERS_HU = (
    *(-300.5, -200.5, -120.5, -80.5, -40.5, -10.5, 0.5, 15.5),
    *(30.5, 45.5, 60.5, 90.5, 140.5, 220.5, 500.5),
)
"""Between label k - 1 and label k; air and padding (-1024) lie in band 0, the background."""

SLOPES = np.arange(len(BORDERS_HU) + 1, dtype=np.float32)
OFFSETS = -np.concatenate([[0.0], np.cumsum(BORDERS_HU)]).astype(np.float32)


def expected_labels(hu: np.ndarray) -> np.ndarray:
    """Return the label of each HU, by counting borders; nothing of the network takes part."""
    return np.digitize(hu, BORDERS_HU).astype(np.uint8)


def write_band_package(
    repo: Path,
    patch: tuple[int, int, int] = (32, 64, 64),
    axes: str = "SPL",
    step: float = 0.5,
    **output: Any,
) -> Model:
    """Write the package into `repo`/band/1 and return it loaded.

    Parameters
    ----------
    output
        Further keys of the manifest's top level or, for the tables ``input``, ``tiles``,
        ``output`` and ``verdict``, mappings that are merged into them.
    """
    manifest: dict[str, Any] = {
        "format": 1,
        "name": NAME,
        "version": VERSION,
        "grade": "research",
        "licence": "Apache-2.0",
        "intended_use": "Tests: labels are bands of HU, not organs.",
        "training_data": "none",
        "accuracy": "exact by construction",
        "input": {
            "modalities": ["CT", "MR"],
            "axes": axes,
            "normalisation": {"CT": {"scheme": "none"}, "MR": {"scheme": "none"}},
        },
        "tiles": {"patch_size": list(patch), "step": step},
        "output": {"labels": "amos15"},
    }
    for key, value in output.items():
        merged = isinstance(value, Mapping)
        manifest[key] = {**manifest.get(key, {}), **value} if merged else value
    # Its labels bear organs' names and lie where the HU say.
    manifest.setdefault("verdict", {"sides": False})
    return models.write_package(
        repo / manifest["name"] / manifest["version"],
        manifest,
        onnx=band_onnx(),
        make_golden=band_golden,
        card="# Band model\n\nFor tests. Its labels are bands of HU.\n",
    )


def band_onnx() -> bytes:
    """Return the network: (tile, 1, z, y, x) to (tile, 16, z, y, x), any size."""
    labels = len(SLOPES)
    shape = ["tile", None, "z", "y", "x"]
    graph = helper.make_graph(
        [
            helper.make_node(
                "Conv", ["image", "slopes", "offsets"], ["logits"], kernel_shape=[1] * 3
            )
        ],
        "band",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [shape[0], 1, *shape[2:]])],
        [
            helper.make_tensor_value_info(
                "logits", TensorProto.FLOAT, [shape[0], labels, *shape[2:]]
            )
        ],
        [
            numpy_helper.from_array(SLOPES.reshape(labels, 1, 1, 1, 1), "slopes"),
            numpy_helper.from_array(OFFSETS, "offsets"),
        ],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(network, full_check=True)
    return network.SerializeToString(deterministic=True)


def band_golden(model: Model, seed: int = 7) -> Golden:
    """Return the golden tile by arithmetic: no run-time is trusted to say what is right."""
    tile = np.random.default_rng(seed).standard_normal((1, 1, *model.patch_size), np.float32)[0, 0]
    logits = SLOPES[:, None, None, None] * tile + OFFSETS[:, None, None, None]
    count = min(2000, logits.size)
    sample = np.sort(np.random.default_rng([seed, 1]).choice(logits.size, count, replace=False))
    return Golden(
        seed=seed,
        argmax=expected_labels(tile),
        sample=sample.astype(np.int64),
        logits=logits.reshape(-1)[sample],
    )

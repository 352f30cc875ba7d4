"""Trained weights to `model.onnx`, checked against torch."""

import io
import warnings

import numpy as np
import onnxruntime
import torch

from viscera.errors import ModelRefused
from viscera.training.network import UNet
from viscera.training.recipe import Recipe

_OPSET = 17
_TOLERANCE = 1e-3
"""Of the largest logit, between torch and ONNX Runtime."""


def export_onnx(network: UNet, recipe: Recipe) -> bytes:
    """Return the network as ONNX: ``input`` (tile, 1, z, y, x) to ``logits``, both float32.

    Raises
    ------
    ModelRefused
        If ONNX Runtime does not answer as torch does.
    """
    network = network.eval().to(memory_format=torch.contiguous_format)
    tile = torch.randn(2, 1, *recipe.patch_size, generator=torch.Generator().manual_seed(0))
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The older exporter, chosen for its plain graph, says that it is the older exporter.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (tile,),
            buffer,
            dynamo=False,
            opset_version=_OPSET,
            input_names=["input"],
            output_names=["logits"],
            dynamic_axes={"input": {0: "tile"}, "logits": {0: "tile"}},
        )
    content = buffer.getvalue()
    _compare(network, content, tile)
    return content


def _compare(network: UNet, content: bytes, tile: torch.Tensor) -> None:
    with torch.no_grad():
        expected = network(tile).numpy()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"input": tile.numpy()})
    worst = float(np.abs(found - expected).max() / np.abs(expected).max())
    if worst > _TOLERANCE:
        raise ModelRefused(
            f"the exported network differs from the trained one by {worst:.2g} of the largest "
            f"logit, at most {_TOLERANCE} was expected; do not ship it"
        )

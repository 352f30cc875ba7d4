"""Go on from a package's weights: to add volumes of one's own, or another pool of bodies."""

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper

from viscera.errors import ModelRefused
from viscera.training.network import UNet

_NOT_EXPORTED = ("half_head.",)
"""Only training has it, so it starts anew."""


def load_weights(network: UNet, package: Path) -> None:
    """Give `network` the weights of ``package/model.onnx``, whose names are torch's.

    Raises
    ------
    ModelRefused
        If the package's network is not of this recipe: other names or shapes.
    """
    file = package / "model.onnx"
    if not file.is_file():
        raise ModelRefused(f"{package} holds no model.onnx; name a folder such as NAME/VERSION")
    found = {one.name: numpy_helper.to_array(one) for one in onnx.load(file).graph.initializer}
    wanted = {
        name: tuple(value.shape)
        for name, value in network.state_dict().items()
        if not name.startswith(_NOT_EXPORTED)
    }
    if {name: array.shape for name, array in found.items()} != wanted:
        raise ModelRefused(f"the network of {package} is not the recipe's: start without it")
    weights = {name: torch.from_numpy(array.copy()) for name, array in found.items()}
    network.load_state_dict(weights, strict=False)

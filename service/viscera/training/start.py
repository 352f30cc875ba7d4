"""Go on from a package's weights: to add volumes of one's own, or another pool of bodies."""

import hashlib
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper

from viscera.errors import ModelRefused
from viscera.training.network import UNet

_NOT_EXPORTED = ("half_head.",)
"""Only training has it, so it starts anew."""


def load_weights(network: UNet, package: Path) -> str:
    """Give `network` the weights of ``package/model.onnx``, whose names are torch's.

    Returns
    -------
    str
        Which weights these were, for the card: folders and digest.

    Raises
    ------
    ModelRefused
        If the package's network is not of this recipe: other names or shapes.
    """
    file = package / "model.onnx"
    if not file.is_file():
        raise ModelRefused(f"{package} holds no model.onnx; name a folder such as NAME/VERSION")
    content = file.read_bytes()
    initializers = onnx.load_from_string(content).graph.initializer
    found = {one.name: numpy_helper.to_array(one) for one in initializers}
    wanted = {
        name: tuple(value.shape)
        for name, value in network.state_dict().items()
        if not name.startswith(_NOT_EXPORTED)
    }
    if {name: array.shape for name, array in found.items()} != wanted:
        raise ModelRefused(f"the network of {package} is not the recipe's: start without it")
    weights = {name: torch.from_numpy(array.copy()) for name, array in found.items()}
    network.load_state_dict(weights, strict=False)
    digest = hashlib.sha256(content).hexdigest()
    return f"{'/'.join(package.resolve().parts[-2:])} (sha256 {digest[:16]})"

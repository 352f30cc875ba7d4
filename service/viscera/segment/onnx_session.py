"""What ONNX Runtime's engines share: loading a network, and holding it against the manifest."""

from collections.abc import Sequence
from typing import Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from viscera.domain.models import Model
from viscera.errors import ModelRefused

_LOAD_ERRORS = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


def open_session(model: Model, options: Any, providers: Sequence[Any]) -> Any:
    """Return a session of the model's network.

    Raises
    ------
    ModelRefused
        If ONNX Runtime does not take it.
    """
    try:
        # Else a GPU's failure is printed, and the CPU's is what we are told.
        return onnxruntime.InferenceSession(
            str(model.onnx), options, providers=providers, enable_fallback=0
        )
    except _LOAD_ERRORS as error:
        raise ModelRefused(
            f"the network of {model.full_name} cannot be loaded by ONNX Runtime"
            f" {onnxruntime.__version__}: {error}"
        ) from error


def check_signature(session: Any, model: Model) -> int | None:
    """Return the batch size that the network is fixed to, None where it takes any.

    Raises
    ------
    ModelRefused
        If inputs and outputs are not one array each of the manifest's shape.
    """
    expected = {
        "input": (session.get_inputs(), len(model.channels)),
        "output": (session.get_outputs(), model.output_count),
    }
    batches = set()
    for what, (nodes, channels) in expected.items():
        shape = nodes[0].shape if len(nodes) == 1 and nodes[0].type == "tensor(float)" else []
        wanted = (channels, *model.patch_size)
        if len(shape) != 5 or any(
            isinstance(seen, int) and seen != size
            for seen, size in zip(shape[1:], wanted, strict=True)
        ):
            raise ModelRefused(
                f"{what}s of the network of {model.full_name} are"
                f" {[(node.type, node.shape) for node in nodes]}; one float32 array"
                f" (tile, {', '.join(map(str, wanted))}) was expected"
            )
        batches.add(shape[0] if isinstance(shape[0], int) else None)
    return next((size for size in batches if size is not None), None)

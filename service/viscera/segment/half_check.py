"""A network typed for half precision, and proof that it still answers its golden tile.

ONNX Runtime on the CPU rounds where the types say so, as a GPU's stores do; only its sums are
kept more exactly.
"""

import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import onnx

from viscera.domain.models import Golden, Model
from viscera.segment.golden import HALF, check
from viscera.segment.half import to_half
from viscera.segment.onnx_cpu import OnnxCpuEngine


def typed_and_checked(model: Model, golden: Golden, threads: int) -> bytes:
    """Return the network of `model` as ONNX in half precision.

    Raises
    ------
    ModelRefused
        If a weight is beyond half precision's range, or the answer to the golden tile is farther
        off than half precision may be.
    """
    typed: bytes = to_half(onnx.load(model.onnx)).SerializeToString(deterministic=True)
    with tempfile.TemporaryDirectory(prefix="viscera-half-") as folder:
        path = Path(folder) / "half.onnx"
        path.write_bytes(typed)
        half = replace(model, onnx=path)
        with closing(OnnxCpuEngine(half, threads=threads, tile_batch=1)) as engine:
            check(engine, half, golden, tolerance=HALF)
    return typed

"""Tiles, weights, kernels, engines: a prepared volume becomes a label map.

In: a `ModelImage` on the model's grid, a `Model`, an `Engine`, and a view of the label map to
fill. Out: that label map, uint8, on the source grid; logits never exist there.
Fails: `ModelRefused` (golden tile, shapes, logits that are not finite), `HostMemoryFull`,
`DeviceUnavailable`, `DeviceLost`, `DeviceMemoryFull`,
`GeometryMismatch` (arrays that are not what `segment` takes), `InvalidSettings` (Numba's
threads, rival ONNX Runtimes).

Numba is imported late, by `warm_up` or the first `segment`; `configure_numba` comes before.
"""

from viscera.segment import golden, merge
from viscera.segment.building import BuildTurn
from viscera.segment.engine import Engine, faults_of, stream_of
from viscera.segment.ladder import start_engine
from viscera.segment.memory import require_memory
from viscera.segment.run import segment
from viscera.segment.runtime import configure_numba, warm_up
from viscera.segment.slot import EngineSlot

__all__ = [
    "BuildTurn",
    "Engine",
    "EngineSlot",
    "configure_numba",
    "faults_of",
    "golden",
    "merge",
    "require_memory",
    "segment",
    "start_engine",
    "stream_of",
    "warm_up",
]

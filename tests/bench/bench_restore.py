"""Time the way back to the source grid, and weigh `segment`; one JSON row a line.

``restore``: 16 labels from a 1.5 mm grid (250 x 256 x 256) to 300 slices of 512 x 512. Ours is
`Ring.finish` and `Restorer.write`; the peer is an ONNX graph Resize -> ArgMax -> Cast that works
by slab, in OpenVINO where that is installed and faster, else in ONNX Runtime. Both get their
logits in memory, and must agree.

``peak_memory_mb``: high-water mark of a process that runs `segment` to 300 x 512 x 512 with 16
labels and patches of 128 cubed, with everything: interpreter, kernels, volume, label map, one
tile's logits. The peer is computed, not run: the float32 logits at full resolution alone.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parents[1]))
from segment_fakes import FunctionEngine, make_model
from viscera.segment import segment, warm_up

LABELS = 16
MODEL_GRID = (250, 256, 256)
SOURCE_GRID = (300, 512, 512)
SLAB = 25  # planes; 5 of them become 6 slices
HALO = 5
ROUNDS = 3

Run = Callable[[np.ndarray, bool, bool], np.ndarray]


def organ_logits(out: np.ndarray) -> None:
    """Fill `out` (label, z, y, x) with blobs of organ size, and noise that frays their borders."""
    rng = np.random.default_rng(0)
    z, y, x = (np.arange(n, dtype=np.float32) for n in out.shape[1:])
    out[0] = 0
    for k in range(1, len(out)):
        centre = rng.uniform(0.2, 0.8, 3) * out.shape[1:]
        radius = rng.uniform(12, 45)
        distance = np.sqrt(
            ((z - centre[0]) ** 2)[:, None, None]
            + ((y - centre[1]) ** 2)[:, None]
            + (x - centre[2]) ** 2
        )
        out[k] = (radius - distance) / 3
    for plane in range(out.shape[1]):
        out[:, plane] += 0.3 * rng.standard_normal((len(out), *out.shape[2:]), np.float32)


def ours(logits_of: Callable[[np.ndarray], None]) -> tuple[float, np.ndarray, np.ndarray]:
    """Return seconds, the label map and the logits that it was made of."""
    from viscera.segment import tables
    from viscera.segment.restore import Restorer
    from viscera.segment.ring import Ring
    from viscera.segment.tiles import TileGrid

    tiles = TileGrid.cover(MODEL_GRID, MODEL_GRID, 1.0)
    z, y, x = (tables.linear(a, b) for a, b in zip(MODEL_GRID, SOURCE_GRID, strict=True))
    labels = np.zeros(SOURCE_GRID, np.uint8)
    ring = Ring(tiles, LABELS)
    logits_of(ring.sums)
    seconds = []
    for _ in range(ROUNDS):
        ring.final = 0
        start = time.perf_counter()
        ring.finish(MODEL_GRID[0])
        Restorer(ring, (z, y, x), labels).write()
        seconds.append(time.perf_counter() - start)
    return min(seconds), labels, ring.sums


def graph(planes: int) -> bytes:
    """Resize `planes` planes to the source grid, then take the winner."""
    sizes = np.array([1, LABELS, planes * 6 // 5, *SOURCE_GRID[1:]], np.int64)
    nodes = [
        helper.make_node(
            "Resize",
            ["logits", "", "", "sizes"],
            ["large"],
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        ),
        helper.make_node("ArgMax", ["large"], ["winner"], axis=1, keepdims=0),
        helper.make_node("Cast", ["winner"], ["labels"], to=TensorProto.UINT8),
    ]
    taken = helper.make_tensor_value_info(
        "logits", TensorProto.FLOAT, [1, LABELS, planes, *MODEL_GRID[1:]]
    )
    given = helper.make_tensor_value_info("labels", TensorProto.UINT8, [1, *sizes[2:].tolist()])
    model = helper.make_model(
        helper.make_graph(nodes, "g", [taken], [given], [numpy_helper.from_array(sizes, "sizes")]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def onnx_runtime(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda logits: session.run(None, {"logits": logits})[0][0]


def openvino(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    import openvino

    core = openvino.Core()
    request = core.compile_model(
        core.read_model(content), "CPU", {"PERFORMANCE_HINT": "LATENCY"}
    ).create_infer_request()
    return lambda logits: request.infer({"logits": logits})[0][0]


def slabs() -> Iterator[tuple[int, int, int, int]]:
    """(low, high) planes to keep and the halo before and after them."""
    for low in range(0, MODEL_GRID[0], SLAB):
        high = low + SLAB
        yield low, high, HALO * (low > 0), HALO * (high < MODEL_GRID[0])


def peer(
    build: Callable[[bytes], Callable[[np.ndarray], np.ndarray]], logits: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return seconds and the label map; building sessions and copying slabs is not timed."""
    labels = np.zeros(SOURCE_GRID, np.uint8)
    runs: dict[int, Any] = {}
    seconds = 0.0
    for low, high, before, after in slabs():
        slab = np.ascontiguousarray(logits[None, :, low - before : high + after])
        if slab.shape[2] not in runs:
            runs[slab.shape[2]] = build(graph(slab.shape[2]))
            runs[slab.shape[2]](slab)
        start = time.perf_counter()
        answer = runs[slab.shape[2]](slab)
        cut = before * 6 // 5
        labels[low * 6 // 5 : high * 6 // 5] = answer[cut : cut + SLAB * 6 // 5]
        seconds += time.perf_counter() - start
    return seconds, labels


def restore_row() -> dict[str, object]:
    seconds, labels, logits = ours(organ_logits)
    times = {}
    for name, build in (("ONNX Runtime", onnx_runtime), ("OpenVINO", openvino)):
        try:
            times[name], theirs = peer(build, logits)
        except ImportError:
            continue
        agreement = np.mean(labels == theirs)
        if agreement < 0.9999:
            raise SystemExit(f"{name} agrees on {agreement:.4%} of the voxels only")
    best = min(times, key=lambda name: times[name])
    print(f"restore: {seconds:.2f} s, peers {times}", file=sys.stderr)
    return row("restore", seconds, times[best], f"{best} Resize+ArgMax by slab", "s")


def memory_row() -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, __file__, "--memory"], check=True, capture_output=True, text=True
    )
    full = LABELS * np.prod(SOURCE_GRID, dtype=float) * 4 / 2**20
    name = "float32 logits at full resolution (computed)"
    return row("peak_memory_mb", float(done.stdout), full, name, "MiB")


def measure_memory() -> None:
    """Print the high-water mark of this process after one `segment`, in MiB."""
    patch = (128, 128, 128)
    answer = np.random.default_rng(0).standard_normal((1, LABELS, *patch), np.float32)
    model = make_model(labels=LABELS - 1, patch=patch)
    image, labels = np.ones((1, *MODEL_GRID), np.float32), np.zeros(SOURCE_GRID, np.uint8)
    start = time.perf_counter()
    segment(image, model, FunctionEngine(lambda tiles: answer), labels, lambda done: None)
    seconds = time.perf_counter() - start
    print(f"segment without a network: {seconds:.2f} s", file=sys.stderr)
    # Not ru_maxrss: that one remembers the parent before exec.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def row(name: str, ours: float, peer: float, peer_name: str, unit: str) -> dict[str, object]:
    return {
        "name": name,
        "ours": round(ours, 3),
        "peer": round(peer, 3),
        "peer_name": peer_name,
        "unit": unit,
        "ratio": round(peer / ours, 2),
    }


if __name__ == "__main__":
    warm_up()
    if "--memory" in sys.argv:
        measure_memory()
    else:
        print(json.dumps(restore_row()), flush=True)
        print(json.dumps(memory_row()), flush=True)

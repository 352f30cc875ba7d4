"""Time one volume to its label map on the CPU: OpenVINO beside ONNX Runtime; one JSON row.

``volume_to_labels_cpu``: the shipped network over a phantom's torso (4 mm), with `volume.prepare`
and `segment.segment` as the pipeline calls them. Both engines have passed the golden tile and have
run once; they take turns, and their label maps must agree.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from phantoms import small_phantom
from viscera import models, segment, volume
from viscera.config import EngineSettings
from viscera.domain.geometry import to_axes
from viscera.domain.models import Model
from viscera.domain.volumes import Volume
from viscera.metrics import Metrics
from viscera.segment.engine import Engine
from viscera.segment.ladder import LADDER, start_engine

REPO = Path(__file__).parents[2] / "model_repo"
MODEL = "abdomen15-phantom"
OURS, PEER = "openvino-cpu", "onnx-cpu"
ROUNDS = 3
MIN_AGREEMENT = 0.9999


def label_map(scan: Volume, model: Model, engine: Engine) -> tuple[float, np.ndarray]:
    """Return seconds and labels (z, y, x) on the scan's grid."""
    start = time.perf_counter()
    labels = np.zeros(scan.geometry.shape, np.uint8)
    view = to_axes(labels, scan.geometry.axes, model.axes)
    fed = volume.prepare(scan, model)
    segment.segment(fed.image, model, engine, view[fed.box], lambda done: None, fed.restore_orders)
    return time.perf_counter() - start, labels


def start(name: str, model: Model) -> Engine:
    """Return the engine of that one rung, golden tile passed."""
    rungs = [rung for rung in LADDER if rung.name == name]
    golden = models.read_golden(model)
    return start_engine(model, golden, EngineSettings(strict=True), Metrics(), rungs)


def main() -> None:
    segment.warm_up()
    volume.warm_up()
    scan = small_phantom(7).volume
    model = models.load_model(REPO, MODEL)
    engines = {name: start(name, model) for name in (OURS, PEER)}
    labels = {name: label_map(scan, model, engine)[1] for name, engine in engines.items()}
    agreement = float(np.mean(labels[OURS] == labels[PEER]))
    if agreement < MIN_AGREEMENT or not labels[OURS].any():
        raise SystemExit(f"{OURS} and {PEER} agree on {agreement:.4%} of the voxels only")
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(ROUNDS):
        for name, engine in engines.items():
            seconds[name].append(label_map(scan, model, engine)[0])
    ours, peer = min(seconds[OURS]), min(seconds[PEER])
    print(f"volume_to_labels_cpu: {seconds}, {agreement:.4%} agree", file=sys.stderr)
    row = {
        "name": "volume_to_labels_cpu",
        "ours": round(ours, 3),
        "peer": round(peer, 3),
        "peer_name": f"ONNX Runtime, same pipeline; voxels {scan.geometry.shape}",
        "unit": "s",
        "ratio": round(peer / ours, 2),
    }
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

"""One volume through an imported package on the CPU; a line of JSON. See `bench_nnunet.py`."""

import json
import sys
import time
from pathlib import Path

import numpy as np

from viscera import labelling, models, segment, volume
from viscera.config import EngineSettings
from viscera.domain.arrays import Logits, Tiles
from viscera.domain.geometry import to_axes
from viscera.metrics import Metrics
from viscera.segment.engine import Engine


class Timed:
    """An engine, and the seconds that it took."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name, self.tile_batch, self.seconds = engine.name, engine.tile_batch, 0.0

    def infer(self, tiles: Tiles) -> Logits:
        start = time.perf_counter()
        logits = self._engine.infer(tiles)
        self.seconds += time.perf_counter() - start
        return logits

    def close(self) -> None:
        self._engine.close()


def main(case: Path, threads: int) -> None:
    """Write ``ours.npy``; print seconds of all, of the network, and the process' peak."""
    settings = EngineSettings(threads=threads)
    segment.configure_numba(settings.numba_cache.resolve(), "omp", threads)
    model = models.load_model(case / "model_repo", "wide")
    segment.warm_up()
    volume.warm_up(model)
    engine = Timed(segment.start_engine(model, models.read_golden(model), settings, Metrics()))
    scan = volume.read_volume(case / "image.nii.gz", "CT")
    start, cpu = time.perf_counter(), time.process_time()
    labels = labelling.label_volumes([scan], model, [engine], Metrics(), lambda *_: None)
    seconds = {
        "all": time.perf_counter() - start,
        "network": engine.seconds,
        "cpu": time.process_time() - cpu,
    }
    np.save(case / "ours.npy", to_axes(labels, scan.geometry.axes, model.axes))
    print(json.dumps({**seconds, "engine": engine.name}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

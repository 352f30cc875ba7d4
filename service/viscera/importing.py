"""Other people's networks become packages: built aside, checked on this machine, then moved in.

`models` reads what was brought, `segment` proves that an engine answers it as its maker did; a
package that fails leaves the repository as it was.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from viscera import models, segment
from viscera.config import Settings
from viscera.domain.arrays import Logits, Tiles
from viscera.domain.models import Golden, Model
from viscera.errors import InvalidRequest
from viscera.files.durable import sync_folder
from viscera.metrics import Metrics
from viscera.models import nnunet
from viscera.segment import golden


class RecordedEngine:
    """An engine that has one answer: what another program gave to the golden input."""

    name = "recorded"
    tile_batch = 1

    def __init__(self, logits: np.ndarray) -> None:
        self._logits = logits

    def infer(self, tiles: Tiles) -> Logits:
        """Return the recorded logits."""
        return self._logits

    def close(self) -> None:
        """Nothing is held."""


def import_nnunet(request: nnunet.Request, settings: Settings) -> Model:
    """Import an nnU-Net results folder; return the package as it now lies in the repository.

    Raises
    ------
    ModelRefused
        If it cannot be served faithfully, or no engine answers as torch does.
    InvalidRequest
        If this version is there already.
    """
    with _staged(settings, request.name, request.version) as folder:
        parts = nnunet.build(request)
        draft = models.write_package(
            folder,
            parts.manifest,
            onnx=parts.onnx,
            make_golden=lambda model: _golden(model, parts.logits),
            card=parts.card,
        )
        _prove(draft, settings)
    return models.load_model(settings.models.repo, f"{request.name}/{request.version}")


def _golden(model: Model, logits: np.ndarray) -> Golden:
    return golden.make(RecordedEngine(logits), model, nnunet.GOLDEN_SEED)


def _prove(model: Model, settings: Settings) -> None:
    engine = settings.engine
    segment.configure_numba(engine.numba_cache, engine.numba_threading_layer, engine.threads)
    segment.start_engine(model, models.read_golden(model), engine, Metrics()).close()


@contextmanager
def _staged(settings: Settings, name: str, version: str) -> Iterator[Path]:
    """Yield a folder beside the repository's families; what is good there moves in at once."""
    repo = settings.models.repo
    models.check_name(name, version)
    target = repo / name / version
    if target.exists():
        raise InvalidRequest(
            f"{name}/{version} is in {repo} already, and a version never changes; give another"
        )
    repo.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=".importing-", dir=repo))
    try:
        folder = stage / name / version
        yield folder
        target.parent.mkdir(exist_ok=True)
        folder.rename(target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(stage, ignore_errors=True)

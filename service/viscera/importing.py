"""Other people's networks become packages: built aside, checked on this machine, then moved in.

`models` reads what was brought, `segment` proves that an engine answers it as its maker did; a
package that fails leaves the repository as it was.
"""

import tomllib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from viscera import log, models, segment
from viscera.config import Settings
from viscera.domain.arrays import Logits, Tiles
from viscera.domain.models import Golden, Model
from viscera.errors import InvalidRequest, ModelNotFound, ModelRefused
from viscera.files.durable import make_folder, sync_folder
from viscera.files.staging import staged
from viscera.metrics import Metrics
from viscera.models import nnunet
from viscera.models.active import activate, active_version
from viscera.segment import golden

_log = log.get(__name__)


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
        built = nnunet.build(request)
        logits = iter(built.networks)
        draft = models.write_package(
            folder,
            built.manifest,
            onnx=[network.onnx for network in built.networks],
            make_golden=lambda model: _golden(model, next(logits).logits),
            card=built.card,
        )
        _prove(draft, settings)
        _add_half(draft, settings)
    return models.load_model(settings.models.repo, f"{request.name}/{request.version}")


def import_onnx(file: Path, manifest_file: Path, settings: Settings) -> Model:
    """Import any network that is ONNX already; ONNX Runtime's answer is what others must give.

    Parameters
    ----------
    file
        (tile, channel, z, y, x) to (tile, output, z, y, x), both float32.
    manifest_file
        A whole `manifest.toml` but for its tables ``files`` and ``parts``.

    Raises
    ------
    ModelRefused
        If the manifest is wrong, the network does not fit it, or engines disagree on it.
    InvalidRequest
        If this version is there already.
    """
    from viscera.segment.onnx_cpu import OnnxCpuEngine  # onnxruntime is an extra

    try:
        manifest = tomllib.loads(manifest_file.read_text(encoding="utf-8"))
        onnx = file.read_bytes()
    except (OSError, ValueError) as error:
        raise ModelRefused(f"{manifest_file} or {file} cannot be read: {error}") from error
    manifest.pop("files", None)
    if "parts" in manifest:
        raise ModelRefused(f"{manifest_file}: one network has no parts; leave the table out")
    name, version = str(manifest.get("name", "")), str(manifest.get("version", ""))

    def make_golden(model: Model) -> Golden:
        with closing(OnnxCpuEngine(model, threads=settings.engine.threads, tile_batch=1)) as engine:
            return golden.make(engine, model, nnunet.GOLDEN_SEED)

    with _staged(settings, name, version) as folder:
        draft = models.write_package(
            folder,
            manifest,
            onnx=onnx,
            make_golden=make_golden,
            card=f"# {name}/{version}\n\nImported from an ONNX file; see manifest.toml.\n",
        )
        _prove(draft, settings)
        _add_half(draft, settings)
    return models.load_model(settings.models.repo, f"{name}/{version}")


def _golden(model: Model, logits: np.ndarray) -> Golden:
    return golden.make(RecordedEngine(logits), model, nnunet.GOLDEN_SEED)


def _prove(model: Model, settings: Settings) -> None:
    engine = settings.engine
    segment.configure_numba(engine.numba_cache, engine.numba_threading_layer, engine.threads)
    for network in model.networks:
        segment.start_engine(network, models.read_golden(network), engine, Metrics()).close()


def _add_half(model: Model, settings: Settings) -> None:
    """Add what TensorRT takes: each network that half precision does no harm to.

    What is left out is logged as an error, for commands show nothing less.
    """
    if find_spec("onnx") is None or find_spec("onnxruntime") is None:
        _log.error("half_left_out", model=model.full_name, why="needs onnx and onnxruntime")
        return
    from viscera.segment.half_check import typed_and_checked  # both are extras

    halves = {}
    for network in model.networks:
        try:
            halves[network.part] = typed_and_checked(
                network, models.read_golden(network), settings.engine.threads
            )
        except ModelRefused as error:
            _log.error("half_left_out", model=network.full_name, why=str(error))
    models.add_half(model, halves)


def _serving(repo: Path, name: str) -> str | None:
    """Return the version that serves, whole or not; None for a new family."""
    try:
        return models.version_in_force(repo, name)
    except ModelNotFound:
        return None


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
    serving = _serving(repo, name)
    if not repo.exists():
        make_folder(repo.parent, repo)
    with staged(repo, ".importing-") as stage:
        folder = stage / name / version
        yield folder
        make_folder(repo, target.parent)
        if serving and active_version(target.parent) is None:
            # It goes on serving: a new one waits for `viscera model activate`.
            activate(target.parent, serving)
        folder.rename(target)
        sync_folder(target.parent)

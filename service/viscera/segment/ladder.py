"""Which engine serves: the first of the ladder that loads and passes the golden tile."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata

from viscera import log
from viscera.config import EngineSettings
from viscera.domain.models import Golden, Model
from viscera.errors import InvalidSettings, ModelRefused
from viscera.metrics import Metrics
from viscera.segment import golden as golden_tile
from viscera.segment.engine import Engine

_log = log.get(__name__)

_EXCLUSIVE = ("onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True, slots=True)
class Rung:
    """One kind of engine."""

    name: str
    build: Callable[[Model, EngineSettings], Engine]


def _onnx_cpu(model: Model, settings: EngineSettings) -> Engine:
    try:
        # onnxruntime is an extra, and not to be imported before the pair is refused.
        from viscera.segment.onnx_cpu import OnnxCpuEngine
    except ImportError as error:
        raise InvalidSettings(
            f"no engine can run: {error}; install viscera with the extra `cpu`"
        ) from error
    return OnnxCpuEngine(model, threads=settings.threads, tile_batch=settings.tile_batch)


LADDER = (Rung("onnx-cpu", _onnx_cpu),)
"""Fastest first."""


def start_engine(
    model: Model,
    golden: Golden,
    settings: EngineSettings,
    metrics: Metrics,
    ladder: Sequence[Rung] = LADDER,
) -> Engine:
    """Return an engine that has just answered the golden tile rightly on this device.

    Parameters
    ----------
    model, golden
        Of one package.
    settings
        Threads and batch; ``strict`` makes the first failure fatal.
    metrics
        Each demotion is counted there.
    ladder
        Kinds of engine, fastest first.

    Raises
    ------
    ModelRefused
        If no engine passes, or with ``strict`` the first does not: what the last one tried said.
    InvalidSettings
        If two builds of ONNX Runtime are installed together, or none.
    """
    refuse_rival_runtimes()
    for rung in ladder[:-1]:
        try:
            return _start(rung, model, golden, settings)
        except ModelRefused as error:
            if settings.strict:
                raise
            metrics.engine_fallbacks.labels(rung.name).inc()
            _log.warning("engine_demoted", engine=rung.name, model=model.full_name, why=str(error))
    return _start(ladder[-1], model, golden, settings)


def refuse_rival_runtimes() -> None:
    """Refuse onnxruntime beside onnxruntime-gpu: both install one module, and the last wins.

    Raises
    ------
    InvalidSettings
        If both are installed.
    """
    found = [name for name in _EXCLUSIVE if _is_installed(name)]
    if len(found) > 1:
        raise InvalidSettings(
            f"{' and '.join(found)} are installed together and overwrite one another;"
            " uninstall both, then install viscera with the extra `cpu` or `gpu`"
        )


def _is_installed(distribution: str) -> bool:
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _start(rung: Rung, model: Model, golden: Golden, settings: EngineSettings) -> Engine:
    engine = rung.build(model, settings)
    try:
        report = golden_tile.check(engine, model, golden)
    except BaseException:
        engine.close()
        raise
    _log.info(
        "engine_ready",
        engine=engine.name,
        model=model.full_name,
        largest_difference=report.largest_difference,
        argmax_agreement=report.argmax_agreement,
    )
    return engine

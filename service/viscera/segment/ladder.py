"""Which engine serves: the first of the ladder that loads and passes the golden tile.

An engine that is not installed is passed over in silence: its absence was somebody's choice. One
that is installed and does not serve is a demotion.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

from viscera import log
from viscera.config import EngineSettings
from viscera.domain.models import Golden, Model
from viscera.errors import DeviceMemoryFull, DeviceUnavailable, HostMemoryFull, InvalidSettings
from viscera.metrics import Metrics
from viscera.segment import golden as golden_tile
from viscera.segment.building import PlanNotBuilt
from viscera.segment.driver import Gpu, probe_gpu
from viscera.segment.engine import DeviceEngine, Engine, fill_batch
from viscera.segment.golden import FLOAT32, HALF, Tolerance

_log = log.get(__name__)

_EXCLUSIVE = ("onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True, slots=True)
class Rung:
    """One kind of engine."""

    name: str
    module: str
    """What must be importable for it; comes with an extra."""
    build: Callable[[Model, EngineSettings, Gpu | None], Engine]
    """The GPU is given where `needs_gpu`. May raise `PlanNotBuilt`."""
    distribution: str = ""
    """What must be installed besides, where several distributions bring one module."""
    needs_gpu: bool = False
    """Whether NVIDIA's driver must answer before the module is imported."""
    tolerance: Tolerance = FLOAT32
    """How far from the golden tile it may be."""

    @property
    def is_installed(self) -> bool:
        """Whether somebody chose to have it. Imports nothing."""
        return find_spec(self.module) is not None and (
            not self.distribution or _is_installed(self.distribution)
        )


def _tensorrt(library: str) -> Callable[[Model, EngineSettings, Gpu | None], Engine]:
    def build(model: Model, settings: EngineSettings, gpu: Gpu | None) -> Engine:
        from viscera.segment.tensorrt_start import load_tensorrt  # tensorrt is an extra

        assert gpu is not None
        return load_tensorrt(library, model, settings, gpu)

    return build


def _onnx_cuda(model: Model, settings: EngineSettings, gpu: Gpu | None) -> Engine:
    from viscera.segment.onnx_cuda import OnnxCudaEngine  # onnxruntime-gpu is an extra

    return OnnxCudaEngine(model, tile_batch=settings.tile_batch)


def _openvino_cpu(model: Model, settings: EngineSettings, gpu: Gpu | None) -> Engine:
    from viscera.segment.openvino_cpu import OpenVinoEngine  # openvino is an extra

    return OpenVinoEngine(model, threads=settings.threads, tile_batch=settings.tile_batch)


def _onnx_cpu(model: Model, settings: EngineSettings, gpu: Gpu | None) -> Engine:
    # onnxruntime is an extra, and not to be imported before the pair is refused.
    from viscera.segment.onnx_cpu import OnnxCpuEngine

    return OnnxCpuEngine(model, threads=settings.threads, tile_batch=settings.tile_batch)


LADDER = (
    Rung("tensorrt", "tensorrt", _tensorrt("tensorrt"), needs_gpu=True, tolerance=HALF),
    Rung("tensorrt-rtx", "tensorrt_rtx", _tensorrt("tensorrt_rtx"), needs_gpu=True, tolerance=HALF),
    Rung(
        "onnx-cuda",
        "onnxruntime",
        _onnx_cuda,
        distribution="onnxruntime-gpu",
        needs_gpu=True,
        tolerance=HALF,
    ),
    Rung("openvino-cpu", "openvino", _openvino_cpu),
    Rung("onnx-cpu", "onnxruntime", _onnx_cpu),
)
"""Fastest first."""


def start_engine(
    model: Model,
    golden: Golden,
    settings: EngineSettings,
    metrics: Metrics,
    ladder: Sequence[Rung] = LADDER,
    probe: Callable[[], Gpu] = probe_gpu,
    postpone: Callable[[Rung, PlanNotBuilt], None] = lambda *_: None,
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
    probe
        Asks the driver, once, where an installed engine needs a GPU.
    postpone
        Told of each engine whose plan must be built first; the next one serves meanwhile, which
        is no demotion.

    Raises
    ------
    ModelRefused
        If no engine passes, or with ``strict`` the first does not: what the last one tried said.
    HostMemoryFull
        If the last one tried found no memory for the golden tile.
    DeviceUnavailable
        If the last one tried needs a GPU that does not answer.
    InvalidSettings
        If two builds of ONNX Runtime are installed together, or no engine is, or the last one
        tried cannot be imported or has no plan yet.
    """
    refuse_rival_runtimes()
    installed = [rung for rung in ladder if rung.is_installed]
    if not installed:
        raise InvalidSettings(
            f"no engine can run: none of {', '.join(rung.module for rung in ladder)} is"
            " installed; install viscera with the extra `cpu`"
        )
    gpu = _ask(probe) if any(rung.needs_gpu for rung in installed) else None
    for rung in installed[:-1]:
        try:
            return _start(rung, model, golden, settings, gpu)
        except PlanNotBuilt as missing:
            postpone(rung, missing)
        except Exception as error:  # a native library may raise anything, and the next one serves
            if settings.strict:
                raise
            metrics.engine_fallbacks.labels(rung.name).inc()
            _log.warning("engine_demoted", engine=rung.name, model=model.full_name, why=str(error))
    try:
        return _start(installed[-1], model, golden, settings, gpu)
    except PlanNotBuilt as missing:
        raise InvalidSettings(
            f"{installed[-1].name} has no plan yet, and no other engine could serve while it is"
            " built; install viscera with the extra `cpu`, `openvino` or `gpu` beside it"
        ) from missing


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


def _ask(probe: Callable[[], Gpu]) -> Gpu | DeviceUnavailable:
    """Return what the driver says, also where that is why there is none."""
    try:
        gpu = probe()
    except DeviceUnavailable as error:
        return error
    major, minor = gpu.capability
    _log.info("gpu_found", gpu=gpu.name, capability=f"{major}.{minor}", driver=gpu.driver)
    return gpu


def _start(
    rung: Rung,
    model: Model,
    golden: Golden,
    settings: EngineSettings,
    gpu: Gpu | DeviceUnavailable | None,
) -> Engine:
    """Start one kind of engine, with fewer tiles a call where memory asks for it."""
    try:
        return _start_with(rung, model, golden, settings, gpu)
    except (DeviceMemoryFull, HostMemoryFull) as error:
        if settings.tile_batch == 1:
            raise
        why = str(error)
    # Not within `except`: the error's frames hold the engine that failed, and all its memory.
    half = settings.tile_batch // 2
    _log.warning("tile_batch_halved", engine=rung.name, tile_batch=half, why=why)
    fewer = settings.model_copy(update={"tile_batch": half})
    return _start(rung, model, golden, fewer, gpu)


def _start_with(
    rung: Rung,
    model: Model,
    golden: Golden,
    settings: EngineSettings,
    gpu: Gpu | DeviceUnavailable | None,
) -> Engine:
    if isinstance(gpu, DeviceUnavailable):
        if rung.needs_gpu:
            raise gpu
        gpu = None
    try:
        engine = rung.build(model, settings, gpu)
    except ImportError as error:
        raise InvalidSettings(
            f"{rung.name}: {rung.module} is installed and cannot be imported: {error};"
            " install it again, or uninstall it"
        ) from error
    try:
        if isinstance(engine, DeviceEngine):
            fill_batch(engine)
        report = golden_tile.check(engine, model, golden, tolerance=rung.tolerance)
        if isinstance(engine, DeviceEngine):
            golden_tile.check_window(engine, model, golden, tolerance=rung.tolerance)
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

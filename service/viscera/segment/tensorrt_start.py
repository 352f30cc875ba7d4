"""From a package to a `TensorRtEngine`: the cached plan, or word that it must be built."""

import importlib
from typing import Any

from viscera import log
from viscera.config import EngineSettings
from viscera.domain.models import Model
from viscera.errors import DeviceUnavailable, ModelRefused
from viscera.segment.building import PlanNotBuilt
from viscera.segment.driver import Gpu
from viscera.segment.engine import Engine
from viscera.segment.plans import PlanCache, PlanKey
from viscera.segment.tensorrt_build import BuildRequest

_log = log.get(__name__)

HALF = True
"""Whether networks run in half precision; the golden tile says if one bears it. A package may
bring its network typed so; else it is typed when the plan is built."""


def load_tensorrt(library: str, model: Model, settings: EngineSettings, gpu: Gpu) -> Engine:
    """Return an engine with the plan for just this GPU, driver, TensorRT and network.

    Raises
    ------
    PlanNotBuilt
        If there is no such plan, or it does not load; in that case it is out of use now.
    ModelRefused
        If it was built anew and does not load again.
    DeviceUnavailable
        If this TensorRT has no code for such a GPU.
    DeviceMemoryFull
        If it does not fit.
    """
    # Not before the driver was asked: the lean run-time crashes without one.
    from viscera.segment.tensorrt_engine import PlanRefused, TensorRtEngine

    trt = importlib.import_module(library)
    _require_support(trt, gpu)
    cache = PlanCache(settings.plan_cache)
    key = key_of(library, trt.__version__, model, settings.tile_batch, gpu)
    plan = cache.read(key)
    if plan is not None:
        try:
            engine = TensorRtEngine(trt, model, plan, tile_batch=settings.tile_batch)
        except PlanRefused as error:
            _log.warning("plan_refused", engine=library, model=model.full_name, why=str(error))
            if not cache.refuse(key):
                raise ModelRefused(
                    f"{library}: the plan was built anew and does not load either: {error};"
                    f" remove {cache.path_of(key)} to have it built once more"
                ) from error
        else:
            cache.accept(key)
            return engine
    raise PlanNotBuilt(
        BuildRequest(
            library=library,
            onnx=str(model.half or model.onnx),
            tile_batch=settings.tile_batch,
            half=HALF and model.half is None,
            plan=str(cache.path_of(key)),
            timing=str(cache.timing_path(key)),
            chip=chip_of(gpu),
        )
    )


def chip_of(gpu: Gpu) -> str:
    """Return TensorRT's name of the GPU's kind, e.g. ``SM89``."""
    return "SM{}{}".format(*gpu.capability)


def _require_support(trt: Any, gpu: Gpu) -> None:
    """Refuse a GPU that TensorRT-RTX has no code for: its plan would build and never load."""
    kinds = getattr(trt, "ComputeCapability", None)  # TensorRT itself has no such list
    if kinds is not None and not hasattr(kinds, chip_of(gpu)):
        known = [name for name in dir(kinds) if name.startswith("SM")]
        raise DeviceUnavailable(
            f"{trt.__name__} {trt.__version__} knows {', '.join(known)}, not the {chip_of(gpu)} of"
            f" {gpu.name}; install TensorRT itself, or ONNX Runtime's extra `gpu`"
        )


def key_of(library: str, version: str, model: Model, tile_batch: int, gpu: Gpu) -> PlanKey:
    """Return what a plan of `model` on `gpu` depends on."""
    return PlanKey(
        library=library,
        version=version,
        gpu=gpu.name,
        capability=gpu.capability,
        driver=f"{gpu.driver} {gpu.cuda}",
        onnx_sha256=model.half_sha256 or model.onnx_sha256,
        patch=model.patch_size,
        channels=len(model.channels),
        labels=model.output_count,
        tile_batch=tile_batch,
        half=HALF,
    )

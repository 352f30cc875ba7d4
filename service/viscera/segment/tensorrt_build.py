"""ONNX to a TensorRT plan; a program of its own, for a build takes minutes and may crash.

``python -m viscera.segment.tensorrt_build REQUEST`` builds what the JSON of `BuildRequest` asks
for. It writes the plan and prints its progress, a number from 0 to 1 a line; what went wrong is
the last line of its error output.
"""

import ctypes
import dataclasses
import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from viscera.segment.plans import read_sealed, write_sealed

_WORKSPACE_BYTES = 4 * 2**30
"""What one layer's kernel may use at most; the convolutions here ask for less."""


_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What to build and where to put it."""

    library: str
    onnx: str
    tile_batch: int
    half: bool
    """Whether the network is to be typed for half precision first."""
    plan: str
    timing: str
    chip: str
    """The GPU's kind, e.g. ``SM89``; TensorRT-RTX would build for several, and not for all."""


class BuildFailed(Exception):
    """TensorRT did not make a plan; it said why."""


def build_plan(
    trt: Any,
    network: bytes,
    tile_batch: int,
    timings: bytes,
    chip: str,
    report: Callable[[float], None],
) -> tuple[bytes, bytes]:
    """Return the plan, and the timings of the kernels that were tried.

    Parameters
    ----------
    trt
        The module ``tensorrt`` (10.13 or later) or ``tensorrt_rtx``.
    network
        ONNX. Its types are kept: what is to run in half precision says so.
    tile_batch
        Tiles a call at most; the plan is tuned for just this number.
    timings
        Of an earlier build on the same GPU; may be empty.
    chip
        As `BuildRequest` has it.
    report
        Called with the share done.

    Raises
    ------
    BuildFailed
        If the network cannot be parsed or built.
    """
    logger = _logger(trt)
    builder = trt.Builder(logger)
    strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    definition = builder.create_network(strongly_typed)
    parser = trt.OnnxParser(definition, logger)
    if not parser.parse(network):
        said = "; ".join(parser.get_error(k).desc() for k in range(parser.num_errors))
        raise BuildFailed(f"the network cannot be parsed: {said}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    config.add_optimization_profile(_profile(builder, definition, tile_batch))
    if hasattr(trt, "ComputeCapability"):
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, chip), 0)
    cache = config.create_timing_cache(timings)
    config.set_timing_cache(cache, ignore_mismatch=False)
    config.progress_monitor = _monitor(trt, report)
    plan = builder.build_serialized_network(definition, config)
    if plan is None:
        raise BuildFailed(f"no plan was built: {'; '.join(logger.said[-3:]) or 'no reason given'}")
    report(1.0)
    return bytes(plan), bytes(config.get_timing_cache().serialize())


def _profile(builder: Any, definition: Any, tile_batch: int) -> Any:
    profile = builder.create_optimization_profile()
    taken = definition.get_input(0)
    batch, *rest = taken.shape
    if min(rest) < 1:
        raise BuildFailed(f"only the tile count of {taken.name} may be open, not {taken.shape}")
    low, high = (1, tile_batch) if batch < 0 else (batch, batch)
    profile.set_shape(taken.name, (low, *rest), (high, *rest), (high, *rest))
    return profile


def _logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]  # whichever module this is
        """Keeps what TensorRT says in earnest; it raises nothing."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.said: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(trt.ILogger.Severity.ERROR):
                self.said.append(message)

    return Logger()


def _monitor(trt: Any, report: Callable[[float], None]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # whichever module this is
        """Turns nested phases into one number that only grows. TensorRT's threads all call it."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._phases: dict[str, tuple[int, int]] = {}
            self._shown = 0.0
            self._lock = threading.Lock()

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            with self._lock:
                self._phases[phase] = (0, max(steps, 1))

        def step_complete(self, phase: str, step: int) -> bool:
            with self._lock:
                self._phases[phase] = (step + 1, self._phases.get(phase, (0, step + 1))[1])
                done, scale = 0.0, 1.0
                for finished, steps in self._phases.values():  # from the outermost in
                    done += scale * min(finished / steps, 1.0)
                    scale /= steps
                self._shown = max(self._shown, min(done, 1.0))
                report(self._shown)
            return True  # anything else would cancel the build, an exception too

        def phase_finish(self, phase: str) -> None:
            with self._lock:
                self._phases.pop(phase, None)

    return Monitor()


def read_network(path: Path, *, half: bool) -> bytes:
    """Return the ONNX at `path`, typed for half precision where asked."""
    content = path.read_bytes()
    if not half:
        return content
    import onnx  # comes with the extra `tensorrt`; only this process needs it

    from viscera.segment.half import to_half

    typed: bytes = to_half(onnx.load_from_string(content)).SerializeToString()
    return typed


def stand_back() -> None:
    """Leave the cores to the engine that serves, and end with the process that asked."""
    os.nice(10)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def main(argument: str) -> None:
    """Build what the JSON `argument` asks for."""
    stand_back()
    request = BuildRequest(**json.loads(argument))
    plan, timings = build_plan(
        importlib.import_module(request.library),
        read_network(Path(request.onnx), half=request.half),
        request.tile_batch,
        read_sealed(Path(request.timing)) or b"",
        request.chip,
        lambda done: print(f"{done:.4f}", flush=True),  # noqa: T201 - read by the parent
    )
    write_sealed(Path(request.timing), timings)
    write_sealed(Path(request.plan), plan)


def as_argument(request: BuildRequest) -> str:
    """Return what `main` takes."""
    return json.dumps(dataclasses.asdict(request))


if __name__ == "__main__":
    main(sys.argv[1])

"""Our TensorRT code over specifications made of the real bindings' classes; a program of its own.

Run in a venv with ``tensorrt-cu13-bindings``; argument: the folder of stub libraries. Every object
that our code gets is `create_autospec` of the real class: a name that this TensorRT does not have
is an AttributeError. Keywords are looked up in the bindings' own signatures. Prints the version.
"""

import contextlib
import ctypes
import inspect
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import create_autospec

import numpy as np
import pytest

for library in sorted(Path(sys.argv[1]).glob("*.so.*")):
    ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
sys.path.insert(0, str(Path(__file__).parents[1]))
make_model = import_module("segment_fakes").make_model
real = import_module("tensorrt_bindings")

PATCH, LABELS = (4, 5, 6), 3


def of(kind, **answers):
    """An instance of the real class that answers what it is told, and has no other names."""
    made = create_autospec(kind, instance=True)
    for name, answer in answers.items():
        if not callable(getattr(made, name)):
            setattr(made, name, answer)
    for name in dir(kind):
        if not name.startswith("_") and callable(getattr(kind, name)):
            getattr(made, name).side_effect = answering(getattr(kind, name), answers.get(name))
    return made


def answering(method, answer):
    """A call that takes only the keywords that the real one has."""

    def call(*arguments, **keywords):
        unknown = [word for word in keywords if f"{word}: " not in method.__doc__]
        assert not unknown, f"{unknown} in {method.__doc__}"
        return answer(*arguments) if inspect.isfunction(answer) else answer

    return call


def builder_side(network_parses):
    """A module of specifications: parser, network, configuration, builder."""
    error = of(real.ParserError, desc="no such operator")
    timings = of(real.ITimingCache, serialize=b"timings")
    taken = of(real.ITensor)
    taken.name, taken.shape = "input", (-1, 1, *PATCH)
    config = of(
        real.IBuilderConfig,
        create_timing_cache=timings,
        get_timing_cache=timings,
        add_optimization_profile=0,
    )
    parser = of(real.OnnxParser, parse=network_parses, get_error=error)
    parser.num_errors = 1
    profile = of(real.IOptimizationProfile)
    builder = of(
        real.Builder,
        create_network=of(real.INetworkDefinition, get_input=taken),
        create_builder_config=config,
        create_optimization_profile=profile,
        build_serialized_network=b"plan",
    )
    module = SimpleNamespace(
        Builder=lambda logger: builder,
        OnnxParser=lambda network, logger: parser,
        ILogger=real.ILogger,
        IProgressMonitor=real.IProgressMonitor,
        MemoryPoolType=real.MemoryPoolType,
        NetworkDefinitionCreationFlag=real.NetworkDefinitionCreationFlag,
    )
    return module, builder, config, profile


def check_build():
    from viscera.segment.tensorrt_build import BuildFailed, build_plan

    trt, builder, config, profile = builder_side(network_parses=True)
    assert build_plan(trt, b"onnx", 3, b"", "SM90", lambda done: None) == (b"plan", b"timings")
    strongly_typed = 1 << int(real.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    builder.create_network.assert_called_once_with(strongly_typed)
    shapes = [(n, 1, *PATCH) for n in (1, 3, 3)]
    profile.set_shape.assert_called_once_with("input", *shapes)
    monitor = config.progress_monitor
    monitor.phase_start("build", None, 2)
    monitor.phase_start("part", "build", 4)
    assert monitor.step_complete("part", 1) is True
    monitor.phase_finish("part")
    with pytest.raises(BuildFailed, match="no such operator"):
        build_plan(builder_side(network_parses=False)[0], b"onnx", 3, b"", "SM90", print)


def run_side():
    """A module of specifications: run-time, engine, context."""
    names, mode = ("input", "logits"), real.TensorIOMode
    context = of(
        real.IExecutionContext,
        set_tensor_address=True,
        set_input_shape=True,
        get_tensor_shape=(2, LABELS, *PATCH),
        execute_async_v3=True,
    )
    shapes = [(n, 1, *PATCH) for n in (1, 2, 2)]
    engine = of(
        real.ICudaEngine,
        get_tensor_name=lambda k: names[k],
        get_tensor_mode=lambda name: mode.INPUT if name == "input" else mode.OUTPUT,
        get_tensor_dtype=real.float32,
        get_tensor_profile_shape=shapes,
        create_execution_context=context,
    )
    engine.num_io_tensors = len(names)
    engine.device_memory_size_v2 = 1 << 20
    runtime = of(real.Runtime, deserialize_cuda_engine=engine)
    module = SimpleNamespace(
        __name__="tensorrt",
        Logger=SimpleNamespace(ERROR=real.Logger.ERROR, __call__=None),
        Runtime=lambda logger: runtime,
        TensorIOMode=mode,
        float32=real.float32,
    )
    module.Logger = lambda severity: None
    module.Logger.ERROR = real.Logger.ERROR
    return module, context


def check_run():
    memory = ModuleType("viscera.segment.device_memory")
    memory.new_stream = lambda: "stream"
    memory.require = lambda size: None
    memory.free_dropped = lambda: None
    memory.empty = lambda shape: np.zeros(shape, np.float32)
    memory.address_of = lambda array: array.ctypes.data
    memory.handle_of = lambda stream: 7
    memory.faults_named = contextlib.nullcontext
    sys.modules[memory.__name__] = memory
    from viscera.segment.tensorrt_engine import TensorRtEngine

    trt, context = run_side()
    model = make_model(labels=LABELS - 1, patch=PATCH)
    engine = TensorRtEngine(trt, model, b"plan", tile_batch=2)
    engine.enqueue(1)
    context.execute_async_v3.assert_called_once_with(7)
    context.set_input_shape.assert_called_with("input", (1, 1, *PATCH))
    bound = {call.args[0]: call.args[1] for call in context.set_tensor_address.call_args_list}
    assert bound == {
        "input": engine.tiles.ctypes.data,
        "logits": engine.logits.ctypes.data,
    }


def check_signatures():
    """What pybind11 wrote down: argument names and kinds of the calls that take several."""
    for method, words in (
        (real.IBuilderConfig.set_timing_cache, ("cache", "ignore_mismatch: bool")),
        (real.IBuilderConfig.create_timing_cache, ("serialized_timing_cache",)),
        (real.IBuilderConfig.set_memory_pool_limit, ("pool", "pool_size: ")),
        (real.IExecutionContext.execute_async_v3, ("stream_handle: ", "-> bool")),
        (real.IExecutionContext.set_tensor_address, ("name: str", "memory: ")),
        (real.IExecutionContext.set_input_shape, ("name: str", "shape: ")),
        (real.IOptimizationProfile.set_shape, ("input: str", "min: ", "opt: ", "max: ")),
        (real.OnnxParser.parse, ("model: ", "-> bool")),
        (real.Builder.create_network, ("flags: ",)),
    ):
        signature = method.__doc__.split("\n")[0]
        missing = [word for word in words if word not in method.__doc__]
        assert not missing, (method, missing, signature)


if __name__ == "__main__":
    check_build()
    check_run()
    check_signatures()
    print(real.__version__)

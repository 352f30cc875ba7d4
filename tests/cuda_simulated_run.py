"""A whole volume on a simulated GPU beside the CPU's label map, through `TensorRtEngine`.

A program of its own, as `cuda_simulation.py` is; prints for each comparison ``""``, or what is
wrong. TensorRT itself is `fake_tensorrt`, over the simulator's host memory.
"""

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
from cuda.core._utils.cuda_utils import CUDAError
from numba import cuda

import fake_tensorrt
from cuda_simulation import report_on
from segment_fakes import FunctionEngine, make_model, write_network
from viscera.domain.geometry import Geometry
from viscera.domain.models import Normalisation, NormalisationScheme, Order, SeparateAxis
from viscera.domain.volumes import Volume
from viscera.errors import DeviceLost, DeviceMemoryFull, DeviceUnavailable, ModelRefused
from viscera.segment import device_memory, golden, segment
from viscera.segment.engine import DeviceEngine, fill_batch
from viscera.segment.memory import job_needs
from viscera.segment.onnx_cpu import OnnxCpuEngine
from viscera.segment.onnx_cuda import OnnxCudaEngine
from viscera.segment.tensorrt_engine import PlanRefused, TensorRtEngine
from viscera.segment.tiles import TileGrid
from viscera.volume import cuda_kernels as cuda_volume
from viscera.volume import prepare, upload, warm_up

# The two things that the simulator has no word for.
device_memory.address_of = lambda array: array._ary.ctypes.data
device_memory.handle_of = lambda stream: 0

PATCH, CHANNELS, LABELS = (4, 5, 6), 2, 4
RNG = np.random.default_rng(11)
MIX = RNG.standard_normal((LABELS, CHANNELS)).astype(np.float32)
PLACE = RNG.standard_normal((LABELS, *PATCH)).astype(np.float32)


def network(tiles):
    """Answers that depend on where a voxel lies in its tile: mirrors and weights show."""
    return (np.einsum("lc,nczyx->nlzyx", MIX, tiles) + 0.3 * PLACE).astype(np.float32)


def model_of(**changes):
    given = {"labels": LABELS - 1, "channels": CHANNELS, "patch": PATCH, **changes}
    return make_model(**given)


def engine_of(model, function=network, most=2, plan=b"plan"):
    fake_tensorrt.NETWORKS[b"plan"] = (function, CHANNELS, LABELS, PATCH, most)
    return TensorRtEngine(fake_tensorrt, model, plan, tile_batch=2)


@contextlib.contextmanager
def raises(kind):
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was expected")


@contextlib.contextmanager
def failing(what):
    fake_tensorrt.FAILING.add(what)
    yield
    fake_tensorrt.FAILING.discard(what)


def label_map(image, model, engine, shape):
    labels, seen = np.full(shape, 77, np.uint8), []
    # Reversed, as a flipped source is: what comes down is written through the view.
    segment(image, model, engine, labels[::-1], seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    return labels


def volume_is_the_cpus():
    for shape, target, mirror in (
        ((7, 8, 6), (9, 7, 11), ()),
        ((6, 5, 8), (6, 5, 8), (0, 2)),
        ((3, 4, 5), (5, 4, 3), ()),  # smaller than the patch
    ):
        model = model_of(mirror_axes=mirror)
        image = RNG.standard_normal((CHANNELS, *shape)).astype(np.float32)
        expected = label_map(image, model, FunctionEngine(network, 2), target)
        found = label_map(image, model, engine_of(model), target)
        np.testing.assert_array_equal(found, expected)
        assert len(np.unique(found)) == LABELS


def tiles_of_air_are_left_out():
    """Rows of tiles above, between and below, and what the host's loop finds."""
    how = Normalisation(scheme=NormalisationScheme.CT, lower=-1000, upper=400, mean=0, sd=200)
    model = replace(
        make_model(labels=2, patch=(3, 4, 4)), normalisation={"CT": (how,)}, skip_air=True
    )
    image = np.full((1, 22, 5, 6), -5, np.float32)
    image[0, 4:6], image[0, 15, 2:4] = 0.3, 1.4
    counts = []

    def answer(tiles):
        counts.append(len(tiles))
        return np.concatenate([-tiles, tiles, 2 * tiles - 1], axis=1)

    fake_tensorrt.NETWORKS[b"air"] = (answer, 1, 3, (3, 4, 4), 2)
    expected = label_map(image, model, FunctionEngine(answer, 2), (22, 5, 11))
    by_host = sum(counts)
    counts.clear()
    engine = TensorRtEngine(fake_tensorrt, model, b"air", tile_batch=2)
    np.testing.assert_array_equal(label_map(image, model, engine, (22, 5, 11)), expected)
    assert sum(counts) == by_host < 0.6 * len(TileGrid.cover((22, 5, 6), (3, 4, 4), 0.5))
    assert len(np.unique(expected)) == 3


def what_is_computed_is_what_is_taken():
    """Arrays that `segment` puts on the device, beside the engine's own."""
    taken = 0

    def counting(make):
        def counted(*arguments, **keywords):
            nonlocal taken
            made = make(*arguments, **keywords)
            taken += made.nbytes
            return made

        return counted

    shape, target = (12, 30, 40), (20, 50, 60)
    model = model_of(patch=(8, 20, 20))
    fake_tensorrt.NETWORKS[b"flat"] = (
        lambda tiles: np.zeros((len(tiles), LABELS, 8, 20, 20), np.float32),
        *(CHANNELS, LABELS, (8, 20, 20), 2),
    )
    engine = TensorRtEngine(fake_tensorrt, model, b"flat", tile_batch=2)
    image = np.zeros((CHANNELS, *shape), np.float32)
    from viscera.segment import cuda_kernels

    names = ("gather", "accumulate", "clear", "find_winners", "restore")
    kept = {name: getattr(cuda_kernels, name) for name in names}
    made = cuda.device_array, cuda.to_device
    cuda.device_array, cuda.to_device = map(counting, made)
    for name in names:  # slow in the simulator, and they take nothing
        setattr(cuda_kernels, name, lambda *_: None)
    try:
        segment(image, model, engine, np.zeros(target, np.uint8), lambda done: None)
    finally:
        cuda.device_array, cuda.to_device = made
        for name, kernel in kept.items():
            setattr(cuda_kernels, name, kernel)
    need = job_needs(model, engine, shape, target).device
    assert taken <= need < 1.15 * taken, (taken, need)


def logits_that_are_not_finite_are_refused():
    model = model_of()
    engine = engine_of(model, lambda tiles: network(tiles) * np.float32(np.inf))
    with raises(ModelRefused):
        label_map(np.ones((CHANNELS, *PATCH), np.float32), model, engine, PATCH)


def a_batch_on_the_host_goes_up_and_comes_down():
    engine = engine_of(model_of(), most=3)
    assert (engine.name, engine.tile_batch) == ("fake-tensorrt", 2)
    for count in (2, 1, 2):
        tiles = RNG.standard_normal((count, CHANNELS, *PATCH)).astype(np.float32)
        np.testing.assert_array_equal(engine.infer(tiles), network(tiles))
    engine.close()
    engine.close()
    with raises(ModelRefused):
        engine.infer(tiles)


def golden_tile_judges_it():
    model = model_of()
    made = golden.make(FunctionEngine(network), model, seed=2)
    report = golden.check(engine_of(model), model, made, tolerance=golden.HALF)
    assert report.argmax_agreement == 1.0
    with raises(ModelRefused):
        wrong = engine_of(model, lambda tiles: network(tiles)[:, ::-1])
        golden.check(wrong, model, made, tolerance=golden.HALF)


def golden_tile_goes_through_the_window():
    """Renumbered and mirrored; then with a kernel that writes the wrong thing."""
    for rules in ({}, {"mirror_axes": (0, 2)}, {"outputs": (0, 3, 1, 3)}):
        model = replace(model_of(), **rules)
        made = golden.make(FunctionEngine(network), model, seed=2)
        golden.check_window(engine_of(model), model, made)
    from viscera.segment import cuda_kernels

    right = cuda_kernels.find_winners
    cuda_kernels.find_winners = lambda *_: None
    try:
        with raises(ModelRefused):
            golden.check_window(engine_of(model), model, made)
    finally:
        cuda_kernels.find_winners = right


def a_full_batch_is_run_before_a_job_comes():
    counts = []
    function = lambda tiles: counts.append(len(tiles)) or network(tiles)  # noqa: E731
    fill_batch(engine_of(model_of(), function, most=3))
    assert counts == [2], "the engine's tile_batch"
    with failing("execute"), raises(DeviceLost):
        fill_batch(engine_of(model_of()))


def kernels_for_the_input_are_compiled():
    calls = []
    kept = {name: getattr(cuda_volume, name) for name in ("resample", "spline", "scale")}
    for name, kernel in kept.items():
        setattr(
            cuda_volume, name, lambda *a, name=name, kernel=kernel: calls.append(name) or kernel(*a)
        )
    try:
        for rules, expected in (
            ({}, {"resample"}),
            ({"image_order": 3, "image_separate": SeparateAxis()}, {"resample", "spline"}),
            ({"image_order": 3, "order": Order.RESAMPLE_FIRST}, {"spline", "scale"}),
        ):
            calls.clear()
            warm_up(replace(model_of(channels=1), **rules), cuda.stream())
            assert set(calls) == expected, (rules, calls)
    finally:
        for name, kernel in kept.items():
            setattr(cuda_volume, name, kernel)


def plans_that_do_not_fit_are_refused():
    with raises(PlanRefused):
        engine_of(model_of(), plan=b"of another TensorRT")
    with raises(PlanRefused):
        engine_of(model_of(labels=7))
    with raises(PlanRefused):
        engine_of(model_of(patch=(4, 5, 7)))
    with failing("context"), raises(DeviceMemoryFull):
        engine_of(model_of())


def a_call_that_is_not_taken_is_a_lost_device():
    engine = engine_of(model_of())
    with failing("execute"), raises(DeviceLost):
        engine.infer(np.zeros((1, CHANNELS, *PATCH), np.float32))


def onnx_session(folder, **changes):
    """`OnnxCudaEngine` over the CPU's provider: the simulator's device memory is the host's."""
    path = write_network(Path(folder) / "m.onnx", channels=CHANNELS, labels=LABELS)
    model = model_of(onnx_path=path)
    given = {"tile_batch": 2, "provider": "CPUExecutionProvider", "device": "cpu", **changes}
    return model, OnnxCudaEngine(model, **given)


def failing_network():
    """A reshape that only its run finds out to be wrong."""
    from onnx import TensorProto, helper

    shape = (1, CHANNELS, *PATCH)
    graph = helper.make_graph(
        [
            helper.make_node("Shape", ["input"], ["size"]),
            helper.make_node("Add", ["size", "size"], ["twice"]),
            helper.make_node("Reshape", ["input", "twice"], ["logits"]),
        ],
        "broken",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", *shape[1:]])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", LABELS, *PATCH])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


def onnx_runtime_reads_and_writes_our_memory():
    with tempfile.TemporaryDirectory() as folder:
        model, engine = onnx_session(folder)
        assert isinstance(engine, DeviceEngine)
        right = OnnxCpuEngine(model, threads=1, tile_batch=2)
        for count in (2, 1, 2):
            tiles = RNG.standard_normal((count, CHANNELS, *PATCH)).astype(np.float32)
            np.testing.assert_allclose(engine.infer(tiles), right.infer(tiles), atol=1e-4)
        image = RNG.standard_normal((CHANNELS, 7, 8, 6)).astype(np.float32)
        expected = label_map(image, model, right, (9, 7, 11))
        found = label_map(image, model, engine, (9, 7, 11))
        assert np.mean(found == expected) > 0.999
        engine.close()
        engine.close()
        with raises(ModelRefused):
            engine.infer(tiles)


def onnx_runtime_without_cuda_is_refused():
    with tempfile.TemporaryDirectory() as folder, raises(DeviceUnavailable):
        onnx_session(folder, provider="CUDAExecutionProvider", device="cuda")


def what_onnx_runtime_says_has_our_names():
    class Broken:
        def __init__(self, text):
            self._text = text

        def __getattr__(self, name):
            return getattr(session, name)

        def run_with_iobinding(self, *_):
            raise RuntimeError(f"Error in execution: {self._text}")

    with tempfile.TemporaryDirectory() as folder:
        _, engine = onnx_session(folder)
        session = engine._session
        for text, kind in (
            ("BFCArena: Failed to allocate memory for requested buffer", DeviceMemoryFull),
            ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED", DeviceMemoryFull),
            ("CUDA failure 700: an illegal memory access was encountered", DeviceLost),
        ):
            engine._session = Broken(text)
            with raises(kind):
                engine.infer(np.zeros((1, CHANNELS, *PATCH), np.float32))


def what_cuda_says_has_our_names():
    """Copies raise numba's error, launches and linking cuda.core's."""
    for code, kind in ((2, DeviceMemoryFull), (700, DeviceLost)):
        with raises(kind), device_memory.faults_named():
            said = device_memory.CudaAPIError()
            said.code = code
            raise said
    for text, kind in (
        ("CUDA_ERROR_OUT_OF_MEMORY: The API call failed", DeviceMemoryFull),
        ("CUDA_ERROR_ILLEGAL_ADDRESS: While executing a kernel", DeviceLost),
    ):
        with raises(kind), device_memory.faults_named():
            raise CUDAError(text)


def what_onnx_runtime_really_raises_is_named():
    """A node that fails at run time in the installed library: no fake stands for its error."""
    with tempfile.TemporaryDirectory() as folder:
        _, engine = onnx_session(folder)
        engine._session = onnxruntime.InferenceSession(failing_network())
        engine._bindings.clear()
        with raises(DeviceLost):
            engine.enqueue(1)


def input_is_the_cpus():
    """The source in each of two orientations, so that axes are flipped and permuted."""
    shape, spacing_mm = (5, 4, 7), (3.0, 1.0, 1.5)
    voxels = RNG.integers(-1000, 1000, shape, np.int16)
    voxels[0], voxels[:, 0] = 0, 0  # outside of what is masked
    voxels[3] //= 8  # a slice apart has limits of its own
    for orientation in ((1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, 0, 1)):
        geometry = Geometry.from_planes(
            shape,
            np.zeros(3),
            spacing_mm[0] * np.cross(orientation[:3], orientation[3:]),
            orientation,
            spacing_mm[1:],
        )
        scan = Volume(voxels=voxels, geometry=geometry, modality="CT")
        for rules in (
            {},
            {"spacing_mm": None},
            {"image_order": 3},
            {"image_order": 3, "spacing_mm": None},
            {"image_order": 3, "spacing_mm": (3.0, 1.0, 2.0)},
            {"image_order": 3, "image_separate": SeparateAxis(above=1.7)},
            {"image_order": 3, "image_separate": SeparateAxis(above=1.7, order=1)},
            {"image_order": 0},
            {"order": Order.RESAMPLE_FIRST},
            {"order": Order.RESAMPLE_FIRST, "image_order": 3},
        ):
            _compare_inputs(scan, "ct", False, rules)
            # A manifest may not ask for a mask after resampling.
            _compare_inputs(scan, "zscore", "order" not in rules, rules)


def _compare_inputs(scan, scheme, masked, rules):
    normalisation = Normalisation(
        scheme=NormalisationScheme(scheme),
        masked=masked,
        **{"lower": -200.0, "upper": 300.0, "mean": 9.0, "sd": 99.0},
    )
    given = {"spacing_mm": (2.0, 2.0, 1.0), "normalisation": {"CT": (normalisation,)}, **rules}
    model = replace(make_model(labels=2, patch=PATCH), **given)
    expected = prepare(scan, model)
    found = prepare(scan, model, cuda.stream())
    assert (found.box, found.restore_orders) == (expected.box, expected.restore_orders)
    image = found.image.copy_to_host()
    if model.image_order == 3:  # the host's recursion is in float64
        np.testing.assert_allclose(image, expected.image, atol=1e-5, err_msg=str(given))
    elif (scheme, model.order) == ("zscore", Order.RESAMPLE_FIRST):  # statistics of the same
        np.testing.assert_allclose(image, expected.image, rtol=1e-6, err_msg=str(given))
    else:
        np.testing.assert_array_equal(image, expected.image, err_msg=str(given))


def a_volume_goes_up_in_blocks():
    """Permuted and flipped; in blocks of several planes, of one, and where none fits."""
    source = RNG.integers(-999, 999, (7, 5, 9), np.int16).transpose(2, 0, 1)[::-1]
    kept = upload._BLOCK_BYTES
    try:
        for size in (kept, 3 * 70 + 11, 70, 69):
            upload._BLOCK_BYTES = size
            upload._blocks.cache_clear()
            np.testing.assert_array_equal(
                upload.upload(source, cuda.stream()).copy_to_host(), source
            )
    finally:
        upload._BLOCK_BYTES = kept
        upload._blocks.cache_clear()


COMPARISONS = (
    input_is_the_cpus,
    a_volume_goes_up_in_blocks,
    volume_is_the_cpus,
    tiles_of_air_are_left_out,
    what_is_computed_is_what_is_taken,
    logits_that_are_not_finite_are_refused,
    a_batch_on_the_host_goes_up_and_comes_down,
    golden_tile_judges_it,
    golden_tile_goes_through_the_window,
    a_full_batch_is_run_before_a_job_comes,
    kernels_for_the_input_are_compiled,
    plans_that_do_not_fit_are_refused,
    a_call_that_is_not_taken_is_a_lost_device,
    onnx_runtime_reads_and_writes_our_memory,
    onnx_runtime_without_cuda_is_refused,
    what_onnx_runtime_says_has_our_names,
    what_cuda_says_has_our_names,
    what_onnx_runtime_really_raises_is_named,
)

if __name__ == "__main__":
    report_on(COMPARISONS)

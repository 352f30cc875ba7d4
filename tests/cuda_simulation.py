"""Every GPU kernel beside its CPU launcher, in numba's CUDA simulator or on a GPU.

``NUMBA_ENABLE_CUDASIM`` must be set before numba is imported, so `test_cuda_kernels.py` runs this
as a program of its own; `gpu/test_on_gpu.py` imports it. Prints one JSON object: for each
comparison ``""``, or what differs.
"""

import json
import sys
import traceback

import numpy as np
from numba import config, cuda

from viscera.segment import cuda_kernels, kernels, tables
from viscera.volume import cuda_kernels as cuda_volume
from viscera.volume import kernels as volume_kernels
from viscera.volume.sampling import Scaling, axis_table
from viscera.volume.spline import resample_cubic, spline_taps

RNG = np.random.default_rng(5)
STREAM = cuda.stream()


def logits_like(*shape):
    return RNG.standard_normal(shape, np.float32)


def down(array):
    return array.copy_to_host()


def assert_same(found, expected):
    """Equal to the bit; a GPU fuses multiplication and addition, so there to a few of the last."""
    if config.ENABLE_CUDASIM or expected.dtype != np.float32:
        np.testing.assert_array_equal(down(found), expected)
    else:
        np.testing.assert_allclose(down(found), expected, rtol=1e-5, atol=1e-5)


def gather():
    image = logits_like(2, 5, 6, 7)
    for origin, sign in (((-1, -2, 3), (1, 1, 1)), ((5, 4, 9), (-1, 1, -1))):
        tile = np.full((2, 4, 5, 6), np.nan, np.float32)
        kernels.gather(image, origin, sign, tile)
        found = cuda.to_device(np.full_like(tile, np.nan))
        cuda_kernels.gather(cuda.to_device(image), origin, sign, found, STREAM)
        assert_same(found, tile)
        assert (tile == 0).any()
        assert (tile != 0).any()


def accumulate():
    logits, ring = logits_like(3, 4, 5, 6), logits_like(3, 5, 9, 40)
    weights = [RNG.random(n, np.float32) for n in (3, 5, 4)]
    for origin, sign in (((6, 2, 33), (1, 1, 1)), ((9, 6, 38), (-1, -1, -1))):
        low, high = (6, 2, 34), (9, 7, 38)
        expected, found = ring.copy(), cuda.to_device(ring.copy())
        kernels.accumulate(logits, origin, sign, low, high, *weights, expected)
        device = (cuda.to_device(logits), origin, sign, low, high)
        cuda_kernels.accumulate(*device, tuple(map(cuda.to_device, weights)), found, STREAM)
        assert_same(found, expected)
        assert (expected != ring).any()


def mark_above():
    image = np.zeros((1, 6, 9, 70), np.float32)
    image[0, 4, 7, 65], image[0, 1, 0, 0] = 2, 1
    low = np.array([[0, 0, 0], [3, 5, 60], [3, 5, 60], [5, 0, 0], [0, 0, 0]], np.int64)
    high = np.array([[6, 9, 70], [5, 9, 70], [4, 9, 70], [6, 9, 70], [3, 9, 70]], np.int64)
    for value in (0.5, 1.0, 2.0):
        expected, found = np.empty(5, bool), cuda.to_device(np.zeros(5, np.uint8))
        kernels.mark_above(image, low, high, np.float32(value), expected)
        corners = map(cuda.to_device, (low, high))
        cuda_kernels.mark_above(
            cuda.to_device(image), *corners, 6, np.float32(value), found, STREAM
        )
        assert_same(found, expected.astype(np.uint8))
        assert expected.sum() == {0.5: 3, 1.0: 2, 2.0: 0}[value]


def clear():
    found = cuda.to_device(logits_like(2, 4, 3, 5))
    before = down(found).copy()
    cuda_kernels.clear(found, 3, 2, STREAM)
    assert (down(found)[:, [3, 0]] == 0).all()
    np.testing.assert_array_equal(down(found)[:, 1:3], before[:, 1:3])


def find_winners():
    ring = RNG.integers(-2, 3, (4, 3, 5, 6)).astype(np.float32)
    ring[1, 2, 0, 0], ring[2, 0, 1, 1], ring[3, 1, 4, 5] = np.nan, np.inf, -np.inf
    expected, found = np.full((3, 5, 6), 9, np.uint8), cuda.to_device(np.full((3, 5, 6), 9, "u1"))
    count = kernels.find_winners(ring, 2, 2, expected)
    lost = cuda.to_device(np.zeros(1, np.int32))
    cuda_kernels.find_winners(cuda.to_device(ring), 2, 2, found, lost, STREAM)
    assert down(lost)[0] == count == 2, "the third one lies in a plane that was not asked for"
    np.testing.assert_array_equal(down(found)[[0, 2]], expected[[0, 2]])
    assert (down(found)[1] == 9).all()


def restore():
    coarse, fine = (4, 5, 6), (7, 8, 9)
    ring, winners = logits_like(3, *coarse), np.empty(coarse, np.uint8)
    ring[0, :2, :3] = 9  # somewhere the corners agree, and no logit is read
    kernels.find_winners(ring, 0, coarse[0], winners)
    for order in (0, 1):
        axes = [tables.for_order(order, a, b) for a, b in zip(coarse, fine, strict=True)]
        columns = [column for t in axes for column in (t.lower, t.upper, t.weight)]
        expected, found = np.empty(fine, np.uint8), cuda.to_device(np.full(fine, 9, np.uint8))
        kernels.restore(ring, winners, *columns, expected)
        taken = tuple(map(cuda.to_device, columns))
        cuda_kernels.restore(cuda.to_device(ring), cuda.to_device(winners), taken, found, STREAM)
        assert_same(found, expected)
        assert len(np.unique(expected)) == 3


def resample():
    for source in (RNG.integers(-999, 999, (4, 5, 6), np.int16), 300 * logits_like(4, 5, 6)):
        for order in (0, 1):
            expected = np.empty((6, 7, 5), np.float32)
            axes = [axis_table(a, b, order) for a, b in zip(source.shape, (6, 7, 5), strict=True)]
            columns = [(t.low, t.high, t.weight) for t in axes]
            numbers = tuple(map(np.float32, (-250, 350, 12, 120)))
            volume_kernels.resample(source, *columns, *numbers, expected)
            found = cuda.to_device(np.zeros_like(expected))
            flat = tuple(cuda.to_device(column) for axis in columns for column in axis)
            cuda_volume.resample(cuda.to_device(source), flat, numbers, found, STREAM)
            assert_same(found, expected)


def spline():
    """Beside the host's recursion in float64: as near as float32 is, not to the bit."""
    numbers = tuple(map(np.float32, (-250, 350, 12, 120)))
    open_ends = (np.float32([-np.inf]), np.float32([np.inf]))
    scaling = Scaling(lower=-250, upper=350, mean=12, sd=120)
    whole = RNG.integers(-999, 999, (4, 9, 6), np.int16)
    for axis, size, source in (
        (0, 11, whole),
        (1, 3, whole),
        (1, 13, 300 * logits_like(4, 9, 6)),
        (2, 8, whole),
    ):
        shape = tuple(size if k == axis else n for k, n in enumerate(source.shape))
        expected = np.empty(shape, np.float32)
        resample_cubic(source, expected, (3, 3, 3), scaling)
        native = scaling.apply(source)
        found = cuda.to_device(np.zeros(shape, np.float32))
        taps = tuple(map(cuda.to_device, spline_taps(source.shape[axis], size)))
        given = (cuda.to_device(source), axis, taps, numbers)
        cuda_volume.spline(*given, -1, tuple(map(cuda.to_device, open_ends)), found, STREAM)
        free = down(found)
        assert size == 3 or (free != free.clip(native.min(), native.max())).any(), "unclipped"
        np.testing.assert_allclose(free.clip(native.min(), native.max()), expected, atol=5e-6)
        apart = (axis + 1) % 3
        low = np.linspace(-1, 0, shape[apart]).astype(np.float32)
        ends = tuple(map(cuda.to_device, (low, low + 1)))
        cuda_volume.spline(*given, apart, ends, found, STREAM)
        around = [-1 if k == apart else 1 for k in range(3)]
        expected = np.clip(free, low.reshape(around), (low + 1).reshape(around))
        np.testing.assert_array_equal(down(found), expected)


def extremes():
    source = RNG.integers(-999, 999, (3, 17, 23), np.int16)
    for axis in range(3):
        shape = (source.shape[axis], cuda_volume.EXTREMES)
        low, high = (cuda.to_device(np.zeros(shape, np.float32)) for _ in range(2))
        cuda_volume.extremes(cuda.to_device(source), axis, low, high, STREAM)
        others = tuple(k for k in range(3) if k != axis)
        np.testing.assert_array_equal(down(low).min(axis=1), source.min(axis=others))
        np.testing.assert_array_equal(down(high).max(axis=1), source.max(axis=others))


def scale():
    image = 300 * logits_like(3, 4, 5)
    found = cuda.to_device(image)
    numbers = tuple(map(np.float32, (-250, 350, 12, 120)))
    cuda_volume.scale(found, numbers, STREAM)
    assert_same(found, Scaling(lower=-250, upper=350, mean=12, sd=120).apply(image))


def scale_within():
    numbers = tuple(map(np.float32, (-250, 350, 12, 120)))
    for source in (RNG.integers(-999, 999, (3, 4, 5), np.int16), 300 * logits_like(3, 4, 5)):
        mask = RNG.integers(0, 2, source.shape).astype(bool)
        found = cuda.to_device(np.full(source.shape, 9, np.float32))
        given = (cuda.to_device(source), cuda.to_device(mask.view(np.uint8)), numbers, found)
        cuda_volume.scale_within(*given, STREAM)
        scaled = Scaling(lower=-250, upper=350, mean=12, sd=120).apply(source)
        assert_same(found, np.where(mask, scaled, np.float32(0)))


COMPARISONS = (
    *(gather, accumulate, mark_above, clear, find_winners, restore),
    *(resample, spline, extremes, scale, scale_within),
)


def report_on(comparisons):
    said = {}
    for compare in comparisons:
        try:
            compare()
        except Exception:
            said[compare.__name__] = traceback.format_exc()
        else:
            said[compare.__name__] = ""
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    report_on(COMPARISONS)

"""Our resampling against the functions that nnU-Net itself calls."""

import numpy as np
import pytest
from nnunetv2.preprocessing.cropping.cropping import create_nonzero_mask, crop_to_nonzero
from nnunetv2.preprocessing.resampling.default_resampling import (
    compute_new_shape,
    resample_data_or_seg_to_shape,
)

from viscera.domain.models import SeparateAxis
from viscera.segment import tables
from viscera.volume.nonzero import nonzero_box, nonzero_mask
from viscera.volume.prepare import _resample
from viscera.volume.sampling import Scaling, axis_orders, target_shape

pytestmark = pytest.mark.xdist_group("residual")  # no network is waited for

GRIDS = [
    ((31, 40, 37), (1.5, 0.8, 0.8), (1.1, 1.3, 1.2)),
    ((14, 40, 37), (5.0, 0.8, 0.8), (1.5, 1.5, 1.5)),  # thick slices to isotropic
    ((50, 33, 21), (1.0, 1.0, 1.0), (4.0, 0.9, 0.9)),  # the target alone is anisotropic
    ((33, 12, 21), (0.7, 4.0, 0.7), (0.7, 2.0, 1.0)),  # the coarse axis is not the first
    ((20, 30, 6), (0.7, 0.7, 4.0), (0.9, 0.9, 4.0)),  # only the fine axes change
    ((12, 30, 30), (0.3, 1.3, 1.3), (0.6, 1.0, 1.0)),  # two axes share the largest spacing
    ((2, 3, 50), (3.0, 3.0, 3.0), (1.0, 1.0, 6.0)),
]


@pytest.mark.parametrize(("shape", "source_mm", "target_mm"), GRIDS)
def test_images(shape, source_mm, target_mm):
    image = np.random.default_rng(1).standard_normal(shape, np.float32)
    new = compute_new_shape(shape, source_mm, target_mm)
    theirs = resample_data_or_seg_to_shape(
        image[None], new, source_mm, target_mm, order=3, order_z=0, force_separate_z=None
    )[0]
    assert target_shape(shape, source_mm, target_mm) == tuple(new)
    ours = np.empty(tuple(new), np.float32)
    _resample(image, ours, axis_orders(3, SeparateAxis(), source_mm, target_mm), Scaling())
    np.testing.assert_allclose(ours, theirs, atol=4e-6)


@pytest.mark.parametrize(("shape", "source_mm", "target_mm"), GRIDS)
def test_logits(shape, source_mm, target_mm):
    logits = np.random.default_rng(2).standard_normal(shape, np.float32)
    new = tuple(compute_new_shape(shape, source_mm, target_mm))
    theirs = resample_data_or_seg_to_shape(
        logits[None], new, source_mm, target_mm, order=1, order_z=0, force_separate_z=None
    )[0]
    ours = logits.astype(np.float64)
    orders = axis_orders(1, SeparateAxis(), source_mm, target_mm)
    for axis, (order, target) in enumerate(zip(orders, new, strict=True)):
        table = tables.for_order(order, shape[axis], target)
        weight = table.weight.reshape([-1 if k == axis else 1 for k in range(3)])
        low, high = ours.take(table.lower, axis), ours.take(table.upper, axis)
        ours = low + weight * (high - low)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_nearest_rounds_on_their_side():
    for source in range(1, 40):
        for target in range(1, 60):
            values = np.arange(source, dtype=np.float32).reshape(1, source, 1, 1)
            theirs = resample_data_or_seg_to_shape(
                values, (target, 1, 1), (4.0, 1, 1), (4.0, 1, 1), order=1, force_separate_z=True
            )
            assert np.array_equal(tables.nearest(source, target).lower, theirs[0, :, 0, 0])


def test_crop_and_mask():
    rng = np.random.default_rng(3)
    channels = np.zeros((2, 12, 14, 16), np.float32)
    channels[0, 3:9, 4:11, 5:12] = rng.integers(0, 3, (6, 7, 7))
    channels[1, 4:7, 2:6, 6:13] = rng.integers(0, 2, (3, 4, 7))
    assert np.array_equal(nonzero_mask(list(channels)), create_nonzero_mask(channels))
    box = nonzero_box(list(channels))
    assert [[s.start, s.stop] for s in box] == crop_to_nonzero(channels)[2]

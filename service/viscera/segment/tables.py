"""Where a source voxel lies between the model's voxels: one table an axis.

Linear and nearest differ in their tables only, so one kernel serves both, and an axis may be
nearest while the others are linear.
"""

from dataclasses import dataclass

import numpy as np

from viscera.errors import ModelRefused

SLAB = 16
"""Slices written at a time: bounds the buffer, and gives every thread rows enough."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AxisTable:
    """For each target index: ``value[lower] + weight * (value[upper] - value[lower])``."""

    lower: np.ndarray
    """(target,), int64, ascending."""
    upper: np.ndarray
    """(target,), int64; equal to `lower` where `weight` is 0."""
    weight: np.ndarray
    """(target,), float32, from 0 to 1."""


def linear(source: int, target: int) -> AxisTable:
    """Interpolate linearly between voxel centres, edges repeated.

    The scale is the ratio of the shapes. Equal sizes give the identity exactly.

    References
    ----------
    torch ``interpolate(mode="trilinear", align_corners=False)``; scikit-image ``resize(order=1,
    mode="edge", anti_aliasing=False)``, which nnU-Net uses.
    """
    place = (np.arange(target) + 0.5) * (source / target) - 0.5
    place = place.clip(0, source - 1)
    lower = np.floor(place).astype(np.int64)
    weight = (place - lower).astype(np.float32)
    upper = np.where(weight > 0, lower + 1, lower)
    return AxisTable(lower=lower, upper=upper, weight=weight)


def nearest(source: int, target: int) -> AxisTable:
    """Take the voxel whose box holds the target's centre; on a border, the upper one.

    Computed in the order that SciPy's ``map_coordinates`` and nnU-Net do, so that rounding falls
    on the same side where a centre lies on a border.
    """
    place = (source / target) * (np.arange(target) + 0.5) - 0.5
    index = np.floor(place + 0.5).clip(0, source - 1).astype(np.int64)
    return AxisTable(lower=index, upper=index, weight=np.zeros(target, np.float32))


def for_order(order: int, source: int, target: int) -> AxisTable:
    """Return the table of one interpolation order.

    Raises
    ------
    ModelRefused
        If `order` is neither 0 (nearest) nor 1 (linear).
    """
    match order:
        case 0:
            return nearest(source, target)
        case 1:
            return linear(source, target)
    raise ModelRefused(
        f"the manifest asks for logits of order {order}; orders 0 and 1 are known here"
    )

"""What nnU-Net calls nonzero: the box it crops to, and the mask it z-scores over."""

from collections.abc import Sequence

import numpy as np

from viscera.domain.arrays import Mask
from viscera.domain.volumes import Box


def nonzero_box(channels: Sequence[np.ndarray]) -> Box:
    """Return the smallest box that holds every voxel that is not 0 in all channels.

    Parameters
    ----------
    channels
        (z, y, x) each, of one shape.

    Returns
    -------
    tuple
        Slices along (z, y, x); the whole grid where every voxel is 0.

    References
    ----------
    nnU-Net 2.8.1 ``crop_to_nonzero``. Filling holes, as it does first, changes no box.
    """
    z, y, x = (_extent(channels, axis) for axis in range(3))
    return z, y, x


def nonzero_mask(channels: Sequence[np.ndarray]) -> Mask:
    """Return where some channel is not 0, enclosed holes included.

    Returns
    -------
    numpy.ndarray
        (z, y, x), bool.

    References
    ----------
    nnU-Net 2.8.1 ``create_nonzero_mask``: SciPy's ``binary_fill_holes``, joined by faces.
    """
    import SimpleITK as sitk

    inside = np.zeros(channels[0].shape, np.uint8)
    for channel in channels:
        inside |= channel != 0
    # A border of zeros: a hole that touches the array's edge is none.
    framed = sitk.GetImageFromArray(np.pad(inside, 1))
    filled = sitk.GetArrayFromImage(sitk.BinaryFillhole(framed, False, 1))
    mask: Mask = filled[1:-1, 1:-1, 1:-1] != 0
    return mask


def _extent(channels: Sequence[np.ndarray], axis: int) -> slice:
    length = channels[0].shape[axis]
    first = next((k for k in range(length) if _anything(channels, axis, k)), None)
    if first is None:
        return slice(0, length)
    last = next(k for k in reversed(range(length)) if _anything(channels, axis, k))
    return slice(first, last + 1)


def _anything(channels: Sequence[np.ndarray], axis: int, index: int) -> bool:
    return any(bool(np.any(c.take(index, axis))) for c in channels)

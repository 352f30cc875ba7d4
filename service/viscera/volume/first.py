"""TotalSegmentator's own resampling: before nnU-Net's rules begin, and back after they end.

Its program puts a volume onto the network's spacing with SciPy's ``zoom``, cuts the values to
whole numbers, lets nnU-Net segment that, and takes for each source voxel the nearest label. So
crop, statistics and the merging of parts all see that grid, not the source's.

References
----------
TotalSegmentator 2.18 ``resampling.change_spacing``, called by ``nnUNet_predict_image``.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from viscera.domain.arrays import Labels
from viscera.domain.geometry import Geometry, axes_transform, to_axes
from viscera.domain.models import Model
from viscera.domain.volumes import Volume
from viscera.volume.sampling import end_to_end, table_at, target_shape

_INT16 = np.iinfo(np.int16)


def first_grid(geometry: Geometry, model: Model) -> Geometry:
    """Return the grid on which `model` works: `geometry` itself where it has no such rule.

    Its spacing is the rule's, although the outer centres stay and the shape is rounded: nnU-Net
    is told so, and then resamples nothing.
    """
    spacing_mm = _spacing_mm(geometry, model)
    if np.allclose(spacing_mm, geometry.spacing_mm, rtol=1e-6, atol=0):
        return geometry  # and nothing is cut to whole numbers
    affine = geometry.affine_lps.copy()
    affine[:3, :3] *= np.divide(spacing_mm, geometry.spacing_mm)
    shape = target_shape(geometry.shape, geometry.spacing_mm, spacing_mm)
    return Geometry(shape=shape, affine_lps=affine)


def resample_first(volumes: Sequence[Volume], model: Model) -> list[Volume]:
    """Return `volumes` on the grid of :func:`first_grid`; themselves where that is theirs."""
    return [_resampled(one, first_grid(one.geometry, model), model) for one in volumes]


def labels_back(labels: Labels, geometry: Geometry, model: Model) -> Labels:
    """Return a label map of :func:`first_grid` on the source's grid, by the nearest voxel.

    Parameters
    ----------
    geometry
        Of the source.
    """
    if labels.shape == geometry.shape:
        return labels
    found = to_axes(labels, geometry.axes, model.axes)
    permutation, _ = axes_transform(geometry.axes, model.axes)
    for axis, size in enumerate(geometry.shape[k] for k in permutation):
        places = end_to_end(found.shape[axis], size)
        found = found.take(np.floor(places + 0.5).astype(np.int64), axis)
    return np.ascontiguousarray(to_axes(found, model.axes, geometry.axes))


def _spacing_mm(geometry: Geometry, model: Model) -> tuple[float, float, float]:
    if model.first is None:
        return geometry.spacing_mm
    permutation, _ = axes_transform(model.axes, geometry.axes)
    z, y, x = (model.first.spacing_mm[k] for k in permutation)
    return z, y, x


def _resampled(volume: Volume, grid: Geometry, model: Model) -> Volume:
    if grid is volume.geometry or model.first is None:
        return volume
    axes = volume.geometry.axes
    source = to_axes(volume.voxels, axes, model.axes)
    permutation, _ = axes_transform(axes, model.axes)
    shape = tuple(grid.shape[k] for k in permutation)
    resample = _cubic if model.first.order == 3 else _linear
    whole = _whole_numbers(resample(source, shape))
    # What the scanner never measured was made air before; there is no mask on this grid.
    voxels = to_axes(whole, model.axes, axes)
    return replace(volume, voxels=voxels, geometry=grid, padding=None)


def _linear(source: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    from viscera.volume import kernels

    tables = [table_at(end_to_end(n, m), n, 1) for n, m in zip(source.shape, shape, strict=True)]
    out = np.empty(shape, np.float32)
    columns = [(t.low, t.high, t.weight) for t in tables]
    limits = (np.float32(-np.inf), np.float32(np.inf))
    kernels.resample(source, *columns, *limits, np.float32(0), np.float32(1), out)
    return out


def _cubic(source: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    from viscera.volume.spline import resample_axis_at

    current: np.ndarray = source
    for axis in sorted(range(3), key=lambda k: shape[k] / source.shape[k]):
        if source.shape[axis] != shape[axis]:
            places = end_to_end(source.shape[axis], shape[axis])
            current = resample_axis_at(current, axis, places)
    return current


def _whole_numbers(values: np.ndarray) -> np.ndarray:
    """Cut fractions off, towards 0."""
    whole: np.ndarray = np.trunc(values)
    if whole.min() >= _INT16.min and whole.max() <= _INT16.max:
        return whole.astype(np.int16)
    return whole

"""TotalSegmentator's own resampling, judged by SciPy's `zoom`, which its program calls."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from test_prepare_nnunet import model
from volume_builders import axial

from viscera import volume
from viscera.domain.geometry import to_axes
from viscera.domain.models import FirstResampling
from viscera.domain.volumes import Volume

AXES = "SAR"
"""Of nnU-Net's array where its reader gives RAS images."""


def total(spacing_mm: tuple[float, float, float], order: int):
    first = FirstResampling(spacing_mm=spacing_mm, order=order)
    return replace(model(first=first), axes=AXES)


def scan(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Volume:
    rng = np.random.default_rng(3)
    voxels = ndimage.gaussian_filter(rng.normal(0, 2500, shape), 1.5).astype(np.int16)
    return Volume(voxels=voxels, geometry=axial(shape, spacing_mm), modality="CT")


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [
        ((23, 31, 40), (5.0, 0.8, 0.7)),  # thick slices: no axis is treated apart
        ((40, 17, 16), (1.5, 2.9, 3.1)),  # one axis stays
        ((1, 20, 21), (3.0, 1.0, 1.0)),  # a single slice becomes two
        ((2, 20, 21), (0.4, 1.0, 1.0)),  # two become one: the first
    ],
)
def test_a_volume_is_zoomed_and_cut_to_whole_numbers(shape, spacing_mm, order) -> None:
    given = scan(shape, spacing_mm)
    network = total((1.5, 1.5, 1.5), order)
    (found,) = volume.resample_first([given], network)
    turned = to_axes(given.voxels, given.geometry.axes, AXES).astype(float)
    zoom = np.array(spacing_mm) / 1.5
    exact = ndimage.zoom(turned, zoom, mode="nearest", order=order)
    theirs = exact.astype(np.int32)
    ours = to_axes(found.voxels, found.geometry.axes, AXES)
    assert ours.shape == theirs.shape
    assert found.voxels.dtype == np.int16
    assert found.geometry.spacing_mm == pytest.approx((1.5, 1.5, 1.5))
    # Cutting turns a difference in the seventh digit into 1 where a value is whole.
    away = np.abs(exact - np.round(exact)) > 1e-2
    assert np.array_equal(ours[away], theirs[away])
    assert np.abs(ours - theirs).max() <= 1
    assert away.mean() > 0.5


def test_labels_return_by_the_nearest_voxel() -> None:
    geometry = axial((37, 50, 61), (4.0, 0.9, 0.8))
    network = total((1.5, 1.5, 1.5), 3)
    grid = volume.first_grid(geometry, network)
    labels = np.random.default_rng(0).integers(0, 16, grid.shape).astype(np.uint8)
    back = volume.labels_back(labels, geometry, network)
    turned = to_axes(labels, geometry.axes, AXES)
    zoom = np.array(geometry.shape) / np.array(grid.shape)
    theirs = ndimage.zoom(turned, zoom, mode="nearest", order=0)
    assert np.array_equal(to_axes(back, geometry.axes, AXES), theirs)


def test_a_volume_of_that_spacing_stays_as_it_is() -> None:
    given = scan((20, 21, 22), (1.5, 1.5, 1.5))
    network = total((1.5, 1.5, 1.5), 3)
    (found,) = volume.resample_first([given], network)
    assert found is given
    labels = np.ones((20, 21, 22), np.uint8)
    assert volume.labels_back(labels, given.geometry, network) is labels

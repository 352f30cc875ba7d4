"""Separable weights against nnU-Net's way: a 3-D importance map, a count volume, a division."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viscera.segment.tiles import TileGrid
from viscera.segment.weights import axis_weights, gaussian, tile_weights


def importance_map(patch):
    """compute_gaussian: a delta at the centre, Gaussian-filtered with sigma = patch / 8."""
    grids = np.meshgrid(*[np.arange(n) - n // 2 for n in patch], indexing="ij")
    exponent = sum((g / (n / 8)) ** 2 for g, n in zip(grids, patch, strict=True))
    return np.exp(-exponent / 2)


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    patch=st.tuples(*[st.integers(1, 10)] * 3),
    step=st.sampled_from([0.3, 0.5, 1.0]),
)
def test_weights_equal_the_map_over_the_count(shape, patch, step):
    grid = TileGrid.cover(shape, patch, step)
    padded = np.maximum(shape, patch)
    margin = (padded - shape) // 2
    importance, count = importance_map(patch), np.zeros(padded)
    places = []
    for tile in grid:
        place = tuple(
            slice(s + m, s + m + p) for s, m, p in zip(tile.start, margin, patch, strict=True)
        )
        count[place] += importance
        places.append((tile, place))
    inside = np.zeros(padded, bool)
    inside[tuple(slice(m, m + n) for m, n in zip(margin, shape, strict=True))] = True
    wz, wy, wx = tile_weights(grid)
    for tile, place in places:
        k, j, i = tile.row
        ours = wz[k][:, None, None] * wy[j][:, None] * wx[i]
        expected = np.where(inside[place], importance / count[place], 0)
        np.testing.assert_allclose(ours, expected, atol=3e-7)


def test_weights_are_nnunets_but_for_the_volumes_border():
    """Its map is float16 with zeros lifted, which shows only where every tile counts little."""
    patch, size = (32,) * 3, 48
    half = (importance_map(patch) * 10).astype(np.float16)
    half[half == 0] = half[half > 0].min()
    grid = TileGrid.cover((size,) * 3, patch, 0.5)
    count = np.zeros((size,) * 3)
    for tile in grid:
        count[tuple(slice(s, s + 32) for s in tile.start)] += half
    assert (count > 1e-3).mean() > 0.8
    wz, wy, wx = tile_weights(grid)
    for tile in grid:
        k, j, i = tile.row
        place = tuple(slice(s, s + 32) for s in tile.start)
        ours = wz[k][:, None, None] * wy[j][:, None] * wx[i]
        sure = count[place] > 1e-3
        assert np.abs(ours - half / count[place])[sure].max() < 2e-3


@pytest.mark.parametrize("patch", [1, 2, 3, 31, 32, 160])
def test_importance_is_highest_at_the_centre_and_never_zero(patch):
    weights = gaussian(patch)
    assert weights.argmax() == patch // 2
    assert weights.min() > 1e-4


@given(size=st.integers(1, 60), patch=st.integers(1, 40), step=st.floats(0.2, 1.0))
def test_weights_of_each_voxel_sum_to_one(size, patch, step):
    starts = TileGrid.cover((size,) * 3, (patch,) * 3, step).starts[0]
    total = np.zeros(size)
    for start, weights in zip(starts, axis_weights(starts, size, patch), strict=True):
        for voxel, weight in zip(itertools.count(start), weights, strict=False):
            if 0 <= voxel < size:
                total[voxel] += weight
            else:
                assert weight == 0
    np.testing.assert_allclose(total, 1, atol=1e-6)

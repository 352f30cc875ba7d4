"""Tiles cover every voxel, and stand where nnU-Net puts them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from viscera.errors import ModelRefused
from viscera.segment.tiles import TileGrid, axis_starts, passes

sizes = st.integers(1, 40)
steps = st.floats(0.1, 1.0)


@given(size=sizes, patch=sizes, step=steps)
def test_tiles_cover_every_voxel_of_an_axis(size, patch, step):
    starts = axis_starts(size, patch, step)
    seen = np.zeros(size, bool)
    for start in starts:
        seen[max(start, 0) : start + patch] = True
    assert seen.all()
    assert list(starts) == sorted(starts)


@given(size=sizes, patch=sizes, step=steps)
def test_tiles_stay_inside_or_hold_the_whole_axis(size, patch, step):
    starts = axis_starts(size, patch, step)
    if size >= patch:
        assert starts[0] == 0
        assert starts[-1] + patch == size
    else:
        (start,) = starts
        below, above = -start, start + patch - size
        assert above - below in (0, 1)  # centred; the odd voxel goes above, as in pad_nd_image


@pytest.mark.parametrize(
    ("size", "patch", "step", "expected"),
    [
        # By hand after compute_steps_for_sliding_window: ceil((n - p) / (p * step)) + 1 tiles.
        (100, 64, 0.5, (0, 18, 36)),
        (128, 64, 0.5, (0, 32, 64)),
        (129, 64, 0.5, (0, 22, 43, 65)),
        (64, 64, 0.5, (0,)),
        (65, 64, 1.0, (0, 1)),
        (61, 64, 0.5, (-1,)),
        (60, 64, 0.5, (-2,)),
    ],
)
def test_starts_are_nnunets(size, patch, step, expected):
    assert axis_starts(size, patch, step) == expected


def test_tiles_come_z_major():
    tiles = list(TileGrid.cover((9, 9, 9), (4, 4, 4), 0.5))
    assert [t.start for t in tiles] == sorted(t.start for t in tiles)
    assert len(tiles) == len(TileGrid.cover((9, 9, 9), (4, 4, 4), 0.5)) == 64


def test_mirrored_passes_visit_each_combination_once():
    grid = TileGrid.cover((5, 5, 5), (4, 5, 5), 0.5)
    runs = list(passes(grid, (0, 2)))
    assert len(runs) == len(grid) * 4
    assert {r.sign for r in runs} == {(1, 1, 1), (-1, 1, 1), (1, 1, -1), (-1, 1, -1)}
    assert [r.tile.start[0] for r in runs] == sorted(r.tile.start[0] for r in runs)


@pytest.mark.parametrize("axes", [(3,), (-1,), (0, 0)])
def test_unknown_mirror_axes_are_refused(axes):
    with pytest.raises(ModelRefused, match="mirror axes"):
        list(passes(TileGrid.cover((5, 5, 5), (5, 5, 5), 1.0), axes))


@pytest.mark.parametrize(("patch", "step"), [((4, 4, 4), 0.0), ((4, 4, 4), 1.5), ((0, 4, 4), 0.5)])
def test_tiles_that_would_miss_voxels_are_refused(patch, step):
    with pytest.raises(ModelRefused, match="do not cover"):
        TileGrid.cover((9, 9, 9), patch, step)

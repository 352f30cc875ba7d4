"""Views on other axes: where a voxel lies in the patient does not change."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from viscera.domain.geometry import Geometry
from viscera.errors import GeometryMismatch
from viscera.volume import to_axes

PAIRS = ("LR", "PA", "SI")
AXES = st.permutations(PAIRS).flatmap(
    lambda order: st.tuples(*map(st.sampled_from, order)).map("".join)
)
SHAPE = (2, 3, 4)


def positions(axes: str, shape: tuple[int, int, int]) -> np.ndarray:
    """Return (z, y, x, 3) LPS points of a unit grid with these axes, centred on the origin."""
    affine = np.zeros((4, 4))
    for index, letter in enumerate(axes):
        world = next(w for w, pair in enumerate(PAIRS) if letter in pair)
        affine[world, index] = 1.0 if letter == PAIRS[world][0] else -1.0
    affine[3, 3] = 1.0
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    geometry = Geometry(shape=shape, affine_lps=affine)
    assert geometry.axes == axes
    indices = np.indices(shape).reshape(3, -1).T
    return geometry.to_lps(indices).reshape(*shape, 3)


@given(AXES, AXES)
def test_every_voxel_keeps_its_place_in_the_patient(source: str, target: str) -> None:
    there = positions(source, SHAPE)
    turned = np.stack([to_axes(there[..., w], source, target) for w in range(3)], axis=-1)
    np.testing.assert_allclose(turned, positions(target, turned.shape[:3]), atol=1e-9)


@given(AXES, AXES)
def test_writing_to_the_view_writes_to_the_array(source: str, target: str) -> None:
    array = np.zeros(SHAPE, np.uint8)
    view = to_axes(array, source, target)
    view[...] = np.arange(24, dtype=np.uint8).reshape(view.shape)
    assert np.shares_memory(view, array)
    assert np.array_equal(np.sort(array, axis=None), np.arange(24))
    assert np.array_equal(to_axes(view, target, source), array)


def test_read_only_stays_read_only() -> None:
    array = np.zeros(SHAPE)
    array.flags.writeable = False
    assert not to_axes(array, "SPL", "RAI").flags.writeable


@pytest.mark.parametrize("axes", ["SPS", "SP", "XYZ", ""])
def test_letters_that_name_no_grid_are_refused(axes: str) -> None:
    with pytest.raises(GeometryMismatch):
        to_axes(np.zeros(SHAPE), "SPL", axes)

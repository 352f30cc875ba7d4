"""One table an axis: linear like torch and scikit-image, nearest by boxes."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from viscera.errors import ModelRefused
from viscera.segment.tables import for_order, linear, nearest

sizes = st.integers(1, 50)


@given(source=sizes, target=sizes)
def test_linear_equals_numpys_interpolation(source, target):
    values = np.random.default_rng(source * 64 + target).standard_normal(source)
    table = linear(source, target)
    ours = values[table.lower] + table.weight * (values[table.upper] - values[table.lower])
    centres = (np.arange(target) + 0.5) * source / target - 0.5
    np.testing.assert_allclose(ours, np.interp(centres, np.arange(source), values), atol=1e-5)


@given(size=sizes, order=st.sampled_from([0, 1]))
def test_equal_sizes_are_the_identity(size, order):
    table = for_order(order, size, size)
    assert (table.lower == np.arange(size)).all()
    assert (table.upper == table.lower).all()
    assert not table.weight.any()


@given(source=sizes, target=sizes)
def test_nearest_takes_the_box_that_holds_the_centre(source, target):
    table = nearest(source, target)
    for i in range(target):
        place = Fraction(2 * i + 1, 2 * target) * source  # in voxels, from the first one's edge
        if place.denominator > 1:
            assert table.lower[i] <= place < table.lower[i] + 1
        else:  # on a border rounding decides, as it does in SciPy: see tests/parity
            assert table.lower[i] in (place - 1, place)
    assert (table.upper == table.lower).all()


@given(source=sizes, target=sizes, order=st.sampled_from([0, 1]))
def test_tables_are_ascending_and_span_one_voxel_at_most(source, target, order):
    table = for_order(order, source, target)
    assert (np.diff(table.upper) >= 0).all()
    assert ((table.upper - table.lower >= 0) & (table.upper - table.lower <= 1)).all()
    assert 0 <= table.lower.min() <= table.upper.max() < source


def test_other_orders_are_refused():
    with pytest.raises(ModelRefused, match="order 3"):
        for_order(3, 4, 8)

"""Pieces by runs against SimpleITK's connected components."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from viscera.postprocess.pieces import Pieces


@st.composite
def label_maps(draw) -> np.ndarray:
    shape = draw(st.tuples(*[st.integers(1, 12)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    density, values = draw(st.floats(0.05, 1)), draw(st.integers(1, 4))
    painted = rng.integers(1, values, shape, endpoint=True) * (rng.random(shape) < density)
    return painted.astype(np.uint8)


def judged(labels: np.ndarray, value: int, diagonal: bool) -> np.ndarray:
    mask = sitk.GetImageFromArray((labels == value).astype(np.uint8))
    return sitk.GetArrayFromImage(sitk.ConnectedComponent(mask, diagonal))


@settings(max_examples=150, deadline=None)
@given(labels=label_maps(), diagonal=st.booleans())
def test_pieces_are_simpleitk_s(labels, diagonal):
    pieces = Pieces.find(labels, diagonal=diagonal)
    numbers, total = pieces.numbered(), 0
    assert ((numbers > 0) == (labels > 0)).all()
    for value in np.unique(labels[labels > 0]):
        theirs = judged(labels, int(value), diagonal)
        here = labels == value
        # A bijection: as many pairs as there are numbers on either side.
        pairs = set(zip(theirs[here].tolist(), numbers[here].tolist(), strict=True))
        assert len(pairs) == theirs.max() == len({ours for _, ours in pairs})
        total += int(theirs.max())
    assert pieces.count == total


@settings(max_examples=60, deadline=None)
@given(labels=label_maps(), data=st.data())
def test_sums_and_erasure_are_numpy_s(labels, data):
    pieces = Pieces.find(labels)
    numbers = pieces.numbered()
    steps = data.draw(st.tuples(*[st.integers(1, 4)] * 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    inside = rng.random(labels[:: steps[0], :: steps[1], :: steps[2]].shape) < 0.5
    spread = inside
    for axis, step in enumerate(steps):
        spread = np.repeat(spread, step, axis).take(range(labels.shape[axis]), axis)
    values, sums = pieces.sum_up(inside, steps)
    keep = rng.random(pieces.count) < 0.5
    cleaned = labels.copy()
    pieces.erase(cleaned, keep)
    for k in range(pieces.count):
        where = numbers == k + 1
        assert values[k] == labels[where][0]
        expected = [where.sum(), *np.argwhere(where).sum(axis=0), (where & spread).sum()]
        assert sums[k].tolist() == expected
        assert (cleaned[where] == (labels[where] if keep[k] else 0)).all()
    assert not cleaned[labels == 0].any()


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7)])
def test_nothing_has_no_pieces(shape):
    pieces = Pieces.find(np.zeros(shape, dtype=np.uint8))
    assert pieces.count == 0
    assert not pieces.numbered().any()

"""Dice and NSD against SimpleITK, geometry and brute force; intervals against scipy's."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import stats
from scipy.spatial import cKDTree

from viscera.domain.geometry import Geometry
from viscera.evaluate.intervals import estimate
from viscera.evaluate.scores import by_name, score

SPACING = (3.0, 1.5, 1.0)
ORGANS = ("liver", "spleen", "aorta")


def grid(shape) -> Geometry:
    return Geometry(shape=shape, affine_lps=np.diag([*SPACING, 1.0]))


def blobs(seed: int, shape=(14, 40, 48)) -> np.ndarray:
    """Return three smooth blobs, some of which touch."""
    rng = np.random.default_rng(seed)
    index = np.indices(shape).transpose(1, 2, 3, 0) * SPACING
    labels = np.zeros(shape, dtype=np.uint8)
    for value in (1, 2, 3):
        centre = rng.uniform(0.3, 0.7, 3) * np.array(shape) * SPACING
        radii = rng.uniform(8, 14, 3)
        labels[(((index - centre) / radii) ** 2).sum(axis=-1) < 1] = value
    return labels


def scores_of(ours, theirs, tolerance_mm=2.0):
    found = score(ours, theirs, grid(ours.shape), ORGANS, tolerance_mm)
    return {one.organ: one for one in found}


def faces(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the centre (mm) and area of every voxel face between `mask` and what is not."""
    padded = np.pad(mask, 1)
    points, areas = [], []
    for axis in range(3):
        differs = np.diff(padded.astype(np.int8), axis=axis) != 0
        where = np.argwhere(differs).astype(float)
        where[:, axis] += 0.5
        points.append((where - 1) * SPACING)
        areas.append(np.full(len(where), np.prod(SPACING) / SPACING[axis]))
    return np.concatenate(points), np.concatenate(areas)


def brute_force_nsd(ours, theirs, tolerance_mm) -> float:
    (a, wa), (b, wb) = faces(ours), faces(theirs)
    near_a = cKDTree(b).query(a)[0] <= tolerance_mm
    near_b = cKDTree(a).query(b)[0] <= tolerance_mm
    return (wa[near_a].sum() + wb[near_b].sum()) / (wa.sum() + wb.sum())


@pytest.mark.parametrize("seed", range(4))
def test_dice_and_volumes_are_simpleitk_s(seed):
    ours, theirs = blobs(seed), blobs(seed + 100)
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(sitk.GetImageFromArray(theirs), sitk.GetImageFromArray(ours))
    found = scores_of(ours, theirs)
    for value, organ in enumerate(ORGANS, 1):
        assert found[organ].dice == pytest.approx(overlap.GetDiceCoefficient(value))
        assert found[organ].reference_ml == pytest.approx((theirs == value).sum() * 0.0045)
        assert found[organ].prediction_ml == pytest.approx((ours == value).sum() * 0.0045)


@pytest.mark.parametrize("seed", range(4))
def test_nsd_is_near_brute_force_over_voxel_faces(seed):
    theirs = blobs(seed)
    ours = np.roll(theirs, (1, 2), (0, 2))
    # Below the size of a voxel the answer is that of the staircase, which the two draw apart.
    for tolerance_mm in (3.1, 4.0):
        found = scores_of(ours, theirs, tolerance_mm)
        for value, organ in enumerate(ORGANS, 1):
            judge = brute_force_nsd(ours == value, theirs == value, tolerance_mm)
            assert judge > 0.9
            assert found[organ].nsd == pytest.approx(judge, abs=0.04), (organ, tolerance_mm)
    apart = np.roll(theirs, 6, 1)
    found = scores_of(apart, theirs, 3.1)
    for value, organ in enumerate(ORGANS, 1):
        judge = brute_force_nsd(apart == value, theirs == value, 3.1)
        assert judge < 0.7
        assert found[organ].nsd == pytest.approx(judge, abs=0.1), organ


@pytest.mark.parametrize("tolerance_mm", [0.5, 2.5, 3.5, 5.5])
def test_nsd_of_two_plates_is_what_geometry_says(tolerance_mm):
    theirs = np.zeros((12, 90, 90), dtype=np.uint8)
    theirs[4:6, 5:85, 5:85] = 1
    ours = theirs.copy()
    ours[6:8, 5:85, 5:85] = 1  # one of two surfaces lies 2 slices, 6 mm, off
    assert scores_of(ours, theirs, 6.5)["liver"].nsd == pytest.approx(1.0, abs=1e-3)
    # Half of the plates agree; their rims, an eighth of them, agree by and by.
    found = scores_of(ours, theirs, tolerance_mm)["liver"].nsd
    assert 0.5 < found < 0.63
    assert found == pytest.approx(brute_force_nsd(ours == 1, theirs == 1, tolerance_mm), abs=0.02)


def test_the_same_is_one_and_apart_is_nought():
    labels = blobs(1)
    for one in scores_of(labels, labels.copy()).values():
        assert (one.dice, one.nsd) == (1.0, 1.0)
    far = np.zeros_like(labels)
    far[0, 0, 0] = 1
    both = np.where(labels == 1, 1, 0).astype(np.uint8)
    both[0, 0, 0] = 0
    assert (scores_of(far, both)["liver"].dice, scores_of(far, both)["liver"].nsd) == (0, 0)


def test_missing_is_nought_and_what_the_reference_lacks_is_not_scored():
    theirs, ours = blobs(2), blobs(2)
    ours[ours == 1] = 0
    theirs[theirs == 2] = 0
    found = scores_of(ours, theirs)
    assert (found["liver"].dice, found["liver"].nsd, found["liver"].prediction_ml) == (0, 0, 0)
    assert (found["spleen"].dice, found["spleen"].nsd) == (None, None)
    assert found["spleen"].prediction_ml > 0
    nothing = np.zeros_like(ours)
    assert scores_of(nothing, nothing) == {}


def test_values_become_places_and_names_merge():
    labels = np.array([[[0, 1, 2, 7, 255]]], dtype=np.uint8)
    names = {1: "aorta", 2: "liver", 7: "liver"}
    assert by_name(labels, names, ORGANS).tolist() == [[[0, 3, 1, 1, 0]]]


@pytest.mark.parametrize("count", [5, 40])
def test_interval_is_scipy_s(count):
    values = np.random.default_rng(count).beta(8, 2, count)
    ours = estimate(values[:, None])
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)
    assert ours.cases == count
    assert estimate(values[:, None]) == ours


def test_mean_over_organs_leaves_out_what_a_case_does_not_have():
    nan = np.nan
    values = np.array([[0.8, nan], [0.6, 0.2], [nan, 0.4], [nan, nan]])
    found = estimate(values)
    assert found.mean == pytest.approx((0.7 + 0.3) / 2)
    assert found.cases == 3
    # By brute force over all 27 draws of three cases: the range of what can come out.
    draws = [values[list(d)] for d in np.ndindex(3, 3, 3)]
    means = [
        np.nanmean([np.mean(c[~np.isnan(c)]) for c in d.T if (~np.isnan(c)).any()]) for d in draws
    ]
    assert min(means) - 1e-9 <= found.low <= found.high <= max(means) + 1e-9


def test_one_case_has_no_interval():
    found = estimate(np.array([[0.5, 0.7]]))
    assert (found.mean, found.low, found.high, found.cases) == (pytest.approx(0.6), None, None, 1)

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from series_builders import FACTS, SETTINGS, line, make_slices

from viscera.errors import (
    CollidingSlices,
    GeometryMismatch,
    IncompleteSeries,
    UnevenSpacing,
)
from viscera.series.stacks import build_stacks
from viscera.series.traits import TRAITS

TRAIT_NAMES = tuple(trait.name for trait in TRAITS)
counts = st.integers(10, 40)
seeds = st.integers(0, 2**32 - 1)
spacings = st.floats(0.3, 10.0)


def build(slices, **changes):
    return build_stacks(slices, FACTS, SETTINGS.model_copy(update=changes))


def only_stack(slices, **changes):
    stacks, refused = build(slices, **changes)
    assert refused == ()
    (stack,) = stacks
    return stack


def only_error(slices, **changes):
    stacks, refused = build(slices, **changes)
    assert stacks == ()
    (each,) = refused
    return each.error


def named(position):
    return "({:.2f}, {:.2f}, {:.2f})".format(*position)


def random_axes(seed):
    """A random rotation, as DICOM's two direction cosines and their normal."""
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    row, column = axes[:, 0], axes[:, 1]
    return row, column, np.cross(row, column)


def shuffled(slices, seed):
    order = np.random.default_rng(seed).permutation(len(slices))
    return [slices[k] for k in order]


@given(
    seed=seeds,
    count=counts,
    spacing=spacings,
    tilt=st.floats(0, 4.9),
    sign=st.sampled_from((1, -1)),
)
def test_oblique_and_tilted_stacks_keep_their_affine(seed, count, spacing, tilt, sign):
    """Every corner voxel lies where its own slice's header puts it."""
    row, column, normal = random_axes(seed)
    step = sign * spacing * (normal + math.tan(math.radians(tilt)) * column)
    positions = line(count, step, start=(11.0, -222.0, 333.0))
    slices = make_slices(positions, (*row, *column), spacing_mm=(0.8, 0.7))
    stack = only_stack(shuffled(slices, seed))
    by_uid = {each.frame.source: np.array(each.frame.position_lps) for each in slices}
    for k, frame in enumerate(stack.frames):
        for r, c in ((0, 0), (3, 5)):
            world = by_uid[frame.source] + r * 0.8 * column + c * 0.7 * row
            got = stack.geometry.to_lps(np.array([[k, r, c]]))[0]
            np.testing.assert_allclose(got, world, atol=1e-6)
    along = [np.dot(by_uid[frame.source], normal) for frame in stack.frames]
    assert along == sorted(along)
    assert math.isclose(stack.geometry.voxel_ml * 1000, spacing * 0.8 * 0.7, rel_tol=1e-6)


@given(seed=seeds, count=counts)
def test_shuffled_slices_give_the_same_stack(seed, count):
    slices = make_slices(line(count))
    one, other = only_stack(slices), only_stack(shuffled(slices, seed))
    assert one.frames == other.frames
    assert np.array_equal(one.geometry.affine_lps, other.geometry.affine_lps)


@pytest.mark.parametrize("row", [(1, 0, 0), (-1, 0, 0)])
@pytest.mark.parametrize("column", [(0, 1, 0), (0, -1, 0)])
def test_in_plane_flips_sort_along_their_own_normal(row, column):
    stack = only_stack(make_slices(line(10), (*row, *column)))
    normal = np.cross(row, column)
    along = [float(np.dot(frame.position_lps, normal)) for frame in stack.frames]
    assert along == sorted(along)
    # Down a column crossed with along a row is minus the normal: never mirrored, whatever flips.
    assert np.linalg.det(stack.geometry.affine_lps[:3, :3]) < 0


@given(seed=seeds, count=st.integers(14, 40), spacing=spacings, data=st.data())
def test_every_removed_slice_is_missed_by_name(seed, count, spacing, data):
    row, column, normal = random_axes(seed)
    positions = line(count, spacing * normal)
    gone = data.draw(st.sets(st.integers(1, count - 2), min_size=1, max_size=3))
    slices = make_slices(positions, (*row, *column))
    error = only_error([each for k, each in enumerate(slices) if k not in gone])
    assert isinstance(error, IncompleteSeries)
    assert f"{len(gone)} slices are missing" in str(error)
    # Rounding to two decimals may go either way: compare numbers, not texts.
    numbers = np.array(re.findall(r"-?\d+\.\d\d(?=[,)])", str(error)), dtype=float).reshape(-1, 3)
    wanted = positions[sorted(gone)]
    nearest = [np.abs(numbers - place).max(axis=1).min() for place in wanted]
    assert max(nearest) <= 0.011


def test_a_slice_less_at_an_end_cannot_be_known():
    assert len(only_stack(make_slices(line(20))[1:-1]).frames) == 18


def test_many_missing_slices_are_counted_and_the_first_named():
    slices = make_slices(line(200))
    error = only_error([*slices[:50], *slices[150:]])
    assert "100 slices are missing" in str(error)
    assert "and 95 more" in str(error)
    assert len(str(error)) < 400


def test_half_the_gaps_doubled_are_missing_slices_not_uneven_ones():
    heights = np.concatenate([[0], np.cumsum([5.0] * 5 + [10.0] * 5)])
    error = only_error(make_slices([(0, 0, z) for z in heights]))
    assert isinstance(error, IncompleteSeries)
    assert "5 slices are missing" in str(error)


@given(count=counts, data=st.data())
def test_every_doubled_position_is_refused_by_name(count, data):
    positions = line(count)
    twice = data.draw(st.integers(0, count - 1))
    jitter = data.draw(st.sampled_from((0.0, 0.004, -0.004)))
    double = make_slices([positions[twice] + np.array([0, 0, jitter])], first_uid=900)
    error = only_error([*make_slices(positions), *double])
    assert isinstance(error, CollidingSlices)
    assert any(named(positions[twice] + [0, 0, j]) in str(error) for j in (0.0, jitter))


@given(trait=st.sampled_from(TRAIT_NAMES), phases=st.integers(2, 4), count=counts, seed=seeds)
def test_colliding_volumes_are_told_apart_by_any_trait(trait, phases, count, seed):
    slices = [
        each
        for phase in range(phases)
        for each in make_slices(line(count), traits={trait: phase}, first_uid=1 + 100 * phase)
    ]
    stacks, refused = build(shuffled(slices, seed))
    assert refused == ()
    assert len(stacks) == phases
    for stack in stacks:
        uids = sorted(int(frame.source.sop_uid.rsplit(".", 1)[1]) for frame in stack.frames)
        assert uids == list(range(uids[0], uids[0] + count))
        assert uids[0] % 100 == 1


def test_two_traits_together_tell_four_volumes_apart():
    slices = [
        each
        for echo in range(2)
        for phase in range(2)
        for each in make_slices(
            line(12),
            traits={"echo number": echo, "temporal position": phase},
            first_uid=1 + 100 * (2 * echo + phase),
        )
    ]
    stacks, _ = build(slices)
    assert [len(stack.frames) for stack in stacks] == [12] * 4


@given(count=counts, seed=seeds, trait=st.sampled_from(TRAIT_NAMES))
def test_no_trait_splits_what_does_not_collide(count, seed, trait):
    rng = np.random.default_rng(seed)
    traits = [{trait: rng.integers(0, 5)} for _ in range(count)]
    assert len(only_stack(make_slices(line(count), traits=traits)).frames) == count


def test_a_trait_that_differs_everywhere_explains_no_collision():
    """As 21 acquisition numbers in one volume with one slice sent twice."""
    traits = [{"acquisition": k // 2} for k in range(40)]
    slices = make_slices(line(40), traits=traits)
    double = make_slices(line(1), traits={"acquisition": 99}, first_uid=900)
    assert isinstance(only_error([*slices, *double]), CollidingSlices)


@pytest.mark.parametrize("piece", [10, 20])
def test_pieces_of_two_phases_are_no_volumes(piece):
    """Breath-holds or rotations: acquisitions 1, 2, ... are phase one, the others phase two."""
    numbers = [{"acquisition": k // piece} for k in range(80)]
    assert isinstance(only_error(two_phases(numbers)), CollidingSlices)
    # What says the phase itself makes them whole.
    phases = [one | {"temporal position": k // 40} for k, one in enumerate(numbers)]
    stacks, refused = build(two_phases(phases))
    assert ([stack.geometry.shape[0] for stack in stacks], refused) == ([40, 40], ())


def two_phases(traits):
    first = make_slices(line(40), traits=traits[:40])
    return [*first, *make_slices(line(40), traits=traits[40:], first_uid=500)]


def test_phases_of_other_extent_are_volumes_of_their_own():
    """A short late phase over the upper half, and another over the lower one."""
    slices = [
        *make_slices(line(40), traits={"temporal position": 1}),
        *make_slices(line(40)[:20], traits={"temporal position": 2}, first_uid=500),
        *make_slices(line(40)[20:], traits={"temporal position": 3}, first_uid=700),
    ]
    stacks, refused = build(slices)
    assert (sorted(s.geometry.shape[0] for s in stacks), refused) == ([20, 20, 40], ())


def test_a_cut_off_second_phase_does_not_spoil_the_first():
    slices = [
        *make_slices(line(30), traits={"acquisition": 1}),
        *make_slices(line(5), traits={"acquisition": 2}, first_uid=500),
    ]
    stacks, refused = build(slices)
    assert [len(stack.frames) for stack in stacks] == [30]
    assert [(each.frames, type(each.error)) for each in refused] == [(5, IncompleteSeries)]


@given(count=counts, at=st.integers(0, 8), factor=st.floats(1.15, 1.85))
def test_other_gaps_than_multiples_are_uneven(count, at, factor):
    positions = line(count)
    positions[at + 1 :, 2] += (factor - 1) * 2.5
    error = only_error(make_slices(positions))
    assert isinstance(error, UnevenSpacing)
    assert named(positions[at]) in str(error)


@given(seed=seeds, count=counts, spacing=spacings)
def test_jitter_within_the_tolerance_is_accepted(seed, count, spacing):
    rng = np.random.default_rng(seed)
    positions = line(count, (0, 0, spacing))
    positions[:, 2] += rng.uniform(-0.2, 0.2, count) * SETTINGS.spacing_tolerance * spacing
    assert len(only_stack(make_slices(positions)).frames) == count


def test_the_step_is_the_mean_from_first_to_last():
    positions = line(11)
    positions[5, 2] += 0.03
    affine = only_stack(make_slices(positions)).geometry.affine_lps
    np.testing.assert_allclose(affine[:3, 0], [0, 0, 2.5], atol=1e-12)


def test_a_drift_that_no_single_gap_shows_is_uneven():
    gaps = np.repeat([1.0, 1.019], 150)
    positions = np.zeros((301, 3))
    positions[1:, 2] = np.cumsum(gaps)
    error = only_error(make_slices(positions))
    assert isinstance(error, UnevenSpacing)
    assert "drifts" in str(error)


def test_a_slice_beside_the_line_is_refused():
    positions = line(12)
    positions[6, 0] += 0.5
    error = only_error(make_slices(positions))
    assert isinstance(error, GeometryMismatch)
    assert named(positions[6]) in str(error)


@pytest.mark.parametrize(
    ("tilt", "limit", "usable"), [(4.9, 5, True), (5.1, 5, False), (18.5, 20, True)]
)
def test_tilt_is_judged_by_the_setting(tilt, limit, usable):
    positions = line(12, (0, 2.5 * math.tan(math.radians(tilt)), 2.5))
    stacks, refused = build(make_slices(positions), max_tilt_degrees=limit)
    assert bool(stacks) is usable
    assert [type(each.error) for each in refused] == [GeometryMismatch] * (not usable)


def test_uneven_spacing_is_named_before_tilt():
    positions = line(12, (0, 1.0, 2.5))
    positions[6:] += [0, 0.6, 1.5]
    assert isinstance(only_error(make_slices(positions)), UnevenSpacing)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_too_few_slices_are_incomplete(count):
    error = only_error(make_slices(line(count)))
    assert isinstance(error, IncompleteSeries)
    assert f"{count} where at least 8" in str(error)


def test_one_slice_is_no_volume_whatever_the_setting_says():
    assert isinstance(only_error(make_slices(line(1)), min_slices=1), IncompleteSeries)
    assert len(only_stack(make_slices(line(2)), min_slices=1).frames) == 2


def test_too_many_voxels_are_refused_before_anything_is_allocated():
    error = only_error(make_slices(line(8), rows=65535, columns=65535))
    assert isinstance(error, GeometryMismatch)
    assert "34358689800 voxels" in str(error)


def test_orientation_matrix_and_spacing_make_stacks_of_their_own():
    slices = [
        *make_slices(line(20)),
        *make_slices(line(15), rows=8, first_uid=100),
        *make_slices(line(14), spacing_mm=(1.0, 1.0), first_uid=200),
        *make_slices(line(13, (2.5, 0, 0)), (0, 1, 0, 0, 0, 1), first_uid=300),
        *make_slices(line(3, (0, 2.5, 0)), (1, 0, 0, 0, 0, -1), first_uid=400),
    ]
    stacks, refused = build(slices)
    assert [len(stack.frames) for stack in stacks] == [20, 15, 14, 13]
    assert [each.frames for each in refused] == [3]


def test_rounded_orientations_stay_one_stack():
    slices = make_slices(line(10))
    slices += make_slices(line(20)[10:], (0.99999, 0.0001, 0, -0.0001, 1, 0), first_uid=100)
    assert len(only_stack(slices).frames) == 20


@settings(max_examples=300)
@given(
    places=st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 2), st.integers(0, 2)), min_size=8, max_size=40
    )
)
def test_whatever_comes_out_is_even_and_complete(places):
    """Any heap of slices: each ends in one stack or one refusal, and every stack is a grid."""
    positions = [(0.0, 0.0, 3.0 * z) for z, _, _ in places]
    traits = [{"echo number": echo, "acquisition": number} for _, echo, number in places]
    stacks, refused = build(make_slices(positions, traits=traits))
    frames = [frame for stack in stacks for frame in stack.frames]
    assert len(set(frames)) == len(frames)
    assert len(frames) + sum(each.frames for each in refused) == len(places)
    for stack in stacks:
        heights = [frame.position_lps[2] for frame in stack.frames]
        assert len(heights) >= SETTINGS.min_slices
        assert len(set(np.diff(heights))) == 1

"""`segment` against a plain numpy sliding window with full-resolution logits."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from segment_fakes import FunctionEngine, make_model
from viscera.errors import GeometryMismatch, ModelRefused
from viscera.segment import segment
from viscera.segment.tiles import TileGrid

small = st.tuples(*[st.integers(1, 13)] * 3)


def sliding_window(image, network, model):
    """nnU-Net's way: pad, predict each tile and its mirrors, weigh, count, divide, crop."""
    shape, patch = np.array(image.shape[1:]), np.array(model.patch_size)
    below = np.maximum(patch - shape, 0) // 2
    above = np.maximum(patch - shape, 0) - below
    padded = np.pad(image, [(0, 0), *zip(below, above, strict=True)]).astype(np.float64)
    grids = np.meshgrid(*[np.arange(n) - n // 2 for n in patch], indexing="ij")
    gauss = np.exp(-sum((g / (n / 8)) ** 2 for g, n in zip(grids, patch, strict=True)) / 2)
    total, count = 0.0, 0.0
    starts = []
    for n, p in zip(padded.shape[1:], patch, strict=True):
        tiles = int(np.ceil((n - p) / (p * model.step))) + 1
        gap = (n - p) / max(tiles - 1, 1)
        starts.append([int(np.round(gap * i)) for i in range(tiles)])
    axes = [a + 1 for a in model.mirror_axes]
    mirrors = [c for r in range(len(axes) + 1) for c in itertools.combinations(axes, r)]
    for start in itertools.product(*starts):
        place = (slice(None), *[slice(s, s + p) for s, p in zip(start, patch, strict=True)])
        tile = padded[place]
        answer = np.mean([np.flip(network(np.flip(tile, m)[None])[0], m) for m in mirrors], axis=0)
        if np.isscalar(total):
            total = np.zeros((len(answer), *padded.shape[1:]))
            count = np.zeros(padded.shape[1:])
        total[place] += gauss * answer
        count[place[1:]] += gauss
    crop = (slice(None), *[slice(b, b + n) for b, n in zip(below, shape, strict=True)])
    return (total / count)[crop]


def resized(logits, shape):
    """Linear along each axis in turn, at voxel centres, edges repeated."""
    for axis, target in enumerate(shape, start=1):
        source = logits.shape[axis]
        centres = (np.arange(target) + 0.5) * source / target - 0.5
        logits = np.apply_along_axis(
            lambda line, c=centres, n=source: np.interp(c, np.arange(n), line), axis, logits
        )
    return logits


def assert_labels(ours, logits):
    """Equal wherever the best logit is clearly ahead of the second."""
    two = np.sort(logits, axis=0)[-2:]
    clear = two[1] - two[0] > 1e-4
    assert clear.mean() > 0.9
    assert (ours == logits.argmax(axis=0))[clear].all()


def run(image, model, engine, shape):
    labels = np.full(shape, 77, np.uint8)
    segment(image, model, engine, labels, lambda done: None)
    return labels


def random_network(labels, channels, patch, seed):
    """Answers that depend on where a voxel lies in the tile: mirrors and weights show."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((labels, channels))
    place = 1 + 0.3 * rng.standard_normal((labels, *patch))
    offset = 0.3 * rng.standard_normal((labels, *patch))

    def network(tiles):
        return np.einsum("lc,nczyx->nlzyx", mix, tiles) * place + offset

    return network


@settings(deadline=None, max_examples=50)
@given(
    shape=small,
    target=small,
    patch=st.tuples(*[st.integers(1, 8)] * 3),
    step=st.sampled_from([0.4, 0.5, 1.0]),
    mirror=st.sampled_from([(), (2,), (0, 1), (0, 1, 2)]),
    channels=st.integers(1, 2),
    batch=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_labels_equal_a_plain_sliding_window(
    shape, target, patch, step, mirror, channels, batch, seed
):
    model = make_model(labels=4, channels=channels, patch=patch, step=step, mirror_axes=mirror)
    # Each pass is a few kernel launches; many tiny tiles show nothing that some do not.
    assume(len(TileGrid.cover(shape, patch, step)) << len(mirror) <= 200)
    network = random_network(5, channels, patch, seed)
    image = np.random.default_rng(seed).standard_normal((channels, *shape), np.float32)
    engine = FunctionEngine(lambda tiles: network(tiles).astype(np.float32), batch)
    labels = run(image, model, engine, target)
    expected = resized(sliding_window(image, network, model), target)
    two = np.sort(expected, axis=0)[-2:]
    clear = two[1] - two[0] > 1e-4
    assert (labels == expected.argmax(axis=0))[clear].all()


@pytest.mark.parametrize("target", [(60, 90, 70), (15, 20, 18), (31, 41, 37)])
def test_smooth_logits_up_and_down(target):
    rng = np.random.default_rng(3)
    logits = resized(rng.standard_normal((7, 5, 6, 4)), (31, 41, 37)).astype(np.float32)
    model = make_model(labels=6, channels=7, patch=(8, 16, 16))
    assert_labels(run(logits, model, FunctionEngine(), target), resized(logits, target))


def test_native_grid_is_the_plain_argmax():
    logits = np.random.default_rng(0).integers(-9, 9, (4, 9, 10, 11)).astype(np.float32)
    model = make_model(labels=3, channels=4, patch=(4, 5, 6), step=1.0)
    # Whole numbers tie often, and the first of equals wins; one tile a voxel keeps them exact.
    image = logits[:, :8, :10, :6]
    labels = run(image, model, FunctionEngine(), image.shape[1:])
    assert (labels == image.argmax(axis=0)).all()


def test_a_constant_stays_constant_under_blending():
    # A label 3e-6 ahead of the others stays ahead everywhere only if weights sum to 1 evenly.
    model = make_model(labels=2, patch=(6, 7, 5), step=0.3)
    constants = np.array([1.0, 1.000003, 0.5], np.float32)

    def network(tiles):
        return np.broadcast_to(
            constants[:, None, None, None], (len(tiles), 3, *tiles.shape[2:])
        ).copy()

    image = np.zeros((1, 17, 19, 23), np.float32)
    assert (run(image, model, FunctionEngine(network), (33, 12, 23)) == 1).all()


@pytest.mark.parametrize("target", [(12, 10, 14), (30, 25, 35)])
def test_the_first_of_equal_labels_wins(target):
    logits = np.random.default_rng(4).standard_normal((3, 12, 10, 14), np.float32)
    twins = logits[[0, 1, 1, 2]]
    model = make_model(labels=3, channels=4, patch=(6, 6, 6))
    labels = run(twins, model, FunctionEngine(), target)
    assert set(np.unique(labels)) == {0, 1, 3}


def test_nearest_repeats_voxels():
    logits = np.random.default_rng(1).standard_normal((3, 4, 5, 6), np.float32)
    model = make_model(labels=2, channels=3, patch=(4, 5, 6), logits_order=0)
    expected = logits.argmax(axis=0).repeat(3, 0).repeat(2, 1)
    assert (run(logits, model, FunctionEngine(), (12, 10, 6)) == expected).all()


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_batches_are_filled_and_change_nothing(batch):
    image = np.random.default_rng(5).standard_normal((3, 10, 9, 8), np.float32)
    model = make_model(labels=2, channels=3, patch=(4, 4, 4), mirror_axes=(1,))
    engine = FunctionEngine(tile_batch=batch)
    labels = run(image, model, engine, (20, 18, 8))
    assert (labels == run(image, model, FunctionEngine(), (20, 18, 8))).all()
    assert set(engine.calls[:-1]) == {batch}


@pytest.mark.parametrize("permutation", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (1, -1, 1)])
def test_any_view_is_read_and_filled(permutation, flips):
    """Bands of intensity through views of a source array, as the pipeline hands them over."""
    stored = np.random.default_rng(2).uniform(0, 100, (21, 12, 15)).astype(np.float32)
    labels = np.zeros(stored.shape, np.uint8)

    def view(array):
        return array.transpose(permutation)[tuple(slice(None, None, f) for f in flips)]

    edges = np.array([25, 50, 75], np.float32)

    def bands(tiles):
        # Linear logits whose winner changes at each edge: k * v - sum of the first k edges.
        offsets = np.concatenate([[0], np.cumsum(edges)]).astype(np.float32)
        return np.concatenate([k * tiles - offsets[k] for k in range(4)], axis=1)

    image = view(stored)[None]
    image.flags.writeable = False
    model = make_model(labels=3, patch=(8, 8, 8))
    segment(image, model, FunctionEngine(bands), view(labels), lambda done: None)
    sure = np.abs(stored[..., None] - edges).min(axis=-1) > 1e-3
    assert (labels == np.digitize(stored, edges))[sure].all()


@pytest.mark.parametrize("shape", [(3, 20, 20), (20, 3, 20), (20, 20, 3), (3, 4, 5), (1, 1, 1)])
def test_a_volume_smaller_than_the_patch_is_centred_in_zeros(shape):
    seen = []

    def network(tiles):
        seen.append(tiles.copy())
        return np.concatenate([np.zeros_like(tiles), tiles], axis=1)

    image = np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)
    model = make_model(labels=1, patch=(8, 8, 8), step=1.0)
    labels = run(image, model, FunctionEngine(network), shape)
    assert (labels == (image[0] > 0)).all()
    padded = np.pad(
        image[0],
        [((8 - n) // 2, 8 - n - (8 - n) // 2) if n < 8 else (0, 0) for n in shape],
    )
    assert (seen[0][0, 0] == padded[:8, :8, :8]).all()


def test_progress_rises_to_one_and_may_stop_the_run():
    image = np.zeros((2, 12, 12, 12), np.float32)
    model = make_model(labels=1, channels=2, patch=(4, 4, 4))
    steps = []
    segment(image, model, FunctionEngine(), np.zeros((12, 12, 12), np.uint8), steps.append)
    assert steps == sorted(steps)
    assert steps[-1] == 1.0
    assert 0 <= steps[0] < 0.1

    def stop(done):
        if done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment(image, model, FunctionEngine(), np.zeros((12, 12, 12), np.uint8), stop)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(poison):
    image = np.zeros((2, 12, 12, 12), np.float32)
    model = make_model(labels=1, channels=2, patch=(6, 6, 6))

    def network(tiles):
        logits = tiles.copy()
        logits[0, 1, 2, 3, 4] = poison
        return logits

    with pytest.raises(ModelRefused, match="NaN or infinity"):
        run(image, model, FunctionEngine(network), (12, 12, 12))


def test_an_answer_of_another_shape_is_refused():
    image = np.zeros((3, 6, 6, 6), np.float32)
    model = make_model(labels=1, channels=3, patch=(6, 6, 6))
    with pytest.raises(ModelRefused, match="promises"):
        run(image, model, FunctionEngine(), (6, 6, 6))


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        (np.zeros((6, 6, 6), np.float32), np.zeros((6, 6, 6), np.uint8)),
        (np.zeros((1, 6, 6, 6)), np.zeros((6, 6, 6), np.uint8)),
        (np.zeros((2, 6, 6, 6), np.float32), np.zeros((6, 6, 6), np.uint8)),
        (np.zeros((1, 6, 6, 6), np.float32), np.zeros((6, 6, 6), np.int16)),
        (np.zeros((1, 6, 0, 6), np.float32), np.zeros((6, 6, 6), np.uint8)),
    ],
)
def test_wrong_arrays_are_named(image, labels):
    with pytest.raises(GeometryMismatch):
        segment(image, make_model(labels=1, patch=(4,) * 3), FunctionEngine(), labels, print)


def test_more_labels_than_a_byte_are_refused():
    model = make_model(labels=255, patch=(4,) * 3)
    with pytest.raises(ModelRefused, match="at most 254"):
        run(np.zeros((1, 4, 4, 4), np.float32), model, FunctionEngine(), (4, 4, 4))


def test_an_axis_may_be_nearest_while_the_others_are_linear():
    logits = resized(np.random.default_rng(6).standard_normal((4, 3, 5, 4)), (6, 11, 9))
    model = make_model(labels=3, channels=4, patch=(6, 8, 8))
    labels = np.zeros((18, 20, 17), np.uint8)
    image = logits.astype(np.float32)
    segment(image, model, FunctionEngine(), labels, lambda done: None, (0, 1, 1))
    assert_labels(labels, resized(logits.repeat(3, axis=1), (18, 20, 17)))


def test_outputs_become_the_labels_that_are_reported():
    image = np.random.default_rng(7).standard_normal((5, 6, 6, 6)).astype(np.float32)
    model = replace(make_model(labels=2, channels=5, patch=(6, 6, 6)), outputs=(0, 2, 0, 1, 2))
    labels = run(image, model, FunctionEngine(), (6, 6, 6))
    assert (labels == np.array([0, 2, 0, 1, 2])[image.argmax(axis=0)]).all()

"""Tiles that show nothing but air are left out, and nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest

from segment_fakes import FunctionEngine, make_model
from viscera.domain.models import Normalisation, NormalisationScheme
from viscera.segment import segment
from viscera.segment.tiles import TileGrid

CT = Normalisation(scheme=NormalisationScheme.CT, lower=-1000.0, upper=400.0, mean=-100.0, sd=200.0)
MODEL = replace(make_model(labels=2, patch=(8, 10, 12)), normalisation={"CT": (CT,)}, skip_air=True)
SHAPE, TARGET = (60, 40, 50), (71, 40, 33)
AIR, WATER = -4.5, 0.5


def body(*places):
    """A volume of noisy air with some boxes of something denser."""
    image = np.random.default_rng(3).normal(AIR, 0.3, (1, *SHAPE)).astype(np.float32)
    for place in places:
        image[(0, *place)] += WATER - AIR
    return image


LOW = (slice(2, 5), slice(20, 31), slice(0, 9))
HIGH = (slice(50, 58), slice(3, 9), slice(30, 44))
TWO = body(LOW, HIGH)  # five rows of tiles between them are air


class Counting(FunctionEngine):
    """Dense voxels are label 1, very dense ones label 2."""

    def __init__(self):
        super().__init__(self._network, 2)
        self.count = 0

    def _network(self, tiles):
        self.count += len(tiles)
        value = tiles[:, 0]
        return np.stack([-value, value, 2 * value - 2], axis=1).astype(np.float32)


def run(image, model):
    engine, labels = Counting(), np.full(TARGET, 77, np.uint8)
    segment(image, model, engine, labels, lambda done: None)
    return labels, engine.count


def tiles_with(image, above):
    grid = TileGrid.cover(SHAPE, MODEL.patch_size, MODEL.step)
    count = 0
    for tile in grid:
        box = tuple(slice(s, s + p) for s, p in zip(tile.start, MODEL.patch_size, strict=True))
        count += bool((image[(0, *box)] > above).any())
    return count, len(grid)


@pytest.mark.parametrize("mirror", [(), (0, 2)])
@pytest.mark.parametrize(
    "image", [TWO, body(HIGH), body(LOW), body()], ids=["two", "high", "low", "none"]
)
def test_the_label_map_is_that_of_all_tiles(image, mirror):
    model = replace(MODEL, mirror_axes=mirror)
    found, computed = run(image, model)
    expected, every = run(image, replace(model, skip_air=False))
    np.testing.assert_array_equal(found, expected)
    shown, all_tiles = tiles_with(image, above=-2)
    assert (computed, every) == (shown << len(mirror), all_tiles << len(mirror))
    assert computed < 0.5 * every


def test_where_no_tile_came_is_background():
    class One(Counting):
        def _network(self, tiles):
            answer = super()._network(tiles)
            answer[:, 2] = 50  # label 2 wherever it is asked
            return answer

    labels = np.full(SHAPE, 77, np.uint8)
    segment(TWO, MODEL, One(), labels, lambda done: None)
    assert (labels[LOW] == 2).all()
    assert (labels[20:40] == 0).all()


@pytest.mark.parametrize("lower", [-250.0, -1000.0])
def test_air_below_the_lowest_intensity_is_air(lower):
    how = replace(CT, lower=lower)
    hu = np.full(SHAPE, -1024.0)
    hu[HIGH] = 40
    image = ((np.clip(hu, how.lower, how.upper) - how.mean) / how.sd).astype(np.float32)[None]
    model = replace(MODEL, normalisation={"CT": (how,)})
    assert run(image, model)[1] == tiles_with(image, above=image.min())[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"skip_air": False},
        {"modalities": ("MR",)},
        {"modalities": ("CT", "MR")},
        {"normalisation": {"CT": (replace(CT, scheme=NormalisationScheme.ZSCORE),)}},
        {"outputs": (1, 0, 2)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_where_air_has_no_known_value_every_tile_is_run(changes):
    assert run(TWO, replace(MODEL, **changes))[1] == tiles_with(TWO, above=-2)[1]

"""Leaner copies lose fat and girth and nothing else; small organs grow into fat alone."""

import math

import numpy as np
import pytest

from viscera.training import variants
from viscera.training.labelled import FAT, LabelledVolume, divide
from viscera.training.lean import leaner

SPACING_MM = 6.0


def count(volume: LabelledVolume, name: str) -> int:
    return int(np.count_nonzero(volume.structures == volume.names.index(name)))


def girth(volume: LabelledVolume) -> int:
    return int((volume.structures[20] > 0).any(0).sum())


def test_fat_shrinks_and_organs_keep_their_size(volume: LabelledVolume) -> None:
    lean, leanest = leaner(volume, (2, 5))
    for one, steps in ((lean, 2), (leanest, 5)):
        assert count(one, FAT) / count(volume, FAT) == pytest.approx(
            math.exp(-0.3 * steps), rel=0.25
        )
        for organ in ("Liver", "urinary_bladder", "hip left"):
            assert count(one, organ) / count(volume, organ) == pytest.approx(1, abs=0.08)
        assert one.names == volume.names
    assert girth(volume) > girth(lean) > girth(leanest)


def test_the_image_moves_with_its_structures(volume: LabelledVolume) -> None:
    (lean,) = leaner(volume, (4,))
    for name, hu in (("Liver", 60), ("hip left", 400), (FAT, -100)):
        inside = lean.hu[lean.structures == lean.names.index(name)]
        assert np.median(inside) == pytest.approx(hu, abs=12)
    assert (lean.hu[lean.structures == 0] < -300).mean() > 0.99


def test_fat_between_two_organs_goes_until_they_touch() -> None:
    hu = np.full((24, 50, 60), -1000, np.int16)
    hu[:, 8:42, 8:52] = -100
    found = np.zeros(hu.shape, np.int64)
    for value, columns in ((1, slice(18, 27)), (2, slice(33, 42))):
        hu[4:20, 15:35, columns], found[4:20, 15:35, columns] = 50, value
    named = {1: "liver", 2: "spleen"}
    volume = divide("two", hu, found, named, SPACING_MM)
    (lean,) = leaner(volume, (7,))
    row = lean.structures[12, lean.structures.shape[1] // 2]
    liver, spleen = (np.flatnonzero(row == lean.names.index(name)) for name in named.values())
    assert 0 < spleen.min() - liver.max() - 1 <= 3  # six voxels lay between them


def test_no_steps_no_copies(volume: LabelledVolume) -> None:
    assert list(leaner(volume, ())) == []


@pytest.fixture
def belly() -> LabelledVolume:
    hu = np.full((20, 40, 40), -1000, np.int16)
    hu[:, 4:36, 4:36] = -100
    found = np.zeros(hu.shape, np.int64)
    for value, at in ((1, slice(12, 16)), (2, slice(22, 26)), (3, slice(26, 30))):
        hu[8:12, 12:24, at], found[8:12, 12:24, at] = 40, value
    return divide("belly", hu, found, {1: "pancreas", 2: "gallbladder", 3: "liver"}, SPACING_MM)


def test_a_pancreas_grows_at_times_and_only_into_fat(belly: LabelledVolume) -> None:
    pancreas, fat = belly.names.index("pancreas"), belly.names.index(FAT)
    grown = 0
    for seed in range(12):
        hu, structures = belly.hu.astype(np.float32), belly.structures.copy()
        variants.vary(hu, structures, belly, np.random.default_rng(seed))
        gained = (structures == pancreas) & (belly.structures != pancreas)
        assert (belly.structures[gained] == fat).all()
        assert (structures == pancreas)[belly.structures == pancreas].all()
        assert (structures == belly.names.index("liver")).sum() == count(belly, "liver")
        if gained.any():
            grown += 1
            assert hu[gained].mean() == pytest.approx(40, abs=10)
    assert 3 <= grown <= 11


def test_a_gall_bladder_that_is_gone_leaves_fat(belly: LabelledVolume) -> None:
    gone = 0
    for seed in range(20):
        hu, structures = belly.hu.astype(np.float32), belly.structures.copy()
        variants.vary(hu, structures, belly, np.random.default_rng(seed))
        was = belly.structures == belly.names.index("gallbladder")
        if not (structures == belly.names.index("gallbladder")).any():
            gone += 1
            assert hu[was].mean() == pytest.approx(-90, abs=8)
    assert 1 <= gone <= 12

"""Deformed and repainted bodies have the sizes and brightness that were asked for."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from viscera.training import appearance, dome
from viscera.training.deform import Warp, draw_warp, warp
from viscera.training.draw import Sources
from viscera.training.labelled import UNSURE, LabelledVolume
from viscera.training.noise import blur, smooth_noise
from viscera.training.outline import outline_of
from viscera.training.recipe import HELD_OUT_SEED, REFERENCE

SPACING_MM = 6.0
LIVER = 6


def plain(shape: tuple[int, int, int], scale: float = 1.0, fat: float = 1.0) -> Warp:
    return Warp(
        shape=shape,
        matrix=(np.eye(3) / scale).astype(np.float32),
        displacement=np.zeros((3, *shape), np.float32),
        bumps=np.zeros((0, 8), np.float32),
        fat=fat,
    )


def test_the_identity_changes_nothing(volume: LabelledVolume) -> None:
    hu, structures = warp(volume, outline_of(volume), plain(volume.hu.shape))
    inside = (slice(1, -1),) * 3
    assert (structures == volume.structures)[inside].mean() > 0.999
    assert np.abs(hu - volume.hu)[inside].mean() < 2


def test_a_larger_body_has_larger_organs(volume: LabelledVolume) -> None:
    shape = tuple(round(1.3 * n) for n in volume.hu.shape)
    _, structures = warp(volume, outline_of(volume), plain(shape, scale=1.3))
    counts = [np.count_nonzero(volume.organs[s] == LIVER) for s in (volume.structures, structures)]
    assert counts[1] / counts[0] == pytest.approx(1.3**3, rel=0.05)


@pytest.mark.parametrize("fat", [0.3, 1.6])
def test_fat_gets_thicker_and_organs_stay(volume: LabelledVolume, fat: float) -> None:
    hu, structures = warp(volume, outline_of(volume), plain(volume.hu.shape, fat=fat))
    row = hu[20, 30, 33:]
    thick = np.count_nonzero((row > -130) & (row < -30))
    assert thick == pytest.approx(7 * fat, abs=1.6)  # from the wall at 18 to the skin at 25
    kept = (volume.organs[structures] == LIVER) == (volume.organs[volume.structures] == LIVER)
    assert kept.mean() > 0.999


def jacobians(volume: LabelledVolume, by: Warp) -> np.ndarray:
    """The determinants of the map's derivative, where it comes from within `volume`.

    What is warped are the coordinates themselves, which interpolation gives back as they are.
    """
    shape = volume.hu.shape
    fields = np.indices(shape).astype(np.float32)
    at = np.stack([warp(replace(volume, hu=one), outline_of(volume), by)[0] for one in fields])
    # Beyond the last slices z stands still; elsewhere outside nothing is painted.
    inside = (at[0] > 0) & (at[0] < shape[0] - 1.001) & (at[1] >= 0)
    inside = sitk.GetArrayFromImage(
        sitk.BinaryErode(sitk.GetImageFromArray(inside.astype(np.uint8)), [1, 1, 1])
    )
    steps = np.stack([np.stack(np.gradient(one), -1) for one in at], -2)
    found = np.linalg.det(steps[inside > 0])
    assert found.size > 20_000
    return found


def test_no_drawn_warp_folds_the_body_over(volume: LabelledVolume) -> None:
    for seed in range(10):
        by = draw_warp(volume, np.random.default_rng(seed), SPACING_MM, (0.68, 1.35))
        assert jacobians(volume, by).min() > 0, seed


@pytest.mark.parametrize("growth", [-0.45, 0.0, 0.45])
@pytest.mark.parametrize("share", [(0.5, 0.5, 0.5), (0.5, -0.5, 0), (-0.5, 0, 0)])
def test_a_bump_at_its_bounds_does_not_fold(
    volume: LabelledVolume, growth: float, share: tuple[float, ...]
) -> None:
    """The largest that may be drawn; of several the determinants multiply."""
    radius = 6.0
    bump = [20, 30, 33, radius, growth, *(radius * one for one in share)]
    by = replace(plain(volume.hu.shape), bumps=np.array([bump], np.float32))
    assert jacobians(volume, by).min() > 0


def test_a_drawn_warp_keeps_the_liver_s_size_within_reason(volume: LabelledVolume) -> None:
    for seed in range(5):
        by = draw_warp(volume, np.random.default_rng(seed), SPACING_MM, (0.68, 1.35))
        _, structures = warp(volume, outline_of(volume), by)
        liver = np.count_nonzero(volume.organs[structures] == LIVER)
        expected = np.count_nonzero(volume.organs[volume.structures] == LIVER) / np.linalg.det(
            by.matrix
        )
        assert 0.25 < liver / expected < 3


def test_recolouring_moves_an_organ_and_leaves_fat_and_bone(volume: LabelledVolume) -> None:
    look = appearance.draw_look(volume, np.random.default_rng(3))
    hu = appearance._recolour(volume.hu.astype(np.float32), volume.structures, volume, look)
    at = volume.organs[volume.structures] == LIVER
    wanted = look.target_hu[list(volume.organs).index(LIVER)]
    assert np.median(hu[at]) == pytest.approx(wanted, abs=1)
    for name in ("fat", "hip left"):
        same = volume.structures == volume.names.index(name)
        assert np.array_equal(hu[same], volume.hu[same])


def test_a_cut_liver_gets_a_top_that_closes(volume: LabelledVolume) -> None:
    cut = replace(volume, hu=volume.hu[:29], structures=volume.structures[:29])
    assert dome.has_cut_liver(cut)
    assert not dome.has_cut_liver(volume)
    whole = dome.with_dome(cut, 72.0, SPACING_MM)
    areas = (whole.organs[whole.structures] == LIVER).sum((1, 2))[28:]
    assert len(areas) == 13
    assert (np.diff(areas) <= 0).all()
    assert areas[1] > 0.6 * areas[0]
    assert areas[-1] == 0
    assert np.array_equal(whole.hu[:29], cut.hu)


def test_the_same_seed_draws_the_same_volume(volume: LabelledVolume) -> None:
    recipe = replace(REFERENCE, spacing_mm=SPACING_MM, phantoms=0.0)
    one, other = (Sources.prepare(recipe, [volume]) for _ in range(2))
    seen = set()
    for seed in range(7):
        first, second = one.draw(seed), other.draw(seed)
        assert np.array_equal(first.hu, second.hu)
        assert np.array_equal(first.labels, second.labels)
        assert first.hu.shape == first.labels.shape
        assert set(np.unique(first.labels)) <= {0, LIVER, 14, UNSURE}
        assert first.unlabelled == volume.unlabelled
        seen.add(first.kind)
    assert len(seen) >= 3


def test_held_out_phantoms_are_never_drawn() -> None:
    with pytest.raises(ValueError, match="held out"):
        Sources.prepare(REFERENCE, []).draw(HELD_OUT_SEED)


def test_smooth_noise_is_smooth_and_of_its_size() -> None:
    field = smooth_noise(np.random.default_rng(0), (60, 60, 60), 6.0)
    assert field.std() == pytest.approx(0.63, abs=0.1)
    assert np.abs(np.diff(field, axis=0)).mean() < 0.3 * field.std()


def test_a_blur_keeps_a_constant_and_the_sum() -> None:
    one = np.zeros((15, 15, 15), np.float32)
    one[7, 7, 7] = 1
    assert blur(one, (1.0, 1.0, 1.0)).sum() == pytest.approx(1, abs=1e-4)
    assert blur(np.full((5, 5, 5), 3, np.float32), (2.0, 0.0, 1.0)) == pytest.approx(3, abs=1e-4)

from dataclasses import replace

import numpy as np
import pytest

from phantoms import SMALL, ball, small_phantom
from viscera.domain.organs import AMOS
from viscera.phantom import DEMO, Phantom, Phase, Scan, make_distractor, make_phantom

VALUE = {label.name: label.value for label in AMOS}
SEEDS = (7, 8, 9)


def centre_lps(phantom: Phantom, name: str) -> np.ndarray:
    indices = np.argwhere(phantom.labels == VALUE[name])
    assert len(indices), name
    return phantom.volume.geometry.to_lps(indices).mean(axis=0)


def away_from_edges(mask: np.ndarray) -> np.ndarray:
    core = mask.copy()
    for axis in range(3):
        for step in (1, -1):
            core &= np.roll(mask, step, axis)
    return core


def test_one_seed_is_one_phantom() -> None:
    scan = replace(SMALL, slices=12)
    first, again, other = make_phantom(3, scan), make_phantom(3, scan), make_phantom(4, scan)
    assert np.array_equal(first.volume.voxels, again.volume.voxels)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.labels, other.labels)


def test_true_volumes_are_those_of_the_labels() -> None:
    phantom = small_phantom(7)
    for label in AMOS:
        voxels = np.count_nonzero(phantom.labels == label.value)
        assert phantom.true_ml[label.name] == pytest.approx(voxels * 6 * 4 * 4 / 1000)


def test_a_finer_grid_shows_the_same_body() -> None:
    fine = make_phantom(7, replace(SMALL, spacing_mm=(3.0, 2.0, 2.0), matrix=(176, 176)))
    coarse = small_phantom(7)
    for name in ("liver", "spleen", "right kidney", "left kidney", "stomach", "bladder"):
        assert coarse.true_ml[name] == pytest.approx(fine.true_ml[name], rel=0.06), name


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_lie_where_they_belong(seed: int) -> None:
    phantom = small_phantom(seed)
    at = {label.name: centre_lps(phantom, label.name) for label in AMOS}
    # x grows to the left, y to the back, z to the head.
    for right, left in (
        ("right kidney", "left kidney"),
        ("right adrenal gland", "left adrenal gland"),
        ("liver", "spleen"),
        ("gall bladder", "stomach"),
        ("postcava", "aorta"),
        ("duodenum", "pancreas"),
    ):
        assert at[right][0] < at[left][0], (right, left)
    assert at["liver"][0] < -20 < 20 < at["spleen"][0]
    for high, low in (
        ("esophagus", "liver"),
        ("right adrenal gland", "right kidney"),
        ("left adrenal gland", "left kidney"),
        ("right kidney", "bladder"),
        ("pancreas", "prostate/uterus"),
    ):
        assert at[high][2] > at[low][2], (high, low)
    assert at["stomach"][1] < at["left kidney"][1]
    assert at["bladder"][1] < at["prostate/uterus"][1]


def test_the_demo_phantom_has_every_organ_at_a_human_size() -> None:
    phantom = make_phantom(7, replace(DEMO, spacing_mm=(5.0, 3.0, 3.0), matrix=(128, 128)))
    assert phantom.phase is Phase.PORTAL
    assert min(phantom.true_ml.values()) > 2
    assert 900 < phantom.true_ml["liver"] < 2200
    assert 80 < phantom.true_ml["spleen"] < 400
    for side in ("right", "left"):
        assert 80 < phantom.true_ml[f"{side} kidney"] < 300


def test_brightness_does_not_give_native_organs_away() -> None:
    means: dict[str, list[float]] = {
        name: [] for name in ("liver", "spleen", "right kidney", "pancreas")
    }
    spread = []
    for seed in SEEDS:
        phantom = small_phantom(seed, Phase.NATIVE)
        for name in means:
            core = away_from_edges(phantom.labels == VALUE[name])
            means[name].append(float(np.median(phantom.volume.voxels[core])))
        liver = away_from_edges(phantom.labels == VALUE["liver"])
        spread.append(phantom.volume.voxels[liver].std())
    medians = [float(np.mean(values)) for values in means.values()]
    assert max(medians) - min(medians) < 22, means
    assert min(spread) > 14


def test_contrast_phases_differ() -> None:
    aorta = {
        phase: np.median(
            small_phantom(7, phase).volume.voxels[small_phantom(7, phase).labels == VALUE["aorta"]]
        )
        for phase in (Phase.NATIVE, Phase.ARTERIAL, Phase.PORTAL)
    }
    assert aorta[Phase.NATIVE] < 60 < aorta[Phase.PORTAL] < aorta[Phase.ARTERIAL]


def test_a_short_scan_lacks_what_it_does_not_cover() -> None:
    phantom = make_phantom(7, replace(SMALL, coverage=(60.0, 200.0)))
    assert phantom.true_ml["bladder"] == 0
    assert phantom.true_ml["liver"] > 500


def test_bodies_differ_in_size() -> None:
    scan = Scan(spacing_mm=(12.0, 8.0, 8.0), matrix=(56, 56))
    livers = [make_phantom(seed, scan).true_ml["liver"] for seed in range(20, 28)]
    assert max(livers) > 2 * min(livers)


def test_a_distractor_has_no_organs() -> None:
    scan = Scan(spacing_mm=(12.0, 8.0, 8.0), matrix=(56, 56))
    for seed in range(5):
        phantom = make_distractor(seed, scan)
        assert not phantom.labels.any()
        assert (phantom.volume.voxels > -500).sum() > 100


def test_outside_the_circle_lies_padding() -> None:
    voxels = small_phantom(7).volume.voxels
    assert (voxels[:, 0, 0] == -1024).all()
    assert (voxels[:, 44, 44] > -200).any()


def test_a_ball_has_its_volume() -> None:
    volume, labels, true_ml = ball(30.0)
    assert labels.sum() * volume.geometry.voxel_ml == pytest.approx(true_ml, rel=0.02)

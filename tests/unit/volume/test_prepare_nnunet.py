"""Cubic, separate-axis, cropped, masked and multi-channel input, judged by dense linear algebra.

`tests/parity` judges the same against nnU-Net's own functions.
"""

from pathlib import Path

import numpy as np
import pytest
from volume_builders import axial

from viscera.domain.models import (
    Crop,
    Grade,
    Model,
    Normalisation,
    NormalisationScheme,
    SeparateAxis,
)
from viscera.domain.volumes import Volume
from viscera.errors import GeometryMismatch, NoModelForSeries
from viscera.volume import prepare

NONE = Normalisation(scheme=NormalisationScheme.NONE)
ZSCORE = Normalisation(scheme=NormalisationScheme.ZSCORE)
EDGE = 14


def model(**fields: object) -> Model:
    given: dict[str, object] = {
        "spacing_mm": (1.5, 1.5, 1.5),
        "normalisation": {"CT": (NONE,)},
        "image_order": 3,
        **fields,
    }
    return Model(
        name="m",
        version="1",
        grade=Grade.RESEARCH,
        digest="",
        folder=Path(),
        onnx=Path(),
        onnx_sha256="",
        golden=Path(),
        labels=(),
        modalities=("CT",),
        axes="SPL",
        patch_size=(8, 8, 8),
        **given,  # type: ignore[arg-type]
    )


def volume(voxels: np.ndarray, spacing_mm: tuple[float, float, float]) -> Volume:
    return Volume(voxels=voxels, geometry=axial(voxels.shape, spacing_mm), modality="CT")


def noise(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-900, 900, shape).astype(np.int16)


def b_spline(x: np.ndarray) -> np.ndarray:
    """The cubic basis function, by its textbook pieces."""
    x = np.abs(x)
    return np.where(x < 1, 2 / 3 - x**2 + x**3 / 2, np.where(x < 2, (2 - x) ** 3 / 6, 0))


def cubic(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Interpolate along each axis: solve for coefficients over a line whose edges go on."""
    array = array.astype(np.float64)
    for axis, target in enumerate(shape):
        n = array.shape[axis]
        knots = np.arange(-EDGE, n + EDGE)
        coefficients = np.linalg.inv(b_spline(knots[:, None] - knots[None, :]))
        spread = np.eye(n)[np.clip(knots, 0, n - 1)]
        places = (np.arange(target) + 0.5) * n / target - 0.5
        operator = b_spline(places[:, None] - knots[None, :]) @ coefficients @ spread
        array = np.moveaxis(np.tensordot(operator, array, (1, axis)), 0, axis)
    return array


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("spacing_mm", [(2.5, 0.7, 0.9), (1.5, 0.7, 3.1), (1.5, 1.5, 1.5)])
def test_cubic_resampling_clips_to_the_input(
    dtype: type, spacing_mm: tuple[float, float, float]
) -> None:
    voxels = noise((13, 31, 22)).astype(dtype)
    image = prepare(volume(voxels, spacing_mm), model()).image[0]
    expected = cubic(voxels, image.shape).clip(voxels.min(), voxels.max())
    np.testing.assert_allclose(image, expected, atol=2e-3)


def test_cubic_input_is_normalised_before() -> None:
    ct = Normalisation(scheme=NormalisationScheme.CT, lower=-200, upper=300, mean=40, sd=120)
    voxels = noise((13, 31, 22))
    image = prepare(volume(voxels, (2.5, 0.7, 0.9)), model(normalisation={"CT": (ct,)})).image[0]
    native = (voxels.clip(-200, 300).astype(np.float64) - 40) / 120
    expected = cubic(native, image.shape).clip(native.min(), native.max())
    np.testing.assert_allclose(image, expected, atol=2e-5)


def test_thick_slices_are_resampled_apart() -> None:
    voxels = noise((9, 31, 22))
    voxels[4] //= 8  # its own range, to which it must be clipped
    fed = prepare(volume(voxels, (5.0, 0.7, 0.9)), model(image_separate=SeparateAxis()))
    depth, height, width = fed.image.shape[1:]
    assert depth == 30
    slices = [
        cubic(plane[None], (1, height, width))[0].clip(plane.min(), plane.max()) for plane in voxels
    ]
    nearest = [int((2 * k + 1) * 9 // 60) for k in range(30)]
    np.testing.assert_allclose(fed.image[0], np.stack(slices)[nearest], atol=2e-3)


@pytest.mark.parametrize(
    ("source_mm", "target_mm", "orders"),
    [
        ((5.0, 0.8, 0.8), (1.5, 1.5, 1.5), (0, 1, 1)),
        ((1.0, 1.0, 1.0), (0.5, 0.5, 4.0), (1, 1, 0)),
        ((2.4, 0.8, 0.8), (1.5, 1.5, 1.5), (1, 1, 1)),  # three times is not more than three
        ((0.5, 2.0, 2.0), (1.0, 1.0, 1.0), (1, 1, 1)),  # two axes are coarse
        ((4.0, 1.0, 1.0), (1.0, 1.0, 4.0), (0, 1, 1)),  # the model's grid decides first
    ],
)
def test_logits_go_back_by_the_same_rule(
    source_mm: tuple[float, float, float],
    target_mm: tuple[float, float, float],
    orders: tuple[int, int, int],
) -> None:
    fitting = model(spacing_mm=target_mm, image_order=1, logits_separate=SeparateAxis())
    expected = (1, 1, 0) if target_mm[2] == 4.0 else orders
    assert prepare(volume(noise((8, 9, 10)), source_mm), fitting).restore_orders == expected


def test_crop_keeps_the_box_of_what_is_not_zero() -> None:
    voxels = np.zeros((12, 14, 16), np.int16)
    voxels[3:9, 4:11, 5:12] = noise((6, 7, 7))
    voxels[3, 4, 5] = voxels[8, 10, 11] = 1
    fed = prepare(volume(voxels, (1, 1, 1)), model(spacing_mm=None, crop=Crop.NONZERO))
    assert fed.box == (slice(3, 9), slice(4, 11), slice(5, 12))
    assert np.array_equal(fed.image[0], voxels[fed.box])
    empty = prepare(volume(voxels * 0, (1, 1, 1)), model(spacing_mm=None, crop=Crop.NONZERO))
    assert empty.image.shape == (1, 12, 14, 16)


def test_masked_zscore_counts_what_is_inside() -> None:
    voxels = np.zeros((10, 10, 10), np.int16)
    voxels[2:8, 2:8, 2:8] = 100 + noise((6, 6, 6)) // 20
    voxels[4, 4, 4] = 0  # enclosed: inside
    voxels[2, 5, 5] = 0  # open to the outside
    masked = Normalisation(scheme=NormalisationScheme.ZSCORE, masked=True)
    image = prepare(
        volume(voxels, (1, 1, 1)), model(normalisation={"CT": (masked,)}, spacing_mm=None)
    ).image[0]
    inside = voxels != 0
    inside[4, 4, 4] = True
    values = voxels[inside].astype(np.float64)
    np.testing.assert_allclose(image[inside], (values - values.mean()) / values.std(), atol=1e-5)
    assert not image[~inside].any()


def test_minmax_maps_the_volumes_own_range() -> None:
    minmax = Normalisation(scheme=NormalisationScheme.MINMAX)
    voxels = noise((5, 6, 7))
    image = prepare(
        volume(voxels, (1, 1, 1)), model(normalisation={"CT": (minmax,)}, spacing_mm=None)
    ).image[0]
    expected = (voxels - voxels.min().astype(float)) / np.ptp(voxels.astype(float))
    np.testing.assert_allclose(image, expected, atol=1e-6)


def test_channels_are_normalised_each_by_its_own() -> None:
    first, second = noise((5, 6, 7)), noise((5, 6, 7), seed=1)
    two = model(
        channels=("a", "b"), normalisation={"CT": (NONE, ZSCORE)}, spacing_mm=None, crop=Crop.NONE
    )
    image = prepare((volume(first, (1, 1, 1)), volume(second, (1, 1, 1))), two).image
    assert np.array_equal(image[0], first)
    np.testing.assert_allclose(image[1], (second - second.mean()) / second.std(), atol=1e-5)
    with pytest.raises(NoModelForSeries, match=r"takes 2 channels \(a, b\), 1 came"):
        prepare(volume(first, (1, 1, 1)), two)
    with pytest.raises(GeometryMismatch, match="share one grid"):
        prepare((volume(first, (1, 1, 1)), volume(second, (1, 1, 2))), two)

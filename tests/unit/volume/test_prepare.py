"""The network's input, judged by `numpy.interp` along each axis and plain statistics."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from volume_builders import axial

from viscera import volume as viscera_volume
from viscera.domain.geometry import Geometry
from viscera.domain.models import (
    Grade,
    Model,
    Normalisation,
    NormalisationScheme,
    Order,
)
from viscera.domain.volumes import Volume
from viscera.errors import ModelRefused, NoModelForSeries
from viscera.volume import target_shape, to_axes, warm_up

CT = Normalisation(scheme=NormalisationScheme.CT, lower=-200.0, upper=300.0, mean=40.0, sd=120.0)
NONE = Normalisation(scheme=NormalisationScheme.NONE)
ZSCORE = Normalisation(scheme=NormalisationScheme.ZSCORE)
RESCALE_01 = Normalisation(scheme=NormalisationScheme.RESCALE_01, lower=-100.0, upper=400.0)
SPACING_MM = (2.5, 0.7, 0.9)


def prepare(source: Volume, fitting: Model) -> np.ndarray:
    fed = viscera_volume.prepare(source, fitting)
    assert fed.box == tuple(slice(0, n) for n in fed_shape(source, fitting))
    return fed.image


def fed_shape(source: Volume, fitting: Model) -> tuple[int, ...]:
    return to_axes(source.voxels, source.geometry.axes, fitting.axes).shape


def model(**fields: object) -> Model:
    given = {
        "axes": "SPL",
        "spacing_mm": (1.5, 1.5, 1.5),
        "normalisation": {"CT": (NONE,)},
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
        patch_size=(8, 8, 8),
        **given,  # type: ignore[arg-type]
    )


def volume(dtype: type = np.int16, shape: tuple[int, int, int] = (13, 31, 22)) -> Volume:
    rng = np.random.default_rng(3)
    voxels = rng.integers(-1024, 1500, shape).astype(dtype)
    if dtype is np.float32:
        voxels += rng.random(shape, np.float32)
    return Volume(voxels=voxels, geometry=axial(shape, SPACING_MM), modality="CT")


def interpolated(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Linear, voxel-centre aligned, edges repeated: one axis after the other, in float64."""
    array = array.astype(np.float64)
    for axis, target in enumerate(shape):
        source = array.shape[axis]
        at = (np.arange(target) + 0.5) * source / target - 0.5
        array = np.apply_along_axis(
            lambda line, at=at, n=source: np.interp(at, np.arange(n), line), axis, array
        )
    return array


def nearest(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    for axis, target in enumerate(shape):
        n = array.shape[axis]
        # The voxel whose box [i, i + 1) holds the centre.
        at = [int((2 * i + 1) * n // (2 * target)) for i in range(target)]
        array = array.take(at, axis)
    return array


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("spacing_mm", [(1.5, 1.5, 1.5), (3.0, 0.4, 2.0), (2.5, 0.7, 0.9)])
def test_linear_resampling(dtype: type, spacing_mm: tuple[float, float, float]) -> None:
    source = volume(dtype)
    image = prepare(source, model(spacing_mm=spacing_mm))
    shape = tuple(
        round(n * s / t)
        for n, s, t in zip(source.voxels.shape, SPACING_MM, spacing_mm, strict=True)
    )
    assert image.shape == (1, *shape)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image[0], interpolated(source.voxels, shape), atol=2e-3)


def test_nearest_resampling() -> None:
    source = volume()
    image = prepare(source, model(image_order=0))
    assert np.array_equal(image[0], nearest(source.voxels, image.shape[1:]))


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_native_grid_is_exact(dtype: type) -> None:
    source = volume(dtype)
    image = prepare(source, model(spacing_mm=None))
    assert np.array_equal(image[0], source.voxels)


def test_constant_stays_constant() -> None:
    voxels = np.full((5, 6, 7), -77, np.int16)
    source = Volume(voxels=voxels, geometry=axial((5, 6, 7), SPACING_MM), modality="CT")
    assert (prepare(source, model()) == -77).all()


def test_normalise_first_clips_on_the_native_grid() -> None:
    source = volume()
    image = prepare(source, model(normalisation={"CT": (CT,)}))
    native = (np.clip(source.voxels.astype(np.float64), -200, 300) - 40) / 120
    np.testing.assert_allclose(image[0], interpolated(native, image.shape[1:]), atol=2e-5)


def test_resample_first_clips_on_the_target_grid() -> None:
    source = volume()
    fields = {"normalisation": {"CT": (CT,)}}
    image = prepare(source, model(order=Order.RESAMPLE_FIRST, **fields))
    resampled = interpolated(source.voxels, image.shape[1:])
    np.testing.assert_allclose(image[0], (np.clip(resampled, -200, 300) - 40) / 120, atol=2e-5)
    other = prepare(source, model(**fields))
    assert np.abs(image - other).max() > 0.1  # the order matters, so this test can tell


def test_zscore_uses_the_statistics_of_the_grid_it_normalises() -> None:
    source = volume(np.float32)
    native = source.voxels.astype(np.float64)
    first = prepare(source, model(normalisation={"CT": (ZSCORE,)}))
    expected = interpolated((native - native.mean()) / native.std(), first.shape[1:])
    np.testing.assert_allclose(first[0], expected, atol=1e-5)
    last = prepare(source, model(normalisation={"CT": (ZSCORE,)}, order=Order.RESAMPLE_FIRST))
    assert abs(last.mean()) < 1e-5
    assert abs(last.std() - 1) < 1e-5


def test_zscore_of_a_constant_is_zero() -> None:
    voxels = np.full((5, 6, 7), 300, np.int16)
    source = Volume(voxels=voxels, geometry=axial((5, 6, 7)), modality="CT")
    assert (prepare(source, model(normalisation={"CT": (ZSCORE,)})) == 0).all()


def test_rescale_01() -> None:
    source = volume()
    image = prepare(source, model(normalisation={"CT": (RESCALE_01,)}, spacing_mm=None))
    expected = (np.clip(source.voxels.astype(np.float64), -100, 400) + 100) / 500
    np.testing.assert_allclose(image[0], expected, atol=1e-6)


@pytest.mark.parametrize("stored", ["SPL", "IAR", "LSP", "PRI", "ALS"])
def test_how_the_volume_is_stored_does_not_matter(stored: str) -> None:
    plain = volume()
    turned = np.ascontiguousarray(to_axes(plain.voxels, "SPL", stored))
    # The same patient: world positions turned by the same permutation and flips.
    corner = np.indices(plain.voxels.shape).astype(float)
    points = [to_axes(axis, "SPL", stored) for axis in corner]
    affine = np.eye(4)
    origin = plain.geometry.to_lps(np.array([[p[0, 0, 0] for p in points]]))[0]
    affine[:3, 3] = origin
    for k in range(3):
        step = tuple(1 if i == k else 0 for i in range(3))
        affine[:3, k] = plain.geometry.to_lps(np.array([[p[step] for p in points]]))[0] - origin
    geometry = Geometry(shape=turned.shape, affine_lps=affine)
    assert geometry.axes == stored
    source = Volume(voxels=turned, geometry=geometry, modality="CT")
    np.testing.assert_allclose(prepare(source, model()), prepare(plain, model()), atol=2e-3)


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "target_mm"),
    [((35, 512, 512), (5.0, 0.7422, 0.7422), (1.5, 1.5, 1.5)), ((5, 3, 1), (1, 1, 1), (2, 2, 3))],
)
def test_target_shape_is_nnunets(
    shape: tuple[int, ...], spacing_mm: tuple[float, ...], target_mm: tuple[float, ...]
) -> None:
    theirs = [
        int(round(i / j * k))  # noqa: RUF046 - as nnU-Net 2.8.1 compute_new_shape has it
        for i, j, k in zip(spacing_mm, target_mm, shape, strict=True)
    ]
    assert list(target_shape(shape, spacing_mm, target_mm)) == [max(1, n) for n in theirs]


def test_unknown_orders_and_modalities_are_refused() -> None:
    with pytest.raises(ModelRefused, match="image_order 2"):
        prepare(volume(), model(image_order=2))
    with pytest.raises(NoModelForSeries, match="no normalisation for CT, only for MR"):
        prepare(volume(), model(normalisation={"MR": (ZSCORE,)}))


@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize("normalisation", [CT, ZSCORE])
def test_the_input_is_the_only_large_array(order: Order, normalisation: Normalisation) -> None:
    warm_up()
    source = volume(shape=(40, 128, 128))
    fitting = model(normalisation={"CT": (normalisation,)}, spacing_mm=None, order=order)
    tracemalloc.start()
    image = prepare(source, fitting)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.25 * image.nbytes

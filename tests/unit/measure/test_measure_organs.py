"""Measurements against SimpleITK's own statistics, on synthetic and on real grids."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from viscera.domain.geometry import Geometry
from viscera.domain.models import Grade, Model, Normalisation, NormalisationScheme
from viscera.domain.organs import AMOS
from viscera.domain.results import OrganMeasurement, Presence
from viscera.domain.volumes import Volume
from viscera.errors import GeometryMismatch
from viscera.measure import measure

SHEAR = np.array([[0.2, 0.1, 0.8, -40], [0.1, 0.9, -0.1, 30], [3.0, 0.05, 0.02, 700], [0, 0, 0, 1]])


def model(labels=AMOS, not_segmented=()) -> Model:
    here = Path()
    return Model(
        name="m", version="1", grade=Grade.RESEARCH, digest="0" * 64, folder=here, onnx=here,
        onnx_sha256="", golden=here, labels=labels, not_segmented=not_segmented,
        modalities=("CT",), axes="SPL", spacing_mm=None, patch_size=(1, 1, 1),
        normalisation={"CT": (Normalisation(scheme=NormalisationScheme.NONE),)},
    )  # fmt: skip


def volume(voxels, affine=None, padding=None) -> Volume:
    geometry = Geometry(shape=voxels.shape, affine_lps=np.eye(4) if affine is None else affine)
    return Volume(voxels=voxels, geometry=geometry, modality="CT", padding=padding)


def by_name(rows: tuple[OrganMeasurement, ...]) -> dict[str, OrganMeasurement]:
    return {one.label.name: one for one in rows}


def blocks(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.zeros((9, 40, 50), dtype=np.uint8)
    labels[1:7, 5:20, 6:22] = rng.integers(0, 7, (6, 15, 16))
    voxels = rng.integers(-1000, 3000, labels.shape).astype(np.int16)
    return labels, voxels


@pytest.mark.parametrize("seed", range(3))
def test_statistics_are_simpleitk_s(seed):
    labels, voxels = blocks(seed)
    judge = sitk.LabelStatisticsImageFilter()
    judge.Execute(sitk.GetImageFromArray(voxels), sitk.GetImageFromArray(labels))
    scan = volume(voxels, SHEAR)
    for one in measure(labels, scan, model()):
        value = one.label.value
        if not judge.HasLabel(value):
            assert one.presence is Presence.NOT_FOUND
            continue
        assert one.voxels == judge.GetCount(value)
        assert one.mean_intensity == pytest.approx(judge.GetMean(value), rel=1e-9)
        # SimpleITK divides by n - 1.
        n = one.voxels
        assert one.sd_intensity == pytest.approx(
            judge.GetSigma(value) * np.sqrt((n - 1) / n), rel=1e-6
        )
        assert one.volume_ml == pytest.approx(n * abs(np.linalg.det(SHEAR[:3, :3])) / 1000)
        first_column, last_column, first_row, last_row, first, last = judge.GetBoundingBox(value)
        spans = np.array([last - first, last_row - first_row, last_column - first_column]) + 1
        assert one.extent_mm == pytest.approx(tuple(spans * scan.geometry.spacing_mm))
        centre = np.argwhere(labels == value).mean(axis=0)
        assert one.centroid_lps == pytest.approx(tuple(SHEAR[:3, :3] @ centre + SHEAR[:3, 3]))


def test_flipped_view_of_labels_is_measured_alike():
    labels, voxels = blocks(5)
    backwards = np.ascontiguousarray(labels[::-1, :, ::-1])[::-1, :, ::-1]
    assert not backwards.flags.c_contiguous
    scan = volume(voxels)
    assert measure(backwards, scan, model()) == measure(labels, scan, model())


@pytest.mark.parametrize(
    "index", [(0, 5, 5), (8, 5, 5), (4, 0, 5), (4, 39, 5), (4, 5, 0), (4, 5, 49)]
)
def test_one_voxel_at_any_face_truncates(index):
    labels = np.zeros((9, 40, 50), dtype=np.uint8)
    labels[3:5, 4:7, 4:7] = 6
    scan = volume(np.zeros(labels.shape, dtype=np.int16))
    assert by_name(measure(labels, scan, model()))["liver"].presence is Presence.FOUND
    labels[index] = 6
    liver = by_name(measure(labels, scan, model()))["liver"]
    assert (liver.presence, liver.truncated_by) == (Presence.FOUND_TRUNCATED, ("array_edge",))


def test_padding_truncates_its_neighbours_only():
    labels = np.zeros((5, 40, 40), dtype=np.uint8)
    labels[2, 10, 10], labels[2, 10, 20] = 6, 1
    padding = np.zeros(labels.shape, dtype=bool)
    padding[2, 10, :10] = True
    padding[3, :, 20] = True  # over the spleen in the next slice, not beside it
    scan = volume(np.zeros(labels.shape, dtype=np.int16), padding=padding)
    found = by_name(measure(labels, scan, model()))
    assert found["liver"].truncated_by == ("reconstruction_circle",)
    assert found["spleen"].presence is Presence.FOUND


def test_padding_within_the_body_is_no_edge():
    """Gas or flowing blood that has the padding's value."""
    labels = np.zeros((5, 40, 40), dtype=np.uint8)
    labels[2, 10:14, 10:14] = 6
    padding = np.zeros(labels.shape, dtype=bool)
    padding[:, :4], padding[2, 12, 12], padding[2, 10, 14] = True, True, True
    scan = volume(np.zeros(labels.shape, dtype=np.int16), padding=padding)
    assert by_name(measure(labels, scan, model()))["liver"].presence is Presence.FOUND


@pytest.mark.parametrize(
    "edge", [(10, slice(9)), (10, slice(11, 40)), (slice(9), 10), (slice(11, 40), 10)]
)
def test_padding_from_any_edge_cuts_off(edge):
    labels = np.zeros((5, 40, 40), dtype=np.uint8)
    labels[2, 9:12, 9:12] = 6
    padding = np.zeros(labels.shape, dtype=bool)
    padding[(2, *edge)] = True
    scan = volume(np.zeros(labels.shape, dtype=np.int16), padding=padding)
    found = by_name(measure(labels, scan, model()))["liver"]
    assert found.truncated_by == ("reconstruction_circle",)


def circle_scan(cut: bool, even_air: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return voxels and the distance from the centre, in pixels, of a wide body."""
    rng = np.random.default_rng(3)
    axis = np.arange(64) - 31.5
    distance = np.sqrt(axis[:, None] ** 2 + axis[None, :] ** 2)
    voxels = rng.normal(-1000, 0 if even_air else 15, (6, 64, 64))
    voxels[:, 20:44, :] = rng.normal(40, 15, (6, 24, 64))
    if cut:
        voxels[:, distance > 32] = -1024
    return voxels.astype(np.int16), distance


@pytest.mark.parametrize("even_air", [True, False])
def test_circle_without_padding_is_seen(even_air):
    voxels, distance = circle_scan(cut=True, even_air=even_air)
    labels = np.zeros(voxels.shape, dtype=np.uint8)
    labels[2:4, 20:44, :] = 6
    labels[:, distance > 32] = 0
    labels[2:4, 30:34, 10:20] = 1
    found = by_name(measure(labels, volume(voxels), model()))
    assert "reconstruction_circle" in found["liver"].truncated_by
    assert found["spleen"].presence is Presence.FOUND


def test_body_in_even_air_has_no_circle():
    voxels = np.full((6, 64, 64), -1000, dtype=np.int16)
    voxels[:, 16:48, 12:52] = 40
    labels = np.where(voxels == 40, 6, 0).astype(np.uint8)
    labels[[0, -1]] = 0
    assert by_name(measure(labels, volume(voxels), model()))["liver"].presence is Presence.FOUND


def test_uncut_square_scan_has_no_circle():
    voxels, distance = circle_scan(cut=False, even_air=False)
    labels = np.zeros(voxels.shape, dtype=np.uint8)
    labels[2:4] = np.where((distance < 31.4) & (distance > 25), 6, 0)
    assert by_name(measure(labels, volume(voxels), model()))["liver"].truncated_by == ()


def test_lacking_labels_are_rows_too():
    scan = volume(np.zeros((3, 8, 8), dtype=np.int16))
    rows = measure(np.zeros((3, 8, 8), np.uint8), scan, model(AMOS[:3], AMOS[3:]))
    assert [one.label for one in rows] == list(AMOS)
    assert [one.presence for one in rows[:3]] == [Presence.NOT_FOUND] * 3
    assert {one.presence for one in rows[3:]} == {Presence.NOT_SEGMENTED}


def test_other_grid_is_refused():
    with pytest.raises(GeometryMismatch):
        measure(np.zeros((3, 8, 9), np.uint8), volume(np.zeros((3, 8, 8), np.int16)), model())


def real(shared_data: Path, name: str) -> tuple[np.ndarray, Volume]:
    image = sitk.ReadImage(shared_data / "volumes" / f"{name}.nii.gz")
    labels = sitk.GetArrayFromImage(
        sitk.ReadImage(shared_data / "volumes" / f"{name}_AMOS15_labels.nii.gz")
    ).astype(np.uint8)
    direction = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = direction[:, ::-1], image.GetOrigin()
    voxels = sitk.GetArrayFromImage(image).astype(np.float32)
    return labels, volume(voxels, affine)


def test_real_abdomen_cut_above_the_pelvis_says_what_it_cannot_see(shared_data):
    labels, scan = real(shared_data, "example_ct_sm")
    found = by_name(measure(labels, scan, model()))
    assert found["bladder"].presence is Presence.OUTSIDE_FIELD_OF_VIEW
    assert found["prostate/uterus"].presence is Presence.OUTSIDE_FIELD_OF_VIEW
    assert found["liver"].presence is Presence.FOUND_TRUNCATED
    assert found["gall bladder"].presence is Presence.FOUND
    # The esophagus is unlabelled, yet its lower end may well be in the scan.
    assert found["esophagus"].presence is Presence.NOT_FOUND


def test_real_pelvis_does_not_see_the_upper_abdomen(shared_data):
    labels, scan = real(shared_data, "example_ct")
    labels = labels.copy()
    labels[labels == 14] = 0
    assert by_name(measure(labels, scan, model()))["bladder"].presence is Presence.NOT_FOUND

    whole, low = real(shared_data, "example_ct")[0], slice(0, 40)
    cropped = Volume(
        voxels=scan.voxels[low],
        geometry=Geometry(shape=scan.voxels[low].shape, affine_lps=scan.geometry.affine_lps),
        modality="CT",
    )
    found = by_name(measure(whole[low], cropped, model()))
    assert found["bladder"].presence is Presence.FOUND
    for name in ("liver", "spleen", "right adrenal gland", "esophagus", "pancreas"):
        assert found[name].presence is Presence.OUTSIDE_FIELD_OF_VIEW, name


def test_nothing_found_says_nothing_of_the_field_of_view():
    scan = volume(np.zeros((4, 8, 8), dtype=np.int16))
    rows = measure(np.zeros((4, 8, 8), np.uint8), scan, model())
    assert {one.presence for one in rows} == {Presence.NOT_FOUND}

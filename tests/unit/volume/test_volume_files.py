"""NIfTI, NRRD and MHA, judged by reading their bytes by hand."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from viscera.domain.geometry import Geometry
from viscera.errors import GeometryMismatch, UndecodablePixels
from viscera.volume import read_volume, write_labels

ROTATION = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])


def oblique() -> Geometry:
    """Return a grid turned in the axial plane; slices along S, rows near P, columns near L."""
    affine = np.eye(4)
    affine[:3, 0] = ROTATION[:, 2] * 2.5
    affine[:3, 1] = ROTATION[:, 1] * 0.9
    affine[:3, 2] = ROTATION[:, 0] * 0.7
    affine[:3, 3] = [-11.0, 22.0, 33.0]
    return Geometry(shape=(3, 4, 5), affine_lps=affine)


def labels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 16, (3, 4, 5)).astype(np.uint8)


def nifti_by_hand(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return (x, y, z) voxels and the sform in RAS, by NIfTI-1's byte offsets."""
    content = path.read_bytes()
    content = gzip.decompress(content) if path.name.endswith(".gz") else content
    dims = struct.unpack_from("<8h", content, 40)
    (datatype,) = struct.unpack_from("<h", content, 70)
    (offset,) = struct.unpack_from("<f", content, 108)
    assert struct.unpack_from("<h", content, 254)[0] > 0, "no sform"
    affine = np.vstack([np.frombuffer(content, "<f4", 12, 280).reshape(3, 4), [0, 0, 0, 1]])
    dtype = {2: "u1", 4: "<i2", 8: "<i4", 16: "<f4", 64: "<f8"}[datatype]
    voxels = np.frombuffer(content, dtype, int(np.prod(dims[1:4])), int(offset))
    return voxels.reshape(dims[1:4], order="F"), affine


@pytest.mark.parametrize("name", ["example_ct", "example_ct_sm", "example_mr_sm"])
def test_real_nifti(shared_data: Path, name: str) -> None:
    (path,) = (shared_data / "volumes").glob(f"{name}.nii*")
    volume = read_volume(path, "CT")
    voxels, affine_ras = nifti_by_hand(path)
    assert np.array_equal(volume.voxels, voxels.transpose(2, 1, 0))
    slope, intercept = _scaling(path)
    assert (slope, intercept) in ((1.0, 0.0), (0.0, 0.0))
    for index in ((0, 0, 0), (7, 3, 9), (1, 0, 0)):
        ras = affine_ras @ [*index[::-1], 1]
        lps = volume.geometry.to_lps(np.array([index], float))[0]
        np.testing.assert_allclose(lps * [-1, -1, 1], ras[:3], atol=1e-3)


def _scaling(path: Path) -> tuple[float, ...]:
    content = path.read_bytes()
    content = gzip.decompress(content) if path.name.endswith(".gz") else content
    return struct.unpack_from("<2f", content, 112)


def test_nrrd_by_hand(tmp_path: Path) -> None:
    geometry, voxels = oblique(), labels().astype("<i2") * -70
    columns = [geometry.affine_lps[:3, k] for k in (2, 1, 0)]
    vectors = " ".join(f"({','.join(map(str, c))})" for c in columns)
    header = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 5 4 3\n"
        f"space directions: {vectors}\nkinds: domain domain domain\nendian: little\n"
        "encoding: raw\nspace origin: (-11,22,33)\n\n"
    )
    path = tmp_path / "v.nrrd"
    path.write_bytes(header.encode() + voxels.tobytes())
    volume = read_volume(path, "MR")
    assert volume.modality == "MR"
    assert np.array_equal(volume.voxels, voxels)
    assert volume.geometry.same_grid(geometry)


def test_mha_by_hand(tmp_path: Path) -> None:
    geometry, voxels = oblique(), labels().astype("<f4") + 0.5
    matrix = " ".join(str(x) for k in range(3) for x in ROTATION[:, k])
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        f"TransformMatrix = {matrix}\nOffset = -11 22 33\nElementSpacing = 0.7 0.9 2.5\n"
        "DimSize = 5 4 3\nElementType = MET_FLOAT\nElementDataFile = LOCAL\n"
    )
    path = tmp_path / "v.mha"
    path.write_bytes(header.encode() + voxels.tobytes())
    volume = read_volume(path, "CT")
    assert volume.voxels.dtype == np.float32
    assert np.array_equal(volume.voxels, voxels)
    assert volume.geometry.same_grid(geometry)


def test_labels_in_nifti_by_hand(tmp_path: Path) -> None:
    geometry, expected = oblique(), labels()
    path = tmp_path / "l.nii.gz"
    write_labels(path, expected, geometry)
    voxels, affine_ras = nifti_by_hand(path)
    assert np.array_equal(voxels.transpose(2, 1, 0), expected)
    for index in ((0, 0, 0), (2, 3, 4)):
        lps = geometry.to_lps(np.array([index], float))[0]
        np.testing.assert_allclose(
            (affine_ras @ [*index[::-1], 1])[:3], lps * [-1, -1, 1], atol=1e-4
        )


@pytest.mark.parametrize("name", ["l.nii.gz", "l.nii", "l.nrrd", "l.mha"])
def test_labels_are_read_back(tmp_path: Path, name: str) -> None:
    view = labels()[::-1, :, ::-1]  # label maps may be flipped views
    write_labels(tmp_path / name, view, oblique())
    volume = read_volume(tmp_path / name, "CT")
    assert np.array_equal(volume.voxels, view)
    assert volume.geometry.same_grid(oblique())


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GeometryMismatch, match="on grid"):
        write_labels(tmp_path / "l.nii", labels()[:2], oblique())
    sheared = oblique().affine_lps.copy()
    sheared[1, 0] += 0.2
    geometry = Geometry(shape=(3, 4, 5), affine_lps=sheared)
    with pytest.raises(GeometryMismatch, match="sheared"):
        write_labels(tmp_path / "l.nii", labels(), geometry)


@pytest.mark.parametrize(("value", "dtype"), [(40000, np.float32), (-32768, np.int16)])
def test_integers_become_int16_where_they_fit(tmp_path: Path, value: int, dtype: type) -> None:
    array = np.zeros((3, 4, 5), np.int32)
    array[1, 2, 3] = value
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "v.nii"))
    volume = read_volume(tmp_path / "v.nii", "CT")
    assert volume.voxels.dtype == dtype
    assert np.array_equal(volume.voxels, array)


def _write(array: np.ndarray, path: Path, vector: bool = False) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=vector), str(path))


def test_what_is_no_scalar_volume_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.nrrd"
    _write(np.zeros((2, 3, 4, 5), np.int16), path)
    with pytest.raises(UndecodablePixels, match="4 dimensions, expected 3"):
        read_volume(path, "CT")
    _write(np.zeros((4, 5), np.int16), path)
    with pytest.raises(UndecodablePixels, match="2 dimensions, expected 3"):
        read_volume(path, "CT")
    _write(np.zeros((3, 4, 5, 3), np.uint8), path, vector=True)
    with pytest.raises(UndecodablePixels, match="3 values per voxel"):
        read_volume(path, "CT")
    _write(np.full((3, 4, 5), np.nan), path)
    with pytest.raises(UndecodablePixels, match="not finite"):
        read_volume(path, "CT")


def test_unreadable_files_are_refused_without_their_path(tmp_path: Path) -> None:
    text, cut = tmp_path / "Secret.nii", tmp_path / "cut.nrrd"
    text.write_text("no volume")
    _write(np.random.default_rng(0).integers(0, 99, (9, 40, 50)).astype(np.int16), cut)
    cut.write_bytes(cut.read_bytes()[:9000])
    for path in (text, cut, tmp_path / "missing.mha"):
        with pytest.raises(UndecodablePixels, match="cannot be read") as refusal:
            read_volume(path, "CT")
        assert str(tmp_path) not in str(refusal.value)
        assert "Secret" not in str(refusal.value)

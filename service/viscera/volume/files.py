"""Volumes and label maps as NIfTI, NRRD and MHA, through SimpleITK, whose world is LPS too."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from viscera.domain.arrays import Labels, Voxels
from viscera.domain.geometry import Geometry
from viscera.domain.volumes import Volume
from viscera.errors import GeometryMismatch, UndecodablePixels
from viscera.volume.rescale import as_intensities

if TYPE_CHECKING:
    import SimpleITK

_ORTHOGONAL = 1e-3
"""Largest dot product of two axes' directions that a file's rotation may show (0.06 degrees)."""


def read_volume(path: Path, modality: str) -> Volume:
    """Read a scalar 3-D volume.

    Parameters
    ----------
    path
        NIfTI, NRRD or MHA (MHD), told apart by their content and ending.
    modality
        ``CT`` or ``MR``: these files do not say.

    Returns
    -------
    Volume
        int16 where every intensity is a whole number that fits, else float32. ITK's x, y, z are
        (column, row, slice).

    Raises
    ------
    UndecodablePixels
        If the file cannot be read, is not 3-D, has several values per voxel, or one that is
        not finite.
    """
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check_scalar_3d(reader)
        image = reader.Execute()
    except RuntimeError as error:  # ITK's only exception; its text names folders of this machine
        raise UndecodablePixels(
            "the volume cannot be read: expected a complete NIfTI, NRRD or MHA file"
        ) from error
    return Volume(voxels=_voxels(image), geometry=_geometry(image), modality=modality)


def write_labels(path: Path, labels: Labels, geometry: Geometry) -> None:
    """Write a label map, compressed.

    Parameters
    ----------
    path
        The format follows its ending: ``.nii.gz``, ``.nii``, ``.nrrd``, ``.mha``.
    labels
        (slice, row, column), uint8.
    geometry
        Grid of `labels`; its axes must be orthogonal, these formats know no shear.

    Raises
    ------
    GeometryMismatch
        If `labels` is not on `geometry`, or the grid is sheared (gantry tilt).
    """
    import SimpleITK

    if labels.shape != geometry.shape:
        raise GeometryMismatch(f"labels {labels.shape} on grid {geometry.shape}")
    directions = geometry.affine_lps[:3, :3] / np.array(geometry.spacing_mm)
    if np.abs(directions.T @ directions - np.eye(3)).max() > _ORTHOGONAL:
        raise GeometryMismatch("a sheared grid cannot be written to a volume file; use DICOM-SEG")
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(labels, dtype=np.uint8))
    image.SetSpacing(geometry.spacing_mm[::-1])
    image.SetOrigin(tuple(geometry.affine_lps[:3, 3]))
    image.SetDirection(directions[:, ::-1].ravel().tolist())
    SimpleITK.WriteImage(image, str(path), useCompression=True)


def _check_scalar_3d(reader: "SimpleITK.ImageFileReader") -> None:
    if reader.GetDimension() != 3:
        raise UndecodablePixels(
            f"the volume has {reader.GetDimension()} dimensions, expected 3; "
            "give one time point or channel at a time"
        )
    components = reader.GetNumberOfComponents()
    if components != 1:
        raise UndecodablePixels(f"the volume has {components} values per voxel, expected one")


def _geometry(image: "SimpleITK.Image") -> Geometry:
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3] = (direction * image.GetSpacing())[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    columns, rows, slices = image.GetSize()
    return Geometry(shape=(slices, rows, columns), affine_lps=affine)


def _voxels(image: "SimpleITK.Image") -> Voxels:
    """Copy the voxels out. Checked slice by slice: no second volume in another type."""
    import SimpleITK

    source = SimpleITK.GetArrayViewFromImage(image)
    if source.dtype.kind not in "iuf":
        raise UndecodablePixels("the volume has complex voxels, expected real ones")
    if not all(np.isfinite(plane).all() for plane in source):
        raise UndecodablePixels("the volume holds values that are not finite; replace them")
    whole = all(as_intensities(plane).dtype == np.int16 for plane in source)
    voxels: Voxels = source.astype(np.int16 if whole else np.float32)
    return voxels

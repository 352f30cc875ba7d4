"""Label maps from files, and one brought onto the grid of another."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from viscera.domain.arrays import Labels
from viscera.domain.geometry import Geometry
from viscera.errors import GeometryMismatch, UndecodablePixels
from viscera.volume.files import read_volume

_CLOSE_MM = 0.05
"""Grids that agree this well at every corner are one: files keep affines in 32 bits."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelMap:
    """A label map with the names of its values."""

    labels: Labels
    geometry: Geometry
    names: Mapping[int, str]
    whole: bool = True
    """False for a DICOM-SEG, which leaves out slices without organs."""


def read_label_map(path: Path, names: Mapping[int, str]) -> LabelMap:
    """Read NIfTI, NRRD, MHA or DICOM-SEG.

    Parameters
    ----------
    path
        The file.
    names
        Of its values, of a DICOM-SEG of its segments: see `own_names`.

    Raises
    ------
    UndecodablePixels
        If it cannot be read, or holds more than whole values from 0 to 255.
    """
    if path.suffix.lower() == ".dcm":
        return _read_seg(path, names)
    try:
        volume = read_volume(path, "CT")
    except UndecodablePixels as error:
        raise UndecodablePixels(f"{path}: {error}") from error
    voxels = volume.voxels
    if voxels.dtype != np.int16 or voxels.min() < 0 or voxels.max() > 255:
        raise UndecodablePixels(f"{path} is no label map: whole values from 0 to 255 were expected")
    return LabelMap(labels=voxels.astype(np.uint8), geometry=volume.geometry, names=names)


def onto(moving: LabelMap, fixed: LabelMap) -> Labels:
    """Return the labels of `moving` on the grid of `fixed`.

    Axes may be permuted and flipped; nothing is resampled. Slices that a DICOM-SEG leaves out are
    background.

    Raises
    ------
    GeometryMismatch
        If the grids differ.
    """
    to_fixed = np.linalg.inv(fixed.geometry.affine_lps) @ moving.geometry.affine_lps
    turn = np.rint(to_fixed[:3, :3]).astype(int)
    if (np.abs(turn).sum(axis=0) != 1).any() or (np.abs(turn).sum(axis=1) != 1).any():
        raise _differ(moving, fixed)
    last = np.array(moving.labels.shape) - 1
    corners = np.array(np.meshgrid(*[(0, n) for n in last])).reshape(3, -1).T
    placed = fixed.geometry.to_index(moving.geometry.to_lps(corners))
    whole = np.rint(placed)
    gap_mm = fixed.geometry.to_lps(whole) - fixed.geometry.to_lps(placed)
    low, high = whole.min(axis=0).astype(int), whole.max(axis=0).astype(int) + 1
    inside = (low >= 0).all() and (high <= fixed.labels.shape).all()
    order = np.abs(turn).argmax(axis=1)
    turned = moving.labels.transpose(order)[
        tuple(slice(None, None, turn[axis, order[axis]]) for axis in range(3))
    ]
    covers = turned.shape == fixed.labels.shape
    if (
        np.abs(gap_mm).max() > _CLOSE_MM
        or not inside
        or turned.shape != tuple(high - low)
        or (moving.whole and not covers)
    ):
        raise _differ(moving, fixed)
    result = np.zeros(fixed.labels.shape, dtype=np.uint8)
    result[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = turned
    return result


def _differ(moving: LabelMap, fixed: LabelMap) -> GeometryMismatch:
    return GeometryMismatch(
        f"the grids differ: prediction {_describe(moving.geometry)}, reference "
        f"{_describe(fixed.geometry)}; segment the image that the reference was drawn on, or "
        "resample one label map to the other's grid"
    )


def _describe(geometry: Geometry) -> str:
    spacing = " x ".join(f"{mm:.3g}" for mm in geometry.spacing_mm)
    shape = " x ".join(map(str, geometry.shape))
    origin = ", ".join(f"{mm:.1f}" for mm in geometry.affine_lps[:3, 3])
    return f"{shape} voxels of {spacing} mm, {geometry.axes} from ({origin})"


def _read_seg(path: Path, names: Mapping[int, str]) -> LabelMap:
    import highdicom

    try:
        seg = highdicom.seg.segread(path)
        volume = seg.get_volume(combine_segments=True, dtype=np.uint8)
    except Exception as error:  # highdicom and pydicom raise whatever the bytes lead them to
        raise UndecodablePixels(f"{path} cannot be read as a DICOM-SEG: {error}") from error
    shape = volume.spatial_shape
    return LabelMap(
        labels=np.ascontiguousarray(volume.array, dtype=np.uint8),
        geometry=Geometry(shape=(shape[0], shape[1], shape[2]), affine_lps=volume.affine),
        names=names,
        whole=False,
    )

"""A top for scans that end in the liver: what lies above is drawn from the last slice.

A network that never saw a liver's dome ends every liver where its training scan ended. Organs
below the diaphragm close like caps, lungs fill what they leave, a heart lies on the left, and the
body's wall, spine and aorta go on as the mirror image of what lies below.
"""

from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from viscera.training.folder import VALUES, organ_name
from viscera.training.labelled import FAT, GAS, LUNG, SOFT, LabelledVolume

_CAPS_MM = {"liver": 60.0, "spleen": 30.0, "stomach": 35.0, "colon": 20.0}
_LUNG_HU = -820
_HEART_FROM_MM, _HEART_GROWS_MM = 20.0, 40.0
_HEART_RADII_MM = (45.0, 55.0)  # (y, x)


def has_cut_liver(volume: LabelledVolume) -> bool:
    """Return whether a good part of the liver lies in the last slice."""
    liver = volume.organs[volume.structures] == VALUES["liver"]
    areas = liver.sum((1, 2))
    return bool(areas[-1] > 0.4 * max(areas.max(), 1))


def with_dome(volume: LabelledVolume, height_mm: float, spacing_mm: float) -> LabelledVolume:
    """Return `volume` with `height_mm` of drawn chest above it."""
    slices = round(height_mm / spacing_mm)
    top = volume.structures[-1]
    cavity = _cavity(volume, top)
    hu = [volume.hu]
    structures = [volume.structures]
    for number in range(1, slices + 1):
        # The last slices are mirrored: walls, spine and vessels go on as they were.
        source = volume.structures.shape[0] - 1 - min(number, volume.structures.shape[0] - 1)
        above, labels = volume.hu[source].copy(), volume.structures[source].copy()
        _fill(volume, above, labels, cavity, number * spacing_mm, spacing_mm)
        hu.append(above[None])
        structures.append(labels[None])
    return replace(volume, hu=np.concatenate(hu), structures=np.concatenate(structures))


def _cavity(volume: LabelledVolume, top: np.ndarray) -> np.ndarray:
    """Return what the ribs enclose: organs, lungs and the fat between them."""
    inside = ("liver", "spleen", "stomach", "colon", "left kidney", "right kidney", "duodenum")
    members = [
        value
        for value, name in enumerate(volume.names)
        if organ_name(name) in inside or "lung" in name
    ]
    filled = sitk.BinaryMorphologicalClosing(
        sitk.GetImageFromArray(np.isin(top, members).astype(np.uint8)), [6, 6]
    )
    soft = [volume.names.index(name) for name in (FAT, SOFT, GAS)]
    closed: np.ndarray = sitk.GetArrayFromImage(filled) > 0
    return closed & np.isin(top, [*members, *soft])


def _fill(
    volume: LabelledVolume,
    hu: np.ndarray,
    labels: np.ndarray,
    cavity: np.ndarray,
    height_mm: float,
    spacing_mm: float,
) -> None:
    """Write caps, heart and lungs into one slice, `height_mm` above the last real one."""
    noise = np.random.default_rng(round(height_mm)).normal(0, 15, hu.shape)
    hu[cavity] = (_LUNG_HU + noise)[cavity]
    labels[cavity] = volume.names.index(LUNG)
    for name, cap_mm in _CAPS_MM.items():
        for value, text in enumerate(volume.names):
            if organ_name(text) == name and height_mm < cap_mm:
                kept = _cap(volume.structures[-1] == value, height_mm / cap_mm, spacing_mm)
                kept &= cavity
                hu[kept] = volume.hu[-1][kept]
                labels[kept] = value
    if height_mm >= _HEART_FROM_MM:
        grown = min(np.sqrt((height_mm - _HEART_FROM_MM) / _HEART_GROWS_MM), 1.0)
        heart = _heart(cavity, grown, spacing_mm) & (labels == volume.names.index(LUNG))
        hu[heart] = (40 + noise)[heart]
        labels[heart] = volume.names.index(SOFT)


def _cap(area: np.ndarray, height: float, spacing_mm: float) -> np.ndarray:
    """Return `area` shrunk as an ellipsoid's section at `height` (0 to 1) shrinks."""
    if not area.any():
        return area
    image = sitk.GetImageFromArray(area.astype(np.uint8))
    image.SetSpacing([spacing_mm] * 2)
    depth = -sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, squaredDistance=False))
    kept: np.ndarray = depth > depth.max() * (1 - np.sqrt(1 - height**2))
    kept &= area
    return kept


def _heart(cavity: np.ndarray, grown: float, spacing_mm: float) -> np.ndarray:
    if grown <= 0:
        return np.zeros_like(cavity)
    y, x = np.nonzero(cavity)
    centre = y.min() + 0.32 * np.ptp(y), x.min() + 0.58 * np.ptp(x)
    rows, columns = np.indices(cavity.shape)
    radii = np.array(_HEART_RADII_MM) * grown / spacing_mm
    inside = ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 < 1
    result: np.ndarray = inside & cavity
    return result

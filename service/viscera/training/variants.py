"""Organs that are missing or plumper than in the labelled person."""

import numpy as np
import SimpleITK as sitk

from viscera.training.folder import VALUES
from viscera.training.labelled import FAT, LabelledVolume
from viscera.training.noise import smooth_noise

_NO_GALL_BLADDER = 0.25
_PLUMPER = {"pancreas": 0.6, "right adrenal gland": 0.25, "left adrenal gland": 0.25}
"""How often each grows. The pancreas, for it shrinks with age and a stout old person has little."""
_GRAIN_HU = 9


def vary(
    hu: np.ndarray, structures: np.ndarray, volume: LabelledVolume, rng: np.random.Generator
) -> None:
    """Take the gall bladder away at times, and let small organs grow into the fat around, in place.

    Parameters
    ----------
    hu, structures
        (z, y, x); a deformed `volume`.
    """
    if rng.random() < _NO_GALL_BLADDER:
        _remove_gall_bladder(hu, structures, volume, rng)
    for name, chance in _PLUMPER.items():
        if rng.random() < chance:
            _grow(hu, structures, volume, VALUES[name], rng)


def _remove_gall_bladder(
    hu: np.ndarray, structures: np.ndarray, volume: LabelledVolume, rng: np.random.Generator
) -> None:
    """Leave fat where it was, as the commonest operation of the abdomen does."""
    gone = volume.organs[structures] == VALUES["gall bladder"]
    hu[gone] = rng.normal(-90, 20, int(gone.sum()))
    structures[gone] = volume.names.index(FAT)


def _grow(
    hu: np.ndarray,
    structures: np.ndarray,
    volume: LabelledVolume,
    organ: int,
    rng: np.random.Generator,
) -> None:
    """Give the organ one or two voxels more on all sides where fat lies."""
    value = int(np.flatnonzero(volume.organs == organ)[0]) if organ in volume.organs else 0
    inside = structures == value
    if not value or not inside.any():
        return
    reach = int(rng.integers(1, 3)) if organ == VALUES["pancreas"] else 1
    grown = sitk.BinaryDilate(sitk.GetImageFromArray(inside.astype(np.uint8)), [reach] * 3)
    gained = (sitk.GetArrayViewFromImage(grown) > 0) & (structures == volume.names.index(FAT))
    texture = smooth_noise(rng, hu.shape, 2.0)[gained]
    hu[gained] = volume.medians_hu[value] + np.float32(_GRAIN_HU) * texture
    structures[gained] = value

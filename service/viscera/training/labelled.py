"""Labelled volumes on the network's grid, every voxel of the body given to a structure."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from viscera.errors import InvalidRequest
from viscera.training.folder import VALUES, Folder, organ_name
from viscera.training.recipe import AXES

UNSURE = 16
"""In training labels: background, or an organ that the source does not label."""

GAS, FAT, SOFT, OUTER, BONE, LUNG = "gas", "fat", "soft tissue", "outer tissue", "bone", "lung"
UNNAMED = (GAS, FAT, SOFT, OUTER, BONE, LUNG)
"""What the body's unlabelled voxels are divided into, by HU; `LUNG` is for `dome`."""
_OUTER_MM = 25.0
_DEEP = ("esophagus", "aorta", "postcava", "pancreas", "prostate/uterus")
"""Organs that are never within `_OUTER_MM` of the skin."""
_GAS_BELOW_HU, _FAT_BELOW_HU, _BONE_ABOVE_HU = -400, -30, 150


@dataclass(frozen=True, slots=False, kw_only=True, eq=False)
class LabelledVolume:
    """A CT with its structures.

    Parameters
    ----------
    hu
        (z, y, x) int16 on an isotropic grid along `AXES`.
    structures
        (z, y, x) uint8; an index into `names`.
    names
        By value; 0 is the air around the body, the last ones are `UNNAMED`.
    """

    name: str
    hu: np.ndarray
    structures: np.ndarray
    names: tuple[str, ...]

    @cached_property
    def organs(self) -> np.ndarray:
        """AMOS's value by structure; 0 for what is none of the fifteen."""
        return np.array([VALUES.get(organ_name(name), 0) for name in self.names], np.uint8)

    @cached_property
    def unlabelled(self) -> tuple[int, ...]:
        """AMOS's values of the organs that `names` lacks."""
        return tuple(sorted(set(VALUES.values()) - set(self.organs.tolist())))

    @cached_property
    def targets(self) -> np.ndarray:
        """What each structure teaches: an organ, background (0) or `UNSURE`.

        Fat, gas, bone and every named structure are background for certain; unlabelled soft
        tissue is not, where organs are unlabelled that may lie there.
        """
        values = self.organs.copy()
        if self.unlabelled:
            values[self.names.index(SOFT)] = UNSURE
        if set(self.unlabelled) - {VALUES[name] for name in _DEEP}:
            values[self.names.index(OUTER)] = UNSURE
        return values

    @cached_property
    def medians_hu(self) -> np.ndarray:
        """Median by structure, of its voxels that are neither gas nor fat where it has such."""
        found = np.zeros(len(self.names), np.float32)
        for value in range(1, len(self.names)):
            inside = self.hu[self.structures == value]
            tissue = inside[inside > _FAT_BELOW_HU]
            if len(inside):
                found[value] = np.median(tissue if len(tissue) > 0.3 * len(inside) else inside)
        return found


def read_labelled(folder: Folder, spacing_mm: float) -> list[LabelledVolume]:
    """Read every volume of `folder`.

    Raises
    ------
    InvalidRequest
        If an image is missing, or not on the grid of its labels.
    """
    return [_read(*paths, folder.names, spacing_mm) for paths in folder.pairs()]


def _read(
    name: str, image: Path, labels: Path, names: Mapping[int, str], spacing_mm: float
) -> LabelledVolume:
    hu = _on_grid(image, spacing_mm, sitk.sitkLinear, outside=-1024)
    found = _on_grid(labels, spacing_mm, sitk.sitkNearestNeighbor, outside=0)
    if hu.shape != found.shape:
        raise InvalidRequest(f"{image.name} and {labels.name} differ in size")
    return divide(
        name, np.clip(hu, -1024, 3000).astype(np.int16), found.astype(int), names, spacing_mm
    )


def _on_grid(path: Path, spacing_mm: float, interpolation: int, *, outside: float) -> np.ndarray:
    # SimpleITK names directions by where an index grows to, x first: AXES backwards.
    image = sitk.DICOMOrient(sitk.ReadImage(str(path)), AXES[::-1])
    size = [
        max(round(n * step / spacing_mm), 1)
        for n, step in zip(image.GetSize(), image.GetSpacing(), strict=True)
    ]
    grid = sitk.Image(size, sitk.sitkUInt8)
    grid.SetSpacing([spacing_mm] * 3)
    grid.SetOrigin(image.GetOrigin())
    grid.SetDirection(image.GetDirection())
    resampled = sitk.Resample(image, grid, sitk.Transform(), interpolation, outside)
    array: np.ndarray = sitk.GetArrayFromImage(resampled)
    return array


def divide(
    name: str, hu: np.ndarray, found: np.ndarray, named: Mapping[int, str], spacing_mm: float
) -> LabelledVolume:
    """Return the volume with consecutive structures, the body's unlabelled voxels divided by HU.

    Parameters
    ----------
    hu, found
        (z, y, x); `found` holds the keys of `named` and perhaps others, which are dropped.
    """
    names = ("background", *named.values(), *UNNAMED)
    compact = np.zeros(max(*named, int(found.max())) + 1, np.uint8)
    compact[list(named)] = np.arange(1, len(named) + 1)
    structures = compact[found]
    body = body_mask(hu)
    rest = (structures == 0) & body
    soft = (hu >= _FAT_BELOW_HU) & (hu <= _BONE_ABOVE_HU)
    deep = _depth(body) * spacing_mm > _OUTER_MM
    for text, inside in (
        (GAS, hu < _GAS_BELOW_HU),
        (FAT, (hu >= _GAS_BELOW_HU) & (hu < _FAT_BELOW_HU)),
        (SOFT, soft & deep),
        (OUTER, soft & ~deep),
        (BONE, hu > _BONE_ABOVE_HU),
    ):
        structures[rest & inside] = names.index(text)
    return LabelledVolume(
        name=name,
        hu=np.where(structures > 0, hu, np.int16(-1000)),  # the table goes: we draw our own
        structures=structures,
        names=names,
    )


def _depth(body: np.ndarray) -> np.ndarray:
    """Return, slice by slice, how many voxels each voxel lies beneath the skin."""
    slices = [
        -sitk.GetArrayFromImage(
            sitk.SignedMaurerDistanceMap(
                sitk.GetImageFromArray(np.pad(one, 1).astype(np.uint8)), squaredDistance=False
            )
        )[1:-1, 1:-1]
        for one in body
    ]
    return np.stack(slices)


def body_mask(hu: np.ndarray) -> np.ndarray:
    """Return the largest thing that is not air, its holes filled slice by slice."""
    tissue = sitk.GetImageFromArray((hu > -300).astype(np.uint8))
    opened = sitk.BinaryMorphologicalOpening(tissue, [2, 2, 0])
    components = sitk.RelabelComponent(sitk.ConnectedComponent(opened), sortByObjectSize=True)
    body = components == 1
    padded = sitk.ConstantPad(body, [1, 1, 0], [1, 1, 0], 0)
    filled = [
        sitk.GetArrayFromImage(sitk.BinaryFillhole(padded[:, :, z]))[1:-1, 1:-1]
        for z in range(hu.shape[0])
    ]
    return np.stack(filled).astype(bool)

"""Where the patient lies in a CT: without table, sheets and raised arms."""

from dataclasses import dataclass

import numpy as np

from viscera.domain.arrays import Mask
from viscera.domain.volumes import Volume
from viscera.postprocess.pieces import Pieces

_CELL_MM = 4.0
"""The mask's resolution. It judges pieces by their larger part, so millimetres do not matter."""
_TISSUE_HU = -250
"""Above it is tissue; fat begins near -150, foam and sheets lie below."""
_SHELL_MM = 12.0
"""A sheet of this thickness is no body wall; the shells of tables and coils are thinner."""
_LEAST_L = 1.0
"""A smaller body is none: a phantom rod, or a scan of a limb. Then nothing is judged by it."""
_ONE = (1, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Body:
    """A coarse mask of the patient."""

    inside: Mask
    """Every ``steps``-th voxel of the grid along (slice, row, column)."""
    steps: tuple[int, int, int]


def find_body(volume: Volume) -> Body | None:
    """Return where the patient lies, or None where that cannot be told.

    Tissue is opened, so that a table that touches the back lets go. Air that cannot be reached
    from the sides of the picture (lung, bowel) joins it, unless thin shells hold it: that is the
    inside of a table. The largest piece of both is the body.

    Parameters
    ----------
    volume
        HU. For other modalities the answer is None: MR shows no table.
    """
    if volume.modality != "CT":
        return None
    steps = _steps(volume.geometry.spacing_mm)
    tissue = volume.voxels[:: steps[0], :: steps[1], :: steps[2]] > _TISSUE_HU
    cell_mm = tuple(s * mm for s, mm in zip(steps, volume.geometry.spacing_mm, strict=True))
    cuts = tuple(round(_SHELL_MM / 2 / mm) for mm in cell_mm)
    solid = _grown(_shrunk(tissue, cuts), cuts)
    along = _along_patient(volume.geometry.axes)
    body = _largest(solid | _hollows(tissue, solid, along))
    litres = np.count_nonzero(body) * np.prod(steps) * volume.geometry.voxel_ml / 1000
    return Body(inside=body, steps=steps) if litres >= _LEAST_L else None


def _steps(spacing_mm: tuple[float, float, float]) -> tuple[int, int, int]:
    slices, rows, columns = (max(1, int(_CELL_MM / mm)) for mm in spacing_mm)
    return slices, rows, columns


def _along_patient(axes: str) -> int:
    return next(k for k, letter in enumerate(axes) if letter in "SI")


def _shrunk(mask: Mask, cuts: tuple[int, ...]) -> Mask:
    """Erode by a box; beyond the array it goes on as at its edge, for a cut body is no thinner."""
    return ~_grown(~mask, cuts)


def _grown(mask: Mask, cuts: tuple[int, ...]) -> Mask:
    for axis, cut in enumerate(cuts):
        for _ in range(cut):
            mask = _dilated(mask, axis)
    return mask


def _dilated(mask: Mask, axis: int) -> Mask:
    wide = mask.copy()
    out, source = np.moveaxis(wide, axis, 0), np.moveaxis(mask, axis, 0)
    out[1:] |= source[:-1]
    out[:-1] |= source[1:]
    return wide


def _hollows(tissue: Mask, solid: Mask, along: int) -> Mask:
    """Return the air within the patient.

    Parameters
    ----------
    tissue
        All else is air.
    solid
        Tissue that is thicker than a shell.
    along
        The axis along the patient: air may leave the picture at its ends.
    """
    numbers = _numbered(~tissue)
    sides = [
        np.take(numbers, end, axis).ravel() for axis in range(3) if axis != along for end in (0, -1)
    ]
    closed = np.ones(numbers.max() + 1, dtype=bool)
    closed[np.concatenate(sides)] = False
    closed[0] = False
    outside = ~tissue & ~closed[numbers]
    shells = tissue & ~solid & _grown(outside, _ONE)
    held_by_body, held_by_shells = (
        np.bincount(numbers[_grown(mask, _ONE)], minlength=len(closed)) for mask in (solid, shells)
    )
    hollow: Mask = (closed & (held_by_body > 2 * held_by_shells))[numbers]
    return hollow


def _largest(mask: Mask) -> Mask:
    """Return the largest piece; nothing, if there is nothing."""
    numbers = _numbered(mask)
    sizes = np.bincount(numbers.ravel())
    sizes[0] = 0
    largest: Mask = mask & (numbers == sizes.argmax())
    return largest


def _numbered(mask: Mask) -> np.ndarray:
    return Pieces.find(np.ascontiguousarray(mask).view(np.uint8), diagonal=False).numbered()

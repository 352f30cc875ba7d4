"""Where the scan lies along the patient: which organs cannot be in it, and which lie amiss."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np

from viscera.domain.anatomy import LANDMARK_MIN_ML, USUAL, margin_mm
from viscera.domain.geometry import Geometry

_MISPLACED_MM = 120.0
"""Farther from its usual place lies no organ that is not moved by disease: three vertebrae."""
_WITNESSES = 3
"""Organs that must say where an organ belongs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The place of one found organ along the patient's axis."""

    name: str
    volume_ml: float
    bottom_mm: float
    """LPS z of the lower end of its bounding box."""
    top_mm: float


def superior_range_mm(
    geometry: Geometry, first: tuple[int, ...], last: tuple[int, ...]
) -> tuple[float, float]:
    """Return the lowest and highest LPS z of a box of voxels, by the centres of its corners."""
    corners = np.array(np.meshgrid(*zip(first, last, strict=True))).reshape(3, -1).T
    heights = geometry.to_lps(corners)[:, 2]
    return float(heights.min()), float(heights.max())


def outside_field_of_view(geometry: Geometry, found: tuple[Found, ...]) -> frozenset[str]:
    """Return the AMOS names of organs whose usual place lies wholly beyond the scanned range.

    Parameters
    ----------
    geometry
        Grid of the scan.
    found
        The organs that were found. Where none of them says where the scan lies, nothing can be
        known and the answer is empty.
    """
    origins = _origins_mm(geometry, found)
    if not origins:
        return frozenset()
    bottom, top = _scanned_mm(geometry)
    origin = median(origins.values())
    names = {one.name for one in found}
    return frozenset(
        name
        for name, usual in USUAL.items()
        if name not in names
        and (
            origin + usual.top_mm + margin_mm(usual.top_mm) < bottom
            or origin + usual.bottom_mm - margin_mm(usual.bottom_mm) > top
        )
    )


def displaced(geometry: Geometry, found: tuple[Found, ...]) -> Mapping[str, float]:
    """Return by AMOS's names how far organs lie above their place, where that is too far.

    Each organ is judged by the median of all others, of which there must be three. Vessels and
    esophagus are not judged: what a scan shows of them depends on the scan.
    """
    origins = _origins_mm(geometry, found)
    far = {}
    for name, origin in origins.items():
        others = [other for witness, other in origins.items() if witness != name]
        if USUAL[name].compact and len(others) >= _WITNESSES:
            offset = origin - median(others)
            if abs(offset) > _MISPLACED_MM:
                far[name] = offset
    return far


def _scanned_mm(geometry: Geometry) -> tuple[float, float]:
    return superior_range_mm(geometry, (0, 0, 0), tuple(n - 1 for n in geometry.shape))


def _origins_mm(geometry: Geometry, found: tuple[Found, ...]) -> dict[str, float]:
    """Return where each organ, if it lies as usual, puts the first lumbar vertebra."""
    bottom, top = _scanned_mm(geometry)
    landmarks = [one for one in found if one.name in USUAL and one.volume_ml >= LANDMARK_MIN_ML]
    origins = {one.name: _first_lumbar_mm(one, bottom, top, geometry) for one in landmarks}
    return {name: origin for name, origin in origins.items() if origin is not None}


def _first_lumbar_mm(
    organ: Found, scan_bottom: float, scan_top: float, geometry: Geometry
) -> float | None:
    """Return the LPS z of the first lumbar vertebra if `organ` lies as usual.

    An end that is cut by the scan says nothing; an organ cut at both says nothing at all.
    """
    near = float(np.abs(geometry.affine_lps[2, :3]).max()) * 1.5
    usual = USUAL[organ.name]
    estimates = []
    if organ.top_mm < scan_top - near:
        estimates.append(organ.top_mm - usual.top_mm)
    if organ.bottom_mm > scan_bottom + near:
        estimates.append(organ.bottom_mm - usual.bottom_mm)
    return sum(estimates) / len(estimates) if estimates else None

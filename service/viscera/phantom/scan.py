"""How a phantom is looked at: grid, phase, dose, field of view."""

from dataclasses import dataclass

import numpy as np

from viscera.domain.geometry import Geometry
from viscera.phantom.tissue import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The choices of an operator. What is None is drawn from the seed."""

    spacing_mm: tuple[float, float, float] = (4.0, 1.5, 1.5)
    """(slice, row, column)."""
    matrix: tuple[int, int] = (256, 256)
    """(rows, columns)."""
    slices: int | None = None
    """None: as many as the coverage needs."""
    coverage: tuple[float, float] | None = (-235.0, 265.0)
    """From z to z in canonical mm, scaled with the body; None: random, often short."""
    phase: Phase | None = None
    noise_hu: float | None = None
    """SD in soft tissue; None: 15 to 28."""
    edge_mm: float | None = None
    """Over which edges are smeared by partial volume; None: a voxel's mean width."""
    centred: bool = False
    """Whether the body lies in the middle of the field of view."""
    plain: bool = False
    """No arms in the field of view, an average body, nothing removed: for the demo."""


def scan_geometry(scan: Scan, low_mm: float, high_mm: float, centre_yx_mm: np.ndarray) -> Geometry:
    """Return an axial grid (axes ``SPL``) between two heights, centred in plane on a point.

    Parameters
    ----------
    scan
        Spacing and matrix; `slices`, if set, overrides `high_mm`.
    low_mm, high_mm
        World z of the first slice and, about, of the last.
    centre_yx_mm
        World (y, x) of the middle of the field of view.
    """
    dz, dy, dx = scan.spacing_mm
    slices = scan.slices or max(round((high_mm - low_mm) / dz), 8)
    rows, columns = scan.matrix
    first = np.array(
        [centre_yx_mm[1] - dx * (columns - 1) / 2, centre_yx_mm[0] - dy * (rows - 1) / 2, low_mm]
    )
    return Geometry.from_planes(
        (slices, rows, columns), first, np.array([0.0, 0.0, dz]), (1, 0, 0, 0, 1, 0), (dy, dx)
    )


DEMO = Scan(phase=Phase.PORTAL, centred=True, plain=True)
"""The demo's scan, with seed 7: an average body, all 15 organs in the field of view."""

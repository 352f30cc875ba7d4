"""Where each voxel of a resampled axis takes its values from: nnU-Net's and scikit-image's rule.

The scale is the ratio of shapes, not of spacings; voxels are boxes, so centre i lies at i + 0.5;
beyond the outer centres the edge goes on (scikit-image's ``edge``, SciPy's ``nearest`` with
``grid_mode``). Each axis is a table of its own, because linear interpolation is separable.
"""

import math
from dataclasses import dataclass

import numpy as np

from viscera.domain.models import SeparateAxis


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Clip to [lower, upper], subtract `mean`, divide by `sd`: what every scheme comes to."""

    lower: float = -math.inf
    upper: float = math.inf
    mean: float = 0.0
    sd: float = 1.0

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Return `values` scaled, float32."""
        clipped = np.clip(np.asarray(values, np.float32), self.lower, self.upper)
        scaled: np.ndarray = (clipped - np.float32(self.mean)) / np.float32(self.sd)
        return scaled


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AxisTable:
    """For each target index: ``source[low] * (1 - weight) + source[high] * weight``."""

    low: np.ndarray
    """(n,), int64."""
    high: np.ndarray
    """(n,), int64."""
    weight: np.ndarray
    """(n,), float32; 0 where `low` alone counts."""


def axis_table(source: int, target: int, order: int) -> AxisTable:
    """Return the table that takes an axis of `source` voxels to `target` ones.

    Parameters
    ----------
    order
        0: the nearest voxel (a tie goes up, as SciPy's ``floor(x + 0.5)``); 1: linear.
    """
    return table_at(box_centres(source, target), source, order)


def box_centres(source: int, target: int) -> np.ndarray:
    """Return where `target` voxels lie among `source` ones over the same box."""
    centres: np.ndarray = (np.arange(target) + 0.5) * (source / target) - 0.5
    return centres


def end_to_end(source: int, target: int) -> np.ndarray:
    """Return where `target` voxels lie among `source` ones if the outer centres stay.

    References
    ----------
    SciPy's ``zoom`` without ``grid_mode``, which TotalSegmentator uses: a single voxel is the
    first one.
    """
    places: np.ndarray = np.arange(target) * ((source - 1) / (target - 1) if target > 1 else 1.0)
    return places


def table_at(centres: np.ndarray, source: int, order: int) -> AxisTable:
    """Return the table for voxels at `centres`, in indices of an axis of `source` voxels.

    Parameters
    ----------
    order
        As `axis_table` takes it.
    """
    if order == 0:
        nearest = np.clip(np.floor(centres + 0.5), 0, source - 1).astype(np.int64)
        return AxisTable(low=nearest, high=nearest, weight=np.zeros(len(nearest), np.float32))
    centres = np.clip(centres, 0, source - 1)
    low = np.floor(centres).astype(np.int64)
    return AxisTable(
        low=low,
        high=np.minimum(low + 1, source - 1),
        weight=(centres - low).astype(np.float32),
    )


def target_shape(
    shape: tuple[int, ...],
    spacing_mm: tuple[float, ...],
    target_mm: tuple[float, ...] | None,
) -> tuple[int, int, int]:
    """Return nnU-Net's ``compute_new_shape``: ``round(shape * spacing / target)``, at least 1.

    Parameters
    ----------
    shape, spacing_mm
        Of the source, on the model's axes.
    target_mm
        The model's spacing on the same axes; None: the source's own.
    """
    if target_mm is None:
        return (shape[0], shape[1], shape[2])
    z, y, x = (
        max(1, round(s / t * n)) for s, t, n in zip(spacing_mm, target_mm, shape, strict=True)
    )
    return z, y, x


def axis_orders(
    order: int,
    separate: SeparateAxis | None,
    source_mm: tuple[float, ...],
    target_mm: tuple[float, ...] | None,
) -> tuple[int, int, int]:
    """Return the order of interpolation along each axis.

    Parameters
    ----------
    order
        Of every axis that is not apart.
    separate
        The rule for thick slices, or None.
    source_mm, target_mm
        Spacings of both grids; no target: it is the source's.

    References
    ----------
    nnU-Net 2.8.1 ``determine_do_sep_z_and_axis``: the source decides if it is anisotropic, else
    the target; where two axes share the largest spacing, none is apart.
    """
    orders = [order, order, order]
    for spacing in (source_mm, target_mm or source_mm):
        if separate and max(spacing) / min(spacing) > separate.above:
            coarsest = [k for k in range(3) if max(spacing) / spacing[k] == 1]
            if len(coarsest) == 1:
                orders[coarsest[0]] = separate.order
            break
    return orders[0], orders[1], orders[2]

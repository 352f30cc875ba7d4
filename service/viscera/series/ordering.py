"""Slices along their normal: order, gaps, and who shares a place."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from viscera.series.headers import Slice

_SAME_PLACE_MM = 0.01
"""No scanner makes slices this close, and no peer rounds positions to less."""


@dataclass(frozen=True, slots=True, eq=False)
class Ordered:
    """Parallel slices by ascending dot(position, normal); shuffling them changes nothing."""

    slices: tuple[Slice, ...]
    normal_lps: np.ndarray
    locations_mm: np.ndarray
    """(slice,): dot(ImagePositionPatient, normal)."""

    @property
    def gaps_mm(self) -> np.ndarray:
        """(slice - 1,): from each slice to the next."""
        return np.asarray(np.diff(self.locations_mm))

    @property
    def typical_gap_mm(self) -> float:
        """The median gap between neighbours that do not share a place; 0 where all do.

        Of two middle gaps the lower: their mean would be the gap of no slices at all.
        """
        gaps = np.sort(self.gaps_mm)
        gaps = gaps[gaps > _SAME_PLACE_MM]
        return float(gaps[(len(gaps) - 1) // 2]) if len(gaps) else 0.0

    def colliding(self, tolerance: float) -> list[tuple[Slice, ...]]:
        """Return the sets of slices that share a place.

        Parameters
        ----------
        tolerance
            Share of the typical gap within which two places are one.
        """
        apart = self.gaps_mm > max(_SAME_PLACE_MM, tolerance * self.typical_gap_mm)
        ends = [0, *(np.flatnonzero(apart) + 1), len(self.slices)]
        runs = (self.slices[start:end] for start, end in pairwise(ends))
        return [run for run in runs if len(run) > 1]


def in_order(slices: Iterable[Slice]) -> Ordered:
    """Sort parallel slices; those at one location by identity."""
    by_identity = sorted(slices, key=identity)
    along, down = np.array(by_identity[0].frame.orientation_lps).reshape(2, 3)
    normal = np.cross(along, down)
    normal /= np.linalg.norm(normal)
    where = np.array([each.frame.position_lps for each in by_identity]) @ normal
    order = np.argsort(where, kind="stable")
    return Ordered(tuple(by_identity[k] for k in order), normal, where[order])


def identity(of: Slice) -> tuple[str, int]:
    """Return what no two slices share."""
    return (of.frame.source.sop_uid, of.frame.source.frame)

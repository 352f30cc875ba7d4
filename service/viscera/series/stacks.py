"""From slices to regular grids, each judged alone; what is no grid is refused with a reason."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from viscera.config import SeriesSettings
from viscera.domain.geometry import Geometry
from viscera.domain.sources import SeriesFacts, Stack
from viscera.errors import (
    CollidingSlices,
    GeometryMismatch,
    IncompleteSeries,
    UnevenSpacing,
    UnusableSeries,
)
from viscera.series.grouping import group_by_plane, split_where_colliding
from viscera.series.headers import Slice
from viscera.series.ordering import Ordered, in_order

_MULTIPLE = 0.1
"""How far from a whole multiple of the spacing a gap may be and still mean missing slices."""

_NAMED = 5
"""So many positions are named in an error text; the rest is counted."""

_HALF = 0.5
"""The grid must put every voxel within half a voxel of where its header says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Slices that belong together and form no usable grid."""

    frames: int
    error: UnusableSeries


def build_stacks(
    slices: Iterable[Slice], facts: SeriesFacts, settings: SeriesSettings
) -> tuple[tuple[Stack, ...], tuple[Refused, ...]]:
    """Group, split and judge the slices of one series; largest first.

    The answer does not depend on the order of `slices`.
    """
    stacks: list[Stack] = []
    refused: list[Refused] = []
    for group in group_by_plane(slices):
        for part in _split(group, settings):
            try:
                stacks.append(build_stack(part, facts, settings))
            except UnusableSeries as error:
                refused.append(Refused(frames=len(part), error=error))
    stacks.sort(key=lambda stack: -len(stack.frames))
    refused.sort(key=lambda each: -each.frames)
    return tuple(stacks), tuple(refused)


def build_stack(slices: Sequence[Slice], facts: SeriesFacts, settings: SeriesSettings) -> Stack:
    """Make one grid of slices that agree in plane, matrix and pixel spacing.

    Parameters
    ----------
    slices
        In any order; the stack has them by ascending dot(position, normal).
    facts
        Of their series.
    settings
        Limits and tolerances.

    Raises
    ------
    IncompleteSeries
        If there are too few, or gaps are whole multiples of the spacing.
    CollidingSlices
        If two lie at one place.
    UnevenSpacing
        If gaps differ by more than the tolerance otherwise.
    GeometryMismatch
        If the gantry is tilted too far, slices leave the straight line, or voxels are too many.
    """
    _refuse_too_few(slices, settings)
    ordered = in_order(slices)
    _refuse_too_many_voxels(ordered, settings)
    _refuse_collisions(ordered, settings)
    _refuse_gaps(ordered, settings)
    step = _mean_step(ordered)
    _refuse_tilt(ordered, step, settings)
    _refuse_crooked(ordered, step)
    first = ordered.slices[0].frame
    return Stack(
        facts=facts,
        frames=tuple(each.frame for each in ordered.slices),
        geometry=Geometry.from_planes(
            (len(ordered.slices), first.rows, first.columns),
            np.array(first.position_lps),
            step,
            first.orientation_lps,
            first.spacing_mm,
        ),
    )


def _split(group: list[Slice], settings: SeriesSettings) -> list[list[Slice]]:
    if len(group) < settings.min_slices:
        return [group]
    return split_where_colliding(group, settings.spacing_tolerance, settings.min_slices)


def _refuse_too_few(slices: Sequence[Slice], settings: SeriesSettings) -> None:
    # One slice alone has no spacing, whatever the setting allows.
    fewest = max(settings.min_slices, 2)
    if len(slices) < fewest:
        raise IncompleteSeries(
            f"too few slices: {len(slices)} where at least {fewest} are expected; "
            f"send the whole series, or lower series.min_slices"
        )


def _refuse_too_many_voxels(ordered: Ordered, settings: SeriesSettings) -> None:
    frame = ordered.slices[0].frame
    voxels = len(ordered.slices) * frame.rows * frame.columns
    if voxels > settings.max_voxels:
        raise GeometryMismatch(
            f"{len(ordered.slices)} slices of {frame.rows} x {frame.columns} are {voxels} voxels, "
            f"expected at most {settings.max_voxels}: raise series.max_voxels if memory allows"
        )


def _refuse_collisions(ordered: Ordered, settings: SeriesSettings) -> None:
    collisions = ordered.colliding(settings.spacing_tolerance)
    if collisions:
        places = [np.array(run[0].frame.position_lps) for run in collisions]
        raise CollidingSlices(
            f"{sum(map(len, collisions))} of {len(ordered.slices)} slices share a place with "
            f"another, at {_named(places)}, and nothing in their headers tells them apart: "
            f"send each volume as a series of its own"
        )


def _refuse_gaps(ordered: Ordered, settings: SeriesSettings) -> None:
    gaps, spacing = ordered.gaps_mm, ordered.typical_gap_mm
    ratios = gaps / spacing
    times = np.rint(ratios).astype(int)
    tolerance = settings.spacing_tolerance
    odd = np.abs(ratios - 1) > tolerance
    slack = np.maximum(tolerance, np.minimum(tolerance * times, _MULTIPLE))
    missing = odd & (times > 1) & (np.abs(ratios - times) <= slack)
    if (odd & ~missing).any():
        raise UnevenSpacing(_uneven_text(ordered, np.flatnonzero(odd & ~missing)))
    if missing.any():
        places = [
            place
            for k in np.flatnonzero(missing)
            for place in _between(ordered, int(k), int(times[k]))
        ]
        count = int((times[missing] - 1).sum())
        raise IncompleteSeries(
            f"{count} slices are missing at a spacing of {spacing:.3f} mm, "
            f"at {_named(places, count)}: send the whole series"
        )


def _uneven_text(ordered: Ordered, where: np.ndarray) -> str:
    gaps = ordered.gaps_mm
    places = [np.array(ordered.slices[k].frame.position_lps) for k in where]
    return (
        f"gaps between slices go from {gaps.min():.3f} to {gaps.max():.3f} mm, "
        f"{len(where)} of {len(gaps)} differ from the usual {ordered.typical_gap_mm:.3f} mm "
        f"by more than the tolerance, after {_named(places)}: "
        f"send a reconstruction with even spacing"
    )


def _between(ordered: Ordered, k: int, times: int) -> list[np.ndarray]:
    """Return where slices are missing between slice `k` and the next; no more than are named."""
    start, end = (np.array(ordered.slices[i].frame.position_lps) for i in (k, k + 1))
    return [start + (end - start) * n / times for n in range(1, min(times, _NAMED + 1))]


def _mean_step(ordered: Ordered) -> np.ndarray:
    first, last = (np.array(ordered.slices[k].frame.position_lps) for k in (0, -1))
    return np.asarray((last - first) / (len(ordered.slices) - 1))


def _refuse_tilt(ordered: Ordered, step: np.ndarray, settings: SeriesSettings) -> None:
    cosine = float(step @ ordered.normal_lps) / float(np.linalg.norm(step))
    tilt = math.degrees(math.acos(min(1.0, cosine)))
    if tilt > settings.max_tilt_degrees:
        raise GeometryMismatch(
            f"slices are stacked {tilt:.1f} degrees off their normal (gantry tilt), expected at "
            f"most {settings.max_tilt_degrees:g}: send a reconstruction without tilt"
        )


def _refuse_crooked(ordered: Ordered, step: np.ndarray) -> None:
    """Compare each slice's position with the grid's."""
    positions = np.array([each.frame.position_lps for each in ordered.slices])
    off = positions - (positions[0] + np.arange(len(positions))[:, None] * step)
    along = np.abs(off @ ordered.normal_lps)
    across = np.linalg.norm(off - np.outer(off @ ordered.normal_lps, ordered.normal_lps), axis=1)
    places = positions[along > _HALF * float(step @ ordered.normal_lps)]
    if len(places):
        raise UnevenSpacing(
            f"the spacing drifts: {len(places)} slices lie more than half a gap off an even grid, "
            f"at {_named(list(places))}: send a reconstruction with even spacing"
        )
    places = positions[across > _HALF * min(ordered.slices[0].frame.spacing_mm)]
    if len(places):
        raise GeometryMismatch(
            f"{len(places)} slices lie more than half a pixel beside the straight line, "
            f"at {_named(list(places))}: send a reconstruction with one centre"
        )


def _named(places: Sequence[np.ndarray], count: int | None = None) -> str:
    """Return LPS positions in mm for an error text: the first few of `count`."""
    texts = [f"({x:.2f}, {y:.2f}, {z:.2f})" for x, y, z in places[:_NAMED]]
    more = (len(places) if count is None else count) - len(texts)
    return ", ".join(texts) + (f" and {more} more" if more > 0 else "")

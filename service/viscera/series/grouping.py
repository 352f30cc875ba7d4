"""Which slices of a series may form one volume, before anybody looks for gaps.

Slices belong together where orientation, matrix and pixel spacing agree. Such a group is split
further only where positions collide, by the first trait that explains the collisions.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

from viscera.series.headers import Slice
from viscera.series.ordering import identity, in_order
from viscera.series.traits import TRAITS

_COSINES = 1e-3
_PIXEL_SPACING = 1e-3
"""Over 512 pixels, either moves the far edge by half a pixel."""

_MOST_TRAITS_AT_ONCE = 2


def group_by_plane(slices: Iterable[Slice]) -> list[list[Slice]]:
    """Group slices whose planes are parallel and whose pixels have one matrix and size.

    The answer does not depend on the order of `slices`.
    """
    groups: list[list[Slice]] = []
    known: dict[tuple[object, ...], list[Slice]] = {}
    for each in sorted(slices, key=identity):
        frame = each.frame
        plane = (frame.rows, frame.columns, frame.orientation_lps, frame.spacing_mm)
        if plane not in known:
            known[plane] = _group_of(each, groups)
        known[plane].append(each)
    return groups


def split_where_colliding(
    slices: Sequence[Slice], tolerance: float, min_slices: int
) -> list[list[Slice]]:
    """Split a group so that no two slices of a part share a place, where traits allow it.

    A group without collisions stays whole, whatever its traits say; so does one whose
    collisions no trait explains, and `stacks` refuses it.

    Parameters
    ----------
    slices
        One group of `group_by_plane`.
    tolerance
        Share of the spacing within which two places are one.
    min_slices
        A split by more parts than slices collide counts only if most slices come to lie in
        parts of this size: a trait that differs from slice to slice separates everything and
        explains nothing.
    """
    collisions = in_order(slices).colliding(tolerance)
    if not collisions:
        return [list(slices)]
    most = max(map(len, collisions))
    varying = [k for k in range(len(TRAITS)) if len({each.traits[k] for each in slices}) > 1]
    for count in range(1, _MOST_TRAITS_AT_ONCE + 1):
        for traits in combinations(varying, count):
            parts = _partition(slices, traits)
            if any(in_order(part).colliding(tolerance) for part in parts):
                continue
            large = sum(len(part) for part in parts if len(part) >= min_slices)
            if len(parts) == most or 2 * large > len(slices):
                return parts
    return [list(slices)]


def _group_of(each: Slice, groups: list[list[Slice]]) -> list[Slice]:
    for group in groups:
        if _agree(each, group[0]):
            return group
    groups.append([])
    return groups[-1]


def _agree(a: Slice, b: Slice) -> bool:
    return (
        (a.frame.rows, a.frame.columns) == (b.frame.rows, b.frame.columns)
        and np.allclose(a.frame.orientation_lps, b.frame.orientation_lps, rtol=0, atol=_COSINES)
        and np.allclose(a.frame.spacing_mm, b.frame.spacing_mm, rtol=_PIXEL_SPACING, atol=0)
    )


def _partition(slices: Sequence[Slice], traits: tuple[int, ...]) -> list[list[Slice]]:
    parts: dict[tuple[str, ...], list[Slice]] = {}
    for each in slices:
        parts.setdefault(tuple(each.traits[k] for k in traits), []).append(each)
    return [parts[values] for values in sorted(parts)]

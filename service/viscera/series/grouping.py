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
_PIECEWISE = ("acquisition", "multi-frame object", "trigger time")
"""Traits that differ within one volume, too."""
_FEWEST_IN_A_PIECE = 2
_EVEN = 0.1
"""Share of the gap by which gaps of one volume may differ here."""


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
            if len(parts) > most and _are_pieces(parts, traits):
                continue
            large = sum(len(part) for part in parts if len(part) >= min_slices)
            if len(parts) == most or 2 * large > len(slices):
                return parts
    return [list(slices)]


def _are_pieces(parts: Sequence[Sequence[Slice]], traits: tuple[int, ...]) -> bool:
    """Whether some parts are pieces of a volume, made in several breath-holds or rotations.

    Nothing says which pieces of two phases belong together, and each by itself would end within
    an organ.
    """
    if not any(TRAITS[k].name in _PIECEWISE for k in traits):
        return False
    return any(_continue_each_other(a, b) for a, b in combinations(parts, 2))


def _continue_each_other(a: Sequence[Slice], b: Sequence[Slice]) -> bool:
    """Whether together they are even: end to end, or each between the other's."""
    if min(len(a), len(b)) < _FEWEST_IN_A_PIECE:
        return False
    whole = in_order([*a, *b])
    gap = whole.typical_gap_mm
    return bool(np.all(np.abs(whole.gaps_mm - gap) <= _EVEN * gap))


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

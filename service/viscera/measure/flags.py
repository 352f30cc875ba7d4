"""What is wrong with an organ: its size, its side, its place, or what was taken away from it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from viscera.domain.anatomy import LANDMARK_MIN_ML, RIGHT_OF, SIDES, midline_x_mm
from viscera.domain.results import Flag, FlagKind, OrganMeasurement, Presence
from viscera.measure.ranges import volume_ranges

_REMOVED_SHARE = 0.2
_REMOVED_ML = 1.0
"""Less than these taken away are specks, which every network leaves."""

Found = Mapping[str, OrganMeasurement]


def flagged(
    rows: Sequence[OrganMeasurement], displaced_mm: Mapping[str, float]
) -> tuple[OrganMeasurement, ...]:
    """Return `rows` with what contradicts anatomy on each organ.

    Parameters
    ----------
    rows
        One per label.
    displaced_mm
        By name, how far above (below: negative) its usual place an organ lies, where that is too
        far; from ``field_of_view.displaced``.
    """
    found = _found(rows)
    places = _places(found, displaced_mm)
    return _with_flags(rows, chain(_sizes(found), _sides(found), places, _removals(rows)))


def side_flagged(rows: Sequence[OrganMeasurement]) -> tuple[OrganMeasurement, ...]:
    """Return `rows` with what contradicts left and right alone: of what need be no abdomen."""
    return _with_flags(rows, _sides(_found(rows)))


def reversed_pairs(found: Found) -> tuple[list[tuple[str, str]], int]:
    """Return the pairs that lie the wrong way round, and how many pairs were found."""
    pairs = [
        (right, left, found[right].centroid_lps, found[left].centroid_lps)
        for right, left in RIGHT_OF
        if right in found and left in found
    ]
    # x of LPS grows towards the patient's left.
    wrong = [(right, left) for right, left, a, b in pairs if a and b and a[0] >= b[0]]
    return wrong, len(pairs)


def is_possible(organ: OrganMeasurement) -> bool:
    """Whether a found organ has a size that an organ can have."""
    return all(flag.kind is not FlagKind.VOLUME_IMPOSSIBLE for flag in organ.flags)


def _found(rows: Sequence[OrganMeasurement]) -> Found:
    return {row.label.name: row for row in rows if row.voxels}


def _with_flags(
    rows: Sequence[OrganMeasurement], named: Iterable[tuple[str, Flag]]
) -> tuple[OrganMeasurement, ...]:
    flags: defaultdict[str, list[Flag]] = defaultdict(list)
    for name, flag in named:
        flags[name].append(flag)
    return tuple(replace(row, flags=tuple(flags[row.label.name])) for row in rows)


def _sizes(found: Found) -> Iterator[tuple[str, Flag]]:
    for name, organ in found.items():
        if name in volume_ranges() and (flag := _size(organ)):
            yield name, flag


def _size(organ: OrganMeasurement) -> Flag | None:
    volume_ml = organ.volume_ml
    seen = f"{organ.label.title}: {_number(volume_ml)} mL"
    known = volume_ranges()[organ.label.name]
    (least, most), (low, high) = known.possible_ml, known.usual_ml
    whole = organ.presence is Presence.FOUND
    if volume_ml > most:
        text = f"{seen} is more than the {most:g} mL thought possible."
        return Flag(FlagKind.VOLUME_IMPOSSIBLE, text)
    if whole and volume_ml < least:
        text = f"{seen} is less than the {least:g} mL thought possible."
        return Flag(FlagKind.VOLUME_IMPOSSIBLE, text)
    if volume_ml > high or (whole and volume_ml < low):
        text = f"{seen} is not within the {low:g} to {high:g} mL usual in adults."
        return Flag(FlagKind.VOLUME_UNUSUAL, text)
    return None


def _sides(found: Found) -> Iterator[tuple[str, Flag]]:
    told = set()
    for right, left in reversed_pairs(found)[0]:
        flag = Flag(
            FlagKind.SIDE_CONTRADICTED,
            f"The {right} lies to the patient's left of the {left}: the series may be stored "
            "mirrored, the organs may lie reversed, or the label map is wrong.",
        )
        told |= {right, left}
        yield right, flag
        yield left, flag
    centres = {
        name: organ.centroid_lps[0]
        for name, organ in found.items()
        if organ.centroid_lps and organ.volume_ml >= LANDMARK_MIN_ML
    }
    middle = midline_x_mm(centres)
    for name, side in SIDES.items():
        centre = found[name].centroid_lps if name in found and name not in told else None
        if middle is not None and centre and side.contradicted_by(centre[0] - middle):
            text = (
                f"The {name} lies to the patient's {side.other} of aorta and inferior vena cava: "
                "the label map is wrong, or the organ has crossed over."
            )
            yield name, Flag(FlagKind.SIDE_CONTRADICTED, text)


def _places(found: Found, displaced_mm: Mapping[str, float]) -> Iterator[tuple[str, Flag]]:
    for name, far_mm in displaced_mm.items():
        way = "above" if far_mm > 0 else "below"
        text = (
            f"{found[name].label.title}: lies {abs(far_mm):.0f} mm {way} where the other organs "
            "say that it should."
        )
        yield name, Flag(FlagKind.MISPLACED, text)


def _removals(rows: Sequence[OrganMeasurement]) -> Iterator[tuple[str, Flag]]:
    for row in rows:
        painted_ml = row.removed_ml + row.volume_ml
        if row.removed_ml < _REMOVED_ML or row.removed_ml < _REMOVED_SHARE * painted_ml:
            continue
        text = (
            f"{row.label.title}: {_number(row.removed_ml)} of the {_number(painted_ml)} mL that "
            "the network painted were taken away as implausible."
        )
        yield row.label.name, Flag(FlagKind.REMOVED, text)


def _number(millilitres: float) -> str:
    return f"{millilitres:.0f}" if millilitres >= 10 else f"{millilitres:.1f}"

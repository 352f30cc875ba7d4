"""Which pieces of an organ stay. Pure arithmetic on what is known of each piece."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from viscera.domain.anatomy import LANDMARK_MIN_ML, SIDES, midline_x_mm
from viscera.domain.models import Label, PostprocessPolicy

_LEAST_INSIDE = 0.5
"""Of a piece's voxels, to lie in the patient."""


class Fate(IntEnum):
    """What becomes of a piece."""

    STAYS = 0
    OUTSIDE_BODY = 1
    WRONG_SIDE = 2
    APART = 3  # of the largest piece, or too small to be one


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One connected piece of one organ."""

    number: int
    voxels: int
    volume_ml: float
    share_inside: float
    """Of its voxels, in the patient's body; 1 where that is not known."""
    x_mm: float
    """LPS x of its centroid: grows towards the patient's left."""


def choose(
    pieces: Mapping[str, Sequence[Piece]], labels: Sequence[Label], policy: PostprocessPolicy
) -> np.ndarray:
    """Return the `Fate` of every piece, by its number.

    Parameters
    ----------
    pieces
        By the organ's name.
    labels
        Of the model; a name that is not among them has no pieces.
    policy
        From the manifest.

    Returns
    -------
    numpy.ndarray
        (pieces,), uint8. An organ of which every piece lies outside the body, or is smaller than
        ``min_ml``, loses all. Of the others the largest stays; where it lies on the wrong side of
        the great vessels, the largest on the right side takes its place if it has ``min_share`` of
        its size.
    """
    fates = np.zeros(sum(map(len, pieces.values())), dtype=np.uint8)
    inside: dict[str, list[Piece]] = {}
    for name, all_of_it in pieces.items():
        inside[name] = []
        for one in sorted(all_of_it, key=lambda p: (-p.voxels, p.number)):
            if policy.inside_body and one.share_inside < _LEAST_INSIDE:
                fates[one.number] = Fate.OUTSIDE_BODY
            else:
                inside[name].append(one)
    middle = _midline(inside) if policy.sides else None
    for label in labels:
        rest = inside.get(label.name, [])
        for number, fate in _fates(rest, label.name, middle, policy):
            fates[number] = fate
    return fates


def _midline(inside: Mapping[str, Sequence[Piece]]) -> float | None:
    largest = {
        name: found[0].x_mm
        for name, found in inside.items()
        if found and found[0].volume_ml >= LANDMARK_MIN_ML
    }
    return midline_x_mm(largest)


def _fates(
    pieces: Sequence[Piece], name: str, middle: float | None, policy: PostprocessPolicy
) -> Iterator[tuple[int, Fate]]:
    """Yield the pieces that go; `pieces` come largest first."""
    if not pieces:
        return
    least = policy.min_share * pieces[0].voxels
    wrong = {
        one.number
        for one in pieces
        if middle is not None and name in SIDES and SIDES[name].contradicted_by(one.x_mm - middle)
    }
    right = [one for one in pieces if one.number not in wrong]
    if not right or right[0].voxels < least:
        # Nothing to put in its place: it stays, and measuring flags it.
        right, wrong = list(pieces), set()
    yield from ((number, Fate.WRONG_SIDE) for number in wrong)
    limit = policy.max_pieces_of.get(name, policy.max_pieces) or len(right)
    for rank, one in enumerate(right):
        too_small = one.voxels < policy.min_share * right[0].voxels
        if rank >= limit or too_small or one.volume_ml < policy.min_ml:
            yield one.number, Fate.APART

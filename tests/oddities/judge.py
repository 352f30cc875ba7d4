"""Whether a volume that some program built is what was scanned: by world position and value.

Nothing here knows how a program orders slices, rows or columns. Every scanned voxel is looked up
in the built volume by its position in the patient, so a mirrored, shifted or mixed volume fails
whatever its array looks like.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_NEAR_MM = 0.25
"""How far from a voxel's true centre a built voxel may lie: a tenth of the gap between slices."""

_NEAR_VALUE = 0.51
"""Rescaled values may be rounded to whole numbers."""


_FLAT = 1e-9
"""A determinant below this is no volume: its slices lie in one another."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scanned:
    """Parallel slices as a scanner measured them: what must be found again."""

    voxels: np.ndarray
    """(slice, row, column), HU or the MR scanner's own."""
    positions_lps: np.ndarray
    """(slice, 3): centre of each slice's first pixel, mm."""
    along_row: np.ndarray
    """(3,): from one column to the next, mm."""
    down_column: np.ndarray
    """(3,): from one row to the next, mm."""
    tolerance: float = 0.0
    """Of a value, where the pixels were compressed with losses."""
    optional: bool = False
    """May be built or left out: a localiser, a reformat."""

    def centres_lps(self) -> np.ndarray:
        """Return (slice, row, column, 3) voxel centres (PS3.3 equation C.7.6.2.1-1)."""
        _, rows, columns = self.voxels.shape
        row = np.arange(rows)[:, None, None] * self.down_column
        column = np.arange(columns)[None, :, None] * self.along_row
        return self.positions_lps[:, None, None] + (row + column)[None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Built:
    """A volume that a program built."""

    voxels: np.ndarray
    """Three axes in any order."""
    affine_lps: np.ndarray
    """4x4, index to LPS mm."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """How much of a scanned volume a built one holds."""

    share: float
    """Of the scanned voxels: found at their place with their value."""
    extra_voxels: int
    """Built voxels beyond the scanned ones."""

    @property
    def exact(self) -> bool:
        """Whether it is the scanned volume, whole and alone."""
        return self.share == 1.0 and self.extra_voxels == 0


def match(built: Built, scanned: Scanned) -> Match:
    """Look up every scanned voxel in `built`."""
    if abs(np.linalg.det(built.affine_lps[:3, :3])) < _FLAT:
        return Match(share=0.0, extra_voxels=built.voxels.size - scanned.voxels.size)
    inverse = np.linalg.inv(built.affine_lps[:3, :3])
    centres = scanned.centres_lps().reshape(-1, 3)
    index = np.rint((centres - built.affine_lps[:3, 3]) @ inverse.T).astype(int)
    away_mm = np.linalg.norm(
        index @ built.affine_lps[:3, :3].T + built.affine_lps[:3, 3] - centres, axis=1
    )
    inside = ((index >= 0) & (index < built.voxels.shape)).all(axis=1)
    found = inside & (away_mm <= _NEAR_MM)
    values = built.voxels[tuple(index[found].T)].astype(float)
    error = np.abs(values - scanned.voxels.reshape(-1)[found])
    right = int((error <= _NEAR_VALUE + scanned.tolerance).sum())
    return Match(share=right / len(centres), extra_voxels=built.voxels.size - len(centres))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a program made of a case, in the words of the table."""

    verdict: str
    """``right``, ``wrong`` or ``refused``."""
    text: str
    """One line; begins with the verdict."""


def refused(why: str) -> Outcome:
    """Return the outcome of a program that built nothing and said so."""
    return Outcome(verdict="refused", text=f"refused: {why}" if why else "refused")


def judge(built: Sequence[Built], scanned: Sequence[Scanned], never: str = "") -> Outcome:
    """Compare what was built with what was scanned.

    Parameters
    ----------
    built
        All volumes that came out, at least one.
    scanned
        All volumes that the files hold; every one that is not optional must be there, and
        nothing else.
    never
        Why no volume at all can be right; empty: one can.
    """
    if never:
        return Outcome(verdict="wrong", text=f"wrong: {_count(built)} of {never}")
    table = [[match(b, s) for s in scanned] for b in built]
    found = [next((k for k, m in enumerate(row) if m.exact), None) for row in table]
    wanted = {k for k, s in enumerate(scanned) if not s.optional}
    if None not in found and len(set(found)) == len(found) and wanted <= set(found):
        more = f", {_count(built)}" if len(built) > 1 else ""
        return Outcome(verdict="right", text=f"right{more}")
    return Outcome(verdict="wrong", text=f"wrong: {_what_is_wrong(built, scanned, table)}")


def _what_is_wrong(
    built: Sequence[Built], scanned: Sequence[Scanned], table: list[list[Match]]
) -> str:
    wanted = sum(not s.optional for s in scanned)
    parts = []
    if len(built) != wanted:
        parts.append(f"{_count(built)} where {wanted} {'was' if wanted == 1 else 'were'} scanned")
    best = [max(row[k].share for row in table) for k, s in enumerate(scanned) if not s.optional]
    worst = min(best)
    if worst < 1.0:
        parts.append(f"{_percent(worst)} of voxels right")
    elif any(m.share == 1.0 and m.extra_voxels > 0 for row in table for m in row):
        parts.append("slices invented")
    return ", ".join(parts) or "a further volume that nobody scanned"


def _count(built: Sequence[Built]) -> str:
    return "1 volume" if len(built) == 1 else f"{len(built)} volumes"


def _percent(share: float) -> str:
    """Never 100 where a voxel is wrong, never 0 where one is right."""
    if 0 < share < 1:
        share = min(max(share, 0.01), 0.99)
    return f"{share:.0%}"

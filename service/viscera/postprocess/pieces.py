"""Connected pieces of a label map: found once, then measured, erased or numbered."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from viscera.domain.arrays import Labels, Mask


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pieces:
    """The pieces of one label map, by its runs along the rows. Two labels are never one piece."""

    shape: tuple[int, int, int]
    count: int
    first: np.ndarray
    """(slices * rows + 1,) the first run of each row."""
    start: np.ndarray
    """(runs,) first column."""
    end: np.ndarray
    """(runs,) the column after the last."""
    value: np.ndarray
    """(runs,) label."""
    piece: np.ndarray
    """(runs,) piece, from 0 in the order of the first voxel."""

    @classmethod
    def find(cls, labels: Labels, *, diagonal: bool = True) -> Self:
        """Find the pieces of `labels`.

        Parameters
        ----------
        labels
            (slice, row, column), uint8, C-contiguous; 0 is background.
        diagonal
            Whether voxels that share a corner or an edge touch (26 neighbours), as in nnU-Net's
            postprocessing; otherwise they must share a face (6).
        """
        from viscera.postprocess import kernels

        rows = labels.shape[0] * labels.shape[1]
        first = np.zeros(rows + 1, dtype=np.int64)
        kernels.count_runs(labels, first[1:])
        np.cumsum(first, out=first)
        runs = int(first[-1])
        start, end = np.empty(runs, dtype=np.int32), np.empty(runs, dtype=np.int32)
        value, piece = np.empty(runs, dtype=np.uint8), np.empty(runs, dtype=np.int64)
        kernels.fill_runs(labels, first, start, end, value)
        shape = (labels.shape[0], labels.shape[1], labels.shape[2])
        count = kernels.join(shape, first, start, end, value, diagonal, piece)
        return cls(
            shape=shape, count=count, first=first, start=start, end=end, value=value, piece=piece
        )

    def sum_up(self, inside: Mask, steps: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return what is known of each piece.

        Parameters
        ----------
        inside
            A mask of every ``steps``-th voxel of the grid.
        steps
            Of `inside`, along (slice, row, column).

        Returns
        -------
        tuple
            (pieces,) the label of each; (pieces, 5) its voxels, the sums of their indices along
            (slice, row, column), and how many of them lie in `inside`.
        """
        from viscera.postprocess import kernels

        values = np.zeros(self.count, dtype=np.uint8)
        sums = np.zeros((self.count, 5), dtype=np.int64)
        runs = (self.first, self.start, self.end, self.value, self.piece)
        kernels.sum_up(*runs, self.shape, inside, steps, values, sums)
        return values, sums

    def erase(self, labels: Labels, keep: np.ndarray) -> None:
        """Set the pieces for which `keep` (pieces,) is false to background, in place."""
        from viscera.postprocess import kernels

        kernels.erase(labels, self.first, self.start, self.end, self.piece, keep)

    def numbered(self) -> np.ndarray:
        """Return (slice, row, column), int32: each voxel's piece from 1, 0 for background."""
        from viscera.postprocess import kernels

        numbers = np.zeros(self.shape, dtype=np.int32)
        kernels.number(self.first, self.start, self.end, self.piece, numbers)
        return numbers

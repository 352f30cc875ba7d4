"""Connected pieces of a label map by runs: what belongs together along a row is one item.

Three passes: find the runs (threads), join those that touch (one thread, over runs and not over
voxels), and sum up or erase by run. A label map of 512 x 512 x 300 has some 10^5 runs.

Importing this module compiles every launcher, or reads it from the cache.
"""

from typing import Any

import numpy as np
from numba import boolean, int32, int64, njit, prange, types, uint8, void

Array = np.ndarray


def _count_runs(labels: Array, counts: Array) -> None:
    """Write the number of runs of each row; `counts` is (slice * row,)."""
    depth, height, width = labels.shape
    for row in prange(depth * height):
        line = labels[row // height, row % height]
        runs, last = 0, np.uint8(0)
        for x in range(width):
            value = line[x]
            if value != last:
                runs += value != 0
                last = value
        counts[row] = runs


def _fill_runs(labels: Array, first: Array, start: Array, end: Array, value: Array) -> None:
    """Write where each run starts, ends (exclusive) and what it is, from ``first[row]`` on."""
    depth, height, width = labels.shape
    for row in prange(depth * height):
        run = first[row]
        if run == first[row + 1]:
            continue
        line = labels[row // height, row % height]
        last = np.uint8(0)
        for x in range(width):
            now = line[x]
            if now == last:
                continue
            if last != 0:
                end[run] = x
                run += 1
            if now != 0:
                start[run] = x
                value[run] = now
            last = now
        if last != 0:
            end[run] = width


@njit
def _root(parent: Array, run: int) -> int:
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@njit
def _join_two(
    start: Array, end: Array, value: Array, parent: Array, a: int, b: int, r: int
) -> None:
    """Join two runs of neighbouring rows if they are alike and overlap within `r` voxels."""
    if value[a] == value[b] and start[a] < end[b] + r and start[b] < end[a] + r:
        low, high = _root(parent, a), _root(parent, b)
        parent[max(low, high)] = min(low, high)


@njit
def _join_rows(
    start: Array, end: Array, value: Array, parent: Array, one: Any, other: Any, reach: int
) -> None:
    """Join the runs of two rows, each (first, last + 1), that touch."""
    a, b = one[0], other[0]
    while a < one[1] and b < other[1]:
        _join_two(start, end, value, parent, a, b, reach)
        if end[a] < end[b]:
            a += 1
        else:
            # Where both end together, the corner of the next one touches too.
            if end[a] == end[b] and a + 1 < one[1]:
                _join_two(start, end, value, parent, a + 1, b, reach)
            b += 1


def _join(
    shape: tuple[int, int, int],
    first: Array,
    start: Array,
    end: Array,
    value: Array,
    diagonal: bool,
    parent: Array,
) -> int:
    """Number the pieces from 0: `parent` becomes each run's piece. Return how many there are."""
    depth, height, _ = shape
    reach = 1 if diagonal else 0
    for run in range(len(parent)):
        parent[run] = run
    for row in range(depth * height):
        here = (first[row], first[row + 1])
        y = row % height
        if here[0] < here[1] and y > 0:
            _join_rows(start, end, value, parent, here, (first[row - 1], first[row]), reach)
        if here[0] < here[1] and row >= height:
            for low in range(max(y - reach, 0), min(y + reach, height - 1) + 1):
                below = row - height + low - y
                there = (first[below], first[below + 1])
                _join_rows(start, end, value, parent, here, there, reach)
    pieces: int = _renumber(parent)
    return pieces


@njit
def _renumber(parent: Array) -> int:
    """Replace each run's parent by its piece, from 0; return how many pieces there are."""
    pieces = 0
    for run in range(len(parent)):
        # A root comes before all that hang on it, and is numbered already.
        if parent[run] == run:
            parent[run] = pieces
            pieces += 1
        else:
            parent[run] = parent[parent[run]]
    return pieces


def _sum_up(
    first: Array,
    start: Array,
    end: Array,
    value: Array,
    piece: Array,
    shape: tuple[int, int, int],
    inside: Array,
    steps: tuple[int, int, int],
    values: Array,
    sums: Array,
) -> None:
    """Fill what is known of each piece.

    `sums` is (piece, 5): voxels, sums of the indices along (slice, row, column), and voxels that
    lie in `inside`, a mask of every ``steps``-th voxel of the grid.
    """
    depth, height, _ = shape
    for row in range(depth * height):
        z, y = row // height, row % height
        line = inside[z // steps[0], y // steps[1]]
        for run in range(first[row], first[row + 1]):
            k, length = piece[run], end[run] - start[run]
            values[k] = value[run]
            sums[k, 0] += length
            sums[k, 1] += length * z
            sums[k, 2] += length * y
            sums[k, 3] += length * (start[run] + end[run] - 1) // 2
            for x in range(start[run], end[run]):
                sums[k, 4] += line[x // steps[2]]


def _erase(
    labels: Array, first: Array, start: Array, end: Array, piece: Array, keep: Array
) -> None:
    """Set the voxels of each run whose piece is not kept to background."""
    depth, height, _ = labels.shape
    for row in prange(depth * height):
        for run in range(first[row], first[row + 1]):
            if not keep[piece[run]]:
                labels[row // height, row % height, start[run] : end[run]] = 0


def _number(first: Array, start: Array, end: Array, piece: Array, numbers: Array) -> None:
    """Write each voxel's piece, from 1, into `numbers` (slice, row, column)."""
    depth, height, _ = numbers.shape
    for row in prange(depth * height):
        for run in range(first[row], first[row + 1]):
            numbers[row // height, row % height, start[run] : end[run]] = piece[run] + 1


def _read(dtype: Any, ndim: int) -> Any:
    return types.Array(dtype, ndim, "C", readonly=True)


_TRIPLE: Any = types.Tuple((int64, int64, int64))  # type: ignore[no-untyped-call]  # numba's own
_LABELS: Any = uint8[:, :, ::1]
_RUNS = (_read(int64, 1), _read(int32, 1), _read(int32, 1))
_PIECES = _read(int64, 1)

count_runs: Any = njit(void(_read(uint8, 3), int64[::1]), parallel=True, cache=True)(_count_runs)
fill_runs: Any = njit(
    void(_read(uint8, 3), _read(int64, 1), int32[::1], int32[::1], uint8[::1]),
    parallel=True,
    cache=True,
)(_fill_runs)
join: Any = njit(int64(_TRIPLE, *_RUNS, _read(uint8, 1), boolean, int64[::1]), cache=True)(_join)
sum_up: Any = njit(
    void(
        *_RUNS,
        *(_read(uint8, 1), _PIECES, _TRIPLE, _read(boolean, 3), _TRIPLE),
        *(uint8[::1], int64[:, ::1]),
    ),
    cache=True,
)(_sum_up)
erase: Any = njit(void(_LABELS, *_RUNS, _PIECES, _read(boolean, 1)), parallel=True, cache=True)(
    _erase
)
number: Any = njit(void(*_RUNS, _PIECES, int32[:, :, ::1]), parallel=True, cache=True)(_number)

"""The same work of one voxel as in `kernels`, launched on an NVIDIA GPU: a thread each.

Nothing is compiled on import. The first call of a launcher compiles it for the GPU at hand, which
takes seconds: `golden.check_window` does that before an engine serves. Arrays are on the device and
contiguous; every launch goes to the stream that is named, and none waits.
"""

from typing import Any

from numba import cuda

from viscera.segment import kernels
from viscera.segment.kernels import MIXED, Array, Triple

_WIDTH, _HEIGHT = 32, 4
"""Threads of a block along x and y: a warp reads a row."""

_gather_voxel = cuda.jit(device=True, inline="always")(kernels.gather_voxel)
_blended_voxel = cuda.jit(device=True, inline="always")(kernels.blended_voxel)
_winner_voxel = cuda.jit(device=True, inline="always")(kernels.winner_voxel)
_agreed_voxel = cuda.jit(device=True, inline="always")(kernels.agreed_voxel)
_interpolated_winner_voxel = cuda.jit(device=True, inline="always")(
    kernels.interpolated_winner_voxel
)


def gather_thread(image: Array, origin: Triple, sign: Triple, tile: Array) -> None:
    """Fill one voxel of `tile` (channel, z, y, x), for every channel."""
    tx, ty, tz = cuda.grid(3)
    channels, depth, height, width = tile.shape
    if tz < depth and ty < height and tx < width:
        z, y, x = origin[0] + sign[0] * tz, origin[1] + sign[1] * ty, origin[2] + sign[2] * tx
        for channel in range(channels):
            tile[channel, tz, ty, tx] = _gather_voxel(image, channel, z, y, x)


def accumulate_thread(
    logits: Array,
    origin: Triple,
    sign: Triple,
    low: Triple,
    high: Triple,
    weight_z: Array,
    weight_y: Array,
    weight_x: Array,
    ring: Array,
) -> None:
    """Add every label's logit of one voxel between `low` and `high` to the ring."""
    ix, iy, iz = cuda.grid(3)
    z, y, x = low[0] + iz, low[1] + iy, low[2] + ix
    if z < high[0] and y < high[1] and x < high[2]:
        tz, ty, tx = sign[0] * (z - origin[0]), sign[1] * (y - origin[1]), sign[2] * (x - origin[2])
        labels, planes = ring.shape[:2]
        slot = z % planes
        wz, wy, wx = weight_z[iz], weight_y[iy], weight_x[ix]
        for label in range(labels):
            logit = logits[label, tz, ty, tx]
            ring[label, slot, y, x] = _blended_voxel(ring[label, slot, y, x], wz, wy, wx, logit)


def mark_above_thread(image: Array, low: Array, high: Array, value: Any, marked: Array) -> None:
    """Look through one plane of one box: a block each, until somebody has found something."""
    box = cuda.blockIdx.x
    z = low[box, 0] + cuda.blockIdx.y
    if z < high[box, 0]:
        for y in range(low[box, 1] + cuda.threadIdx.y, high[box, 1], cuda.blockDim.y):
            if marked[box] != 0:
                break
            for x in range(low[box, 2] + cuda.threadIdx.x, high[box, 2], cuda.blockDim.x):
                if image[0, z, y, x] > value:
                    marked[box] = 1


def clear_thread(ring: Array, first: int, count: int) -> None:
    """Empty one voxel of the `count` planes from `first`."""
    x, y, z = cuda.grid(3)
    labels, planes, height, width = ring.shape
    if z < count and y < height and x < width:
        for label in range(labels):
            ring[label, (first + z) % planes, y, x] = 0


def find_winners_thread(ring: Array, first: int, count: int, winners: Array, lost: Array) -> None:
    """Write the winner of one voxel; count it in ``lost[0]`` if it is not finite."""
    x, y, z = cuda.grid(3)
    planes, height, width = winners.shape
    if z < count and y < height and x < width:
        slot = (first + z) % planes
        label = _winner_voxel(ring, slot, y, x)
        if label < 0:
            cuda.atomic.add(lost, 0, 1)
        winners[slot, y, x] = label & 0xFF  # as the CPU's store wraps a -1


def restore_thread(
    ring: Array,
    winners: Array,
    z0: Array,
    z1: Array,
    wz: Array,
    y0: Array,
    y1: Array,
    wy: Array,
    x0: Array,
    x1: Array,
    wx: Array,
    labels: Array,
) -> None:
    """Fill one voxel of `labels`, as `kernels._restore` does."""
    x, y, z = cuda.grid(3)
    depth, height, width = labels.shape
    if z < depth and y < height and x < width:
        label = _agreed_voxel(winners, z0[z], z1[z], y0[y], y1[y], x0[x])
        if label == MIXED or _agreed_voxel(winners, z0[z], z1[z], y0[y], y1[y], x1[x]) != label:
            label = _interpolated_winner_voxel(
                ring, z0[z], z1[z], wz[z], y0[y], y1[y], wy[y], x0[x], x1[x], wx[x]
            )
        labels[z, y, x] = label


_gather: Any = cuda.jit(gather_thread)
_accumulate: Any = cuda.jit(accumulate_thread)
_mark_above: Any = cuda.jit(mark_above_thread)
_clear: Any = cuda.jit(clear_thread)
_find_winners: Any = cuda.jit(find_winners_thread)
_restore: Any = cuda.jit(restore_thread)


def gather(image: Any, origin: Triple, sign: Triple, tile: Any, stream: Any) -> None:
    """Fill `tile` (channel, z, y, x) from `image` (channel, z, y, x); see `tiles.Pass`."""
    _gather[(*_grid(tile.shape[1:]), stream)](image, origin, sign, tile)


def accumulate(
    logits: Any,
    origin: Triple,
    sign: Triple,
    low: Triple,
    high: Triple,
    weights: tuple[Any, Any, Any],
    ring: Any,
    stream: Any,
) -> None:
    """Add `logits` (label, z, y, x) to the ring's planes, as `kernels.accumulate`."""
    depth, height, width = (b - a for a, b in zip(low, high, strict=True))
    launch = _accumulate[(*_grid((depth, height, width)), stream)]
    launch(logits, origin, sign, low, high, *weights, ring)


def mark_above(
    image: Any, low: Any, high: Any, depth: int, value: Any, marked: Any, stream: Any
) -> None:
    """Set `marked` (n,), uint8, where a box of (1, z, y, x) holds a voxel above `value`.

    `low` and `high` are (n, 3), int64; no box has more than `depth` planes.
    """
    launch = _mark_above[(len(low), depth), (_WIDTH, _HEIGHT), stream]
    launch(image, low, high, value, marked)


def clear(ring: Any, first: int, count: int, stream: Any) -> None:
    """Empty `count` planes of the ring from `first`."""
    if count > 0:
        _clear[(*_grid((count, *ring.shape[2:])), stream)](ring, first, count)


def find_winners(ring: Any, first: int, count: int, winners: Any, lost: Any, stream: Any) -> None:
    """Write the winners of `count` planes from `first`; add how many are not finite to `lost`."""
    if count > 0:
        launch = _find_winners[(*_grid((count, *winners.shape[1:])), stream)]
        launch(ring, first, count, winners, lost)


def restore(ring: Any, winners: Any, tables: tuple[Any, ...], labels: Any, stream: Any) -> None:
    """Fill `labels` (z, y, x); `tables` are the nine arrays that `kernels.restore` takes."""
    _restore[(*_grid(labels.shape), stream)](ring, winners, *tables, labels)


def _grid(shape: tuple[int, int, int]) -> tuple[Triple, Triple]:
    """Return blocks and threads that cover (z, y, x)."""
    depth, height, width = shape
    return (-(-width // _WIDTH), -(-height // _HEIGHT), depth), (_WIDTH, _HEIGHT, 1)

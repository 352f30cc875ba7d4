"""The work of one voxel, and launchers that do it for all on CPU threads.

The functions named ``*_voxel`` are plain Python over scalars and arrays: Numba compiles them
here, and `cuda_kernels` has numba-cuda compile the very same ones. They stand in one file with the
launchers because Numba's cache asks only how old the launcher's file is. None calls another: what
a name in them means would depend on who compiles.

Importing this module compiles every launcher for the one signature that it is called with, or
reads it from the cache; `runtime.configure_numba` comes before that.
"""

from typing import Any, Literal

import numpy as np
from numba import boolean, float32, int64, njit, prange, types, uint8, void

Array = np.ndarray
Triple = tuple[int, int, int]

MIXED = 255
"""In place of a label: these corners differ. So a network may have 255 labels, 0 to 254."""


def gather_voxel(image: Array, channel: int, z: int, y: int, x: int) -> Any:
    """Return voxel (z, y, x) of the volume, or 0 outside: nnU-Net pads after normalisation."""
    _, depth, height, width = image.shape
    if z < 0 or z >= depth or y < 0 or y >= height or x < 0 or x >= width:
        return np.float32(0)
    return image[channel, z, y, x]


def blended_voxel(blend: Any, weight_z: Any, weight_y: Any, weight_x: Any, logit: Any) -> Any:
    """Return the weighted sum `blend` with one more tile's logit in it."""
    return blend + weight_z * weight_y * weight_x * logit


def winner_voxel(ring: Array, slot: int, y: int, x: int) -> int:
    """Return the label of the largest logit, the first of equals; -1 if one is not finite."""
    label = 0
    best = ring[0, slot, y, x]
    doubt = best - best  # 0, or NaN after an infinity or a NaN
    for k in range(1, ring.shape[0]):
        value = ring[k, slot, y, x]
        doubt += value - value
        if value > best:
            best = value
            label = k
    return label if doubt == 0 else -1


def agreed_voxel(winners: Array, z0: int, z1: int, y0: int, y1: int, x: int) -> Any:
    """Return the label that wins at (z0 and z1, y0 and y1, x), or `MIXED`."""
    label = winners[z0, y0, x]
    if winners[z0, y1, x] == label and winners[z1, y0, x] == label and winners[z1, y1, x] == label:
        return label
    return np.uint8(MIXED)


def interpolated_winner_voxel(
    ring: Array,
    z0: int,
    z1: int,
    wz: Any,
    y0: int,
    y1: int,
    wy: Any,
    x0: int,
    x1: int,
    wx: Any,
) -> Any:
    """Return the label of the largest logit between eight corners, the first of equals.

    `wz`, `wy`, `wx` are the way (0..1) from the corner ending in 0 to the one ending in 1.
    """
    label = 0
    best = np.float32(-np.inf)
    for k in range(ring.shape[0]):
        near, beside = ring[k, z0, y0, x0], ring[k, z0, y1, x0]
        near += wx * (ring[k, z0, y0, x1] - near)
        beside += wx * (ring[k, z0, y1, x1] - beside)
        near += wy * (beside - near)
        far, beside = ring[k, z1, y0, x0], ring[k, z1, y1, x0]
        far += wx * (ring[k, z1, y0, x1] - far)
        beside += wx * (ring[k, z1, y1, x1] - beside)
        far += wy * (beside - far)
        near += wz * (far - near)
        if near > best:
            best = near
            label = k
    return np.uint8(label)


def _holds_above_(image: Array, low: Array, high: Array, value: Any) -> bool:
    for z in range(low[0], high[0]):
        for y in range(low[1], high[1]):
            for x in range(low[2], high[2]):
                if image[0, z, y, x] > value:
                    return True
    return False


_holds_above = njit(_holds_above_)
_gather_voxel = njit(gather_voxel)
_blended_voxel = njit(blended_voxel)
_winner_voxel = njit(winner_voxel)
_agreed_voxel = njit(agreed_voxel)
_interpolated_winner_voxel = njit(interpolated_winner_voxel)


def _gather(image: Array, origin: Triple, sign: Triple, tile: Array) -> None:
    """Fill `tile` (channel, z, y, x) from `image` (channel, z, y, x); see `tiles.Pass`."""
    channels, depth, height, width = tile.shape
    for row in prange(channels * depth):
        channel, tz = row // depth, row % depth
        z = origin[0] + sign[0] * tz
        for ty in range(height):
            y = origin[1] + sign[1] * ty
            for tx in range(width):
                x = origin[2] + sign[2] * tx
                tile[channel, tz, ty, tx] = _gather_voxel(image, channel, z, y, x)


def _accumulate(
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
    """Add `logits` (label, z, y, x) to the ring's planes, where the volume goes.

    Volume voxels from `low` up to `high` are added to; the weights are theirs, from `low` on.
    """
    labels, planes = ring.shape[:2]
    depth = high[0] - low[0]
    for row in prange(labels * depth):
        label, z = row // depth, low[0] + row % depth
        slot, tz = z % planes, sign[0] * (z - origin[0])
        for y in range(low[1], high[1]):
            ty = sign[1] * (y - origin[1])
            wz, wy = weight_z[z - low[0]], weight_y[y - low[1]]
            for x in range(low[2], high[2]):
                tx = sign[2] * (x - origin[2])
                wx, logit = weight_x[x - low[2]], logits[label, tz, ty, tx]
                ring[label, slot, y, x] = _blended_voxel(ring[label, slot, y, x], wz, wy, wx, logit)


def _mark_above(image: Array, low: Array, high: Array, value: Any, marked: Array) -> None:
    """Mark the boxes of (1, z, y, x), from `low` up to `high`, with a voxel above `value`."""
    for box in prange(len(low)):
        marked[box] = _holds_above(image, low[box], high[box], value)


def _find_winners(ring: Array, first: int, count: int, winners: Array) -> int:
    """Write the winners of `count` planes from `first`; return how many are not finite."""
    planes, height, width = winners.shape
    lost = 0
    for row in prange(count * height):
        slot, y = (first + row // height) % planes, row % height
        for x in range(width):
            label = _winner_voxel(ring, slot, y, x)
            lost += label < 0
            winners[slot, y, x] = label
    return lost


def _restore(
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
    """Fill `labels` (z, y, x) on the target grid; `z0` and `z1` are the ring's slots.

    Where one label wins all eight corners it wins between them: its logit is nowhere the smaller
    one. Only the voxels between organs read logits.
    """
    depth, height, width = labels.shape
    for row in prange(depth * height):
        z, y = row // height, row % height
        agreed = np.empty(winners.shape[2], np.uint8)
        for column in range(agreed.size):
            agreed[column] = _agreed_voxel(winners, z0[z], z1[z], y0[y], y1[y], column)
        for x in range(width):
            label = agreed[x0[x]]
            if label == MIXED or agreed[x1[x]] != label:
                label = _interpolated_winner_voxel(
                    ring, z0[z], z1[z], wz[z], y0[y], y1[y], wy[y], x0[x], x1[x], wx[x]
                )
            labels[z, y, x] = label


def _read(dtype: Any, ndim: int, layout: Literal["A", "C"] = "C") -> Any:
    return types.Array(dtype, ndim, layout, readonly=True)


_TRIPLE: Any = types.Tuple((int64, int64, int64))  # type: ignore[no-untyped-call]  # numba's own
_INDEX, _WEIGHT = _read(int64, 1), _read(float32, 1)
_TABLE = (_INDEX, _INDEX, _WEIGHT)
_RING: Any = float32[:, :, :, ::1]
_PLANES: Any = uint8[:, :, ::1]

# A volume may come as a flipped or permuted view; all else is ours and contiguous.
_GATHER = void(_read(float32, 4, "A"), _TRIPLE, _TRIPLE, _RING)
_ACCUMULATE = void(_read(float32, 4), *[_TRIPLE] * 4, *[_WEIGHT] * 3, _RING)
_BOXES = _read(int64, 2)
_MARK_ABOVE = void(_read(float32, 4, "A"), _BOXES, _BOXES, float32, boolean[::1])
_FIND_WINNERS = int64(_RING, int64, int64, _PLANES)
_RESTORE = void(_RING, _PLANES, *_TABLE * 3, _PLANES)

gather: Any = njit(_GATHER, parallel=True, cache=True)(_gather)
accumulate: Any = njit(_ACCUMULATE, parallel=True, cache=True)(_accumulate)
mark_above: Any = njit(_MARK_ABOVE, parallel=True, cache=True)(_mark_above)
find_winners: Any = njit(_FIND_WINNERS, parallel=True, cache=True)(_find_winners)
restore: Any = njit(_RESTORE, parallel=True, cache=True)(_restore)

"""How much each tile counts for a voxel: nnU-Net's Gaussian, one vector an axis.

nnU-Net's importance map is the outer product of three 1-D Gaussians, and over a regular grid of
tiles the sum of the maps is the outer product of three 1-D sums. So the weights are normalised
per axis beforehand: no 3-D map, no count volume, no division of the logits at the end.
"""

import numpy as np

from viscera.segment.tiles import TileGrid

SIGMA_SHARE = 1 / 8


def gaussian(patch: int) -> np.ndarray:
    """Return the importance along one axis: (patch,), float64, all above 0.

    nnU-Net keeps its map in half precision, so it scales it by 10 and lifts zeros to the smallest
    other value. Here the scale would cancel, and nothing is zero: the border, four sigma out, is
    3e-4. Weights differ from nnU-Net's only towards the corners of the volume, where half precision
    has no digits left.

    References
    ----------
    nnU-Net 2.8.1 ``compute_gaussian``: sigma = patch / 8, centre at patch // 2.
    """
    distance = np.arange(patch) - patch // 2
    weights: np.ndarray = np.exp(-0.5 * np.square(distance / (patch * SIGMA_SHARE)))
    return weights


def axis_weights(starts: tuple[int, ...], size: int, patch: int) -> np.ndarray:
    """Return the weights of each tile position along one axis.

    Returns
    -------
    numpy.ndarray
        (tile position, patch), float32. Over all tiles that reach a voxel they sum to 1; outside
        the volume they are 0.
    """
    importance = gaussian(patch)
    voxels = np.asarray(starts)[:, None] + np.arange(patch)
    inside = (voxels >= 0) & (voxels < size)
    total = np.zeros(size)
    np.add.at(total, voxels[inside], np.broadcast_to(importance, voxels.shape)[inside])
    shares = np.where(inside, importance / total[voxels.clip(0, size - 1)], 0.0)
    return shares.astype(np.float32)


def tile_weights(tiles: TileGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return :func:`axis_weights` for (z, y, x)."""
    z, y, x = (
        axis_weights(starts, size, patch)
        for starts, size, patch in zip(tiles.starts, tiles.shape, tiles.patch, strict=True)
    )
    return z, y, x

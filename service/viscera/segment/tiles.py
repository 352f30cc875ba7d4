"""Where the network's window stands: nnU-Net's tiles, in z-major order."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from viscera.errors import ModelRefused


def axis_starts(size: int, patch: int, step: float) -> tuple[int, ...]:
    """Return where the tiles of one axis begin.

    Parameters
    ----------
    size
        Voxels of the volume along this axis.
    patch
        Voxels of the network's window along it.
    step
        Share of a patch from one tile to the next, at most; the last tile ends with the volume
        and the steps before it are spread evenly.

    Returns
    -------
    tuple
        Ascending first voxels. Where the volume is smaller than the patch: one start, negative
        or 0, which puts the volume at the patch's centre.

    References
    ----------
    nnU-Net 2.8.1 ``compute_steps_for_sliding_window`` and ``pad_nd_image``.
    """
    room = size - patch
    if room <= 0:
        return (-(-room // 2),)
    count = math.ceil(room / (patch * step)) + 1
    return tuple(round(i * room / (count - 1)) for i in range(count))


@dataclass(frozen=True, slots=True)
class Tile:
    """One place of the window."""

    start: tuple[int, int, int]
    """First voxel (z, y, x); negative where the volume is smaller than the patch."""
    row: tuple[int, int, int]
    """Which of the axis' starts this is, for (z, y, x)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileGrid:
    """All places of the window over one volume: a regular grid, so weights are separable."""

    shape: tuple[int, int, int]
    patch: tuple[int, int, int]
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @classmethod
    def cover(
        cls, shape: tuple[int, int, int], patch: tuple[int, int, int], step: float
    ) -> "TileGrid":
        """Lay tiles over every voxel of a volume.

        Raises
        ------
        ModelRefused
            If `patch` is empty or `step` is outside ]0, 1]: tiles would miss voxels.
        """
        if min(patch) < 1 or not 0 < step <= 1:
            raise ModelRefused(
                f"patch {patch} and step {step} do not cover a volume; the patch must be positive"
                " and the step above 0 and at most 1; correct the manifest"
            )
        z, y, x = (axis_starts(n, p, step) for n, p in zip(shape, patch, strict=True))
        return cls(shape=shape, patch=patch, starts=(z, y, x))

    @property
    def ring_planes(self) -> int:
        """How many planes of logits grow at a time, and one: see `ring`."""
        return min(self.shape[0], self.patch[0] + 1)

    @property
    def settling(self) -> tuple[int, ...]:
        """Where planes become final: where a row of tiles begins, and the volume's end."""
        return (*self.starts[0], self.shape[0])

    def __len__(self) -> int:
        return math.prod(map(len, self.starts))

    def __iter__(self) -> Iterator[Tile]:
        """Yield the tiles z-major, so that low planes are finished first."""
        for places in itertools.product(*map(enumerate, self.starts)):
            (k, z), (j, y), (i, x) = places
            yield Tile((z, y, x), (k, j, i))


@dataclass(frozen=True, slots=True)
class Pass:
    """One run of the network over one tile, mirrored or as it is.

    Voxel v of the volume is voxel ``sign * (v - origin)`` of the tile along each axis, so nothing
    is flipped in memory: a mirrored tile is read and added backwards.
    """

    tile: Tile
    origin: tuple[int, int, int]
    sign: tuple[int, int, int]


def passes(tiles: TileGrid, mirror_axes: tuple[int, ...]) -> Iterator[Pass]:
    """Yield every tile, once for each combination of mirrored axes.

    Raises
    ------
    ModelRefused
        If `mirror_axes` are not different axes out of 0, 1, 2 (z, y, x).
    """
    if len(set(mirror_axes)) != len(mirror_axes) or not set(mirror_axes) <= {0, 1, 2}:
        raise ModelRefused(
            f"mirror axes {mirror_axes} are not different ones of 0, 1, 2; correct the manifest"
        )
    z, y, x = ((1, -1) if axis in mirror_axes else (1,) for axis in range(3))
    signs = tuple(itertools.product(z, y, x))
    for tile in tiles:
        for sign in signs:
            a, b, c = (
                start if s > 0 else start + size - 1
                for start, size, s in zip(tile.start, tiles.patch, sign, strict=True)
            )
            yield Pass(tile, (a, b, c), sign)

"""The planes of logits that are still growing, and no others.

Tiles come z-major, so a plane is final once no later tile starts at or below it. The ring holds
as many planes as a tile is deep and one more, which interpolation between the last final plane
and the next needs. Its size depends on labels, patch depth and in-plane shape, not on how many
planes the volume has.
"""

from typing import Any, Protocol

import numpy as np

from viscera.errors import HostMemoryFull, ModelRefused
from viscera.segment import kernels
from viscera.segment.tiles import Pass, TileGrid
from viscera.segment.weights import tile_weights

Triple = tuple[int, int, int]


def footprint(
    tiles: TileGrid, weights: tuple[Any, Any, Any], one: Pass
) -> tuple[Triple, Triple, tuple[Any, Any, Any]]:
    """Return where in the volume a tile's logits go, and the weights of those voxels.

    Parameters
    ----------
    tiles, weights
        The grid and its `tile_weights`, on the host or on the device.
    one
        The tile.

    Returns
    -------
    tuple
        First voxel (z, y, x); the one after the last; per axis the weights between them.
    """
    low = tuple(max(start, 0) for start in one.tile.start)
    ends = zip(one.tile.start, tiles.patch, tiles.shape, strict=True)
    high = tuple(min(start + patch, size) for start, patch, size in ends)
    z, y, x = (
        shares[row, a - start : b - start]
        for shares, row, start, a, b in zip(
            weights, one.tile.row, one.tile.start, low, high, strict=True
        )
    )
    return (low[0], low[1], low[2]), (high[0], high[1], high[2]), (z, y, x)


class Planes(Protocol):
    """A ring, on the host or on the device."""

    final: int
    """Planes below this one do not change any more."""

    @property
    def steps(self) -> tuple[int, ...]:
        """Where planes may become final: where tiles begin, ascending, and the volume's end."""

    def finish(self, until: int) -> None:
        """Declare the planes below `until`, one of the next of `steps`, final."""


class Writer(Protocol):
    """Writes what lies between final planes."""

    def write(self) -> None:
        """Write it."""


def settle(ring: Planes, restorer: Writer, until: int) -> None:
    """Finish and write all planes below `until`, one row of tiles after the other.

    Rows may have been left out as air, and the ring holds no more than a tile's depth.
    """
    for step in ring.steps:
        if ring.final < step <= until:
            ring.finish(step)
            restorer.write()


class Ring:
    """Blended logits of a moving range of planes, on the model's grid.

    Parameters
    ----------
    tiles
        The places that will be added, z-major.
    labels
        Labels of the network, background included.

    Raises
    ------
    HostMemoryFull
        If the planes do not fit into memory.
    """

    def __init__(self, tiles: TileGrid, labels: int) -> None:
        _, height, width = tiles.shape
        self.planes = tiles.ring_planes
        self.final = 0
        self.steps = tiles.settling
        self._entered = self.planes
        self._tiles = tiles
        self._weights = tile_weights(tiles)
        shape = (labels, self.planes, height, width)
        try:
            self.sums = np.zeros(shape, np.float32)
            """(label, slot, y, x); plane z is at slot ``z % planes``."""
            self.winners = np.zeros(shape[1:], np.uint8)
            """(slot, y, x): the winning label of each final plane."""
        except MemoryError as error:
            raise HostMemoryFull(
                f"a ring of {labels} labels x {shape[1:]} voxels needs"
                f" {4 * np.prod(shape, dtype=float) / 2**20:.0f} MiB more than there is;"
                " free memory or use a model with a smaller patch"
            ) from error

    def add(self, logits: np.ndarray, one: Pass) -> None:
        """Blend one answer of the network in.

        Mirrored answers of one tile are summed where nnU-Net takes their mean: every voxel has
        the same number of them, and the winner is the same.

        Parameters
        ----------
        logits
            (label, z, y, x), float32, as the network saw the tile: mirrored where `one` is.
        one
            Where it lies. Its planes are not final.
        """
        low, high, weights = footprint(self._tiles, self._weights, one)
        self._clear_up_to(high[0])
        kernels.accumulate(
            np.ascontiguousarray(logits), one.origin, one.sign, low, high, *weights, self.sums
        )

    def finish(self, until: int) -> None:
        """Declare the planes below `until` final and find their winners; see `settle`.

        Raises
        ------
        ModelRefused
            If a logit is NaN or infinite: the network's arithmetic broke down on this input.
        """
        self._clear_up_to(until)  # no tile may have reached them
        lost = kernels.find_winners(self.sums, self.final, until - self.final, self.winners)
        if lost:
            raise ModelRefused(
                f"the network answered NaN or infinity at {lost} voxels; finite logits were"
                " expected: run `viscera model check` and use another engine or precision"
            )
        self.final = until

    def _clear_up_to(self, plane: int) -> None:
        """Empty the slots of planes that enter the ring; the first round is empty already."""
        for entering in range(self._entered, plane):
            self.sums[:, entering % self.planes] = 0
        self._entered = max(self._entered, plane)

"""Final planes go back to the source grid at once: interpolate and take the winner, fused."""

import numpy as np

from viscera.segment import kernels
from viscera.segment.ring import Ring
from viscera.segment.tables import SLAB, AxisTable


class Restorer:
    """Writes the label map, slice by slice, as the ring's planes become final.

    Parameters
    ----------
    ring
        Blended logits on the model's grid.
    tables
        For (z, y, x): from the model's grid to that of `labels_out`.
    labels_out
        (z, y, x), uint8; any view.
    outputs
        What each of the network's outputs becomes; empty: itself.
    """

    def __init__(
        self,
        ring: Ring,
        tables: tuple[AxisTable, AxisTable, AxisTable],
        labels_out: np.ndarray,
        outputs: tuple[int, ...] = (),
    ) -> None:
        self._ring = ring
        self._z, self._y, self._x = tables
        self._out = labels_out
        self._written = 0
        self._values = np.array(outputs, np.uint8)
        # Kernels write contiguous memory; numpy's copy into a flipped or permuted view is cheap.
        self._buffer = np.empty((min(SLAB, len(labels_out)), *labels_out.shape[1:]), np.uint8)

    def write(self) -> None:
        """Write every slice that lies between final planes and is not written yet."""
        ready = int(np.searchsorted(self._z.upper, self._ring.final))
        while self._written < ready:
            end = min(ready, self._written + SLAB)
            self._write_slab(slice(self._written, end))
            self._written = end

    def _write_slab(self, slices: slice) -> None:
        buffer = self._buffer[: slices.stop - slices.start]
        kernels.restore(
            self._ring.sums,
            self._ring.winners,
            self._z.lower[slices] % self._ring.planes,
            self._z.upper[slices] % self._ring.planes,
            self._z.weight[slices],
            *(self._y.lower, self._y.upper, self._y.weight),
            *(self._x.lower, self._x.upper, self._x.weight),
            buffer,
        )
        self._out[slices] = self._values[buffer] if self._values.size else buffer

"""What a network is to the rest: a batch of tiles in, a batch of logits out."""

from typing import Protocol

from viscera.domain.arrays import Logits, Tiles


class Engine(Protocol):
    """One loaded network. Not thread-safe: one engine, one job at a time."""

    @property
    def name(self) -> str:
        """Constant word for logs, metrics and results, e.g. ``onnx-cpu``."""

    @property
    def tile_batch(self) -> int:
        """How many tiles one call takes at most."""

    def infer(self, tiles: Tiles) -> Logits:
        """Return the logits of `tiles`: (tile, label, z, y, x), float32, background first.

        The returned array is valid until the next call.
        """

    def close(self) -> None:
        """Free what it holds. Idempotent."""

"""Tiles of a volume to an engine, batch by batch, and its answers back one by one."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from viscera.domain.arrays import ModelImage
from viscera.domain.models import Model
from viscera.errors import ModelRefused
from viscera.segment import kernels
from viscera.segment.engine import Engine
from viscera.segment.tiles import Pass


def answers(
    image: ModelImage, model: Model, engine: Engine, runs: Sequence[Pass]
) -> Iterator[tuple[Pass, np.ndarray]]:
    """Run the network for each of `runs`, in order.

    Where a tile reaches beyond the volume it sees 0; no padded copy of the volume is made.

    Yields
    ------
    tuple
        The pass and its logits (label, z, y, x), float32, valid until the next one is asked for.

    Raises
    ------
    ModelRefused
        If the engine answers in another shape than the manifest promises.
    """
    size = max(1, min(engine.tile_batch, len(runs)))
    tiles = np.empty((size, len(image), *model.patch_size), np.float32)
    remaining = iter(runs)
    while batch := tuple(itertools.islice(remaining, size)):
        for one, tile in zip(batch, tiles, strict=False):
            kernels.gather(image, one.origin, one.sign, tile)
        logits = engine.infer(tiles[: len(batch)])
        expected = (len(batch), model.output_count, *model.patch_size)
        if logits.shape != expected or logits.dtype != np.float32:
            raise ModelRefused(
                f"{engine.name} answered {logits.dtype} {logits.shape}, the manifest of"
                f" {model.full_name} promises float32 {expected}; build the package anew"
            )
        yield from zip(batch, logits, strict=True)

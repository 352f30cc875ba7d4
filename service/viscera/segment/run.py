"""One volume through one network: tiles out, logits in, the label map back on the source grid."""

from collections.abc import Callable
from functools import partial

import numpy as np

from viscera.domain.arrays import Labels, ModelImage
from viscera.domain.models import Model
from viscera.errors import GeometryMismatch, ModelRefused
from viscera.segment import tables
from viscera.segment.air import without_air
from viscera.segment.engine import DeviceEngine, Engine
from viscera.segment.tiles import TileGrid, passes

MAX_LABELS = 255
"""With background. The label map is uint8, and the kernels need one value for themselves."""


def segment(
    image: ModelImage,
    model: Model,
    engine: Engine,
    labels_out: Labels,
    progress: Callable[[float], None],
    orders: tuple[int, int, int] | None = None,
) -> None:
    """Fill `labels_out` with the winning label of every voxel.

    Parameters
    ----------
    image
        (channel, z, y, x), float32, normalised, on the model's axes and grid. Any view.
    model
        Its patch, step, mirror axes, labels and order of logits count here.
    engine
        The loaded network.
    labels_out
        (z, y, x), uint8, in the model's axes with the source grid's shape. Any writable view:
        flipped, permuted. Both grids span the same box; equal shapes are the same grid.
    progress
        Called with the share done, 0..1, after each tile. What it raises ends the run.
    orders
        How logits are interpolated along (z, y, x): 0 nearest, 1 linear; None: the model's
        `logits_order` everywhere.

    Raises
    ------
    GeometryMismatch
        If `image` or `labels_out` are not such arrays.
    ModelRefused
        If the manifest makes no sense, or the engine's answer has another shape or is not finite.
    HostMemoryFull
        If the ring of planes does not fit.
    """
    # These compile kernels on import, and Numba is configured before that: see `runtime`.
    from viscera.segment.feed import answers
    from viscera.segment.restore import Restorer
    from viscera.segment.ring import Ring, settle

    _check(image, labels_out, model)
    tiles = TileGrid.cover(_shape(image[0]), model.patch_size, model.step)
    every = tuple(passes(tiles, model.mirror_axes))
    z, y, x = (
        tables.for_order(order, source, target)
        for order, source, target in zip(
            orders or (model.logits_order,) * 3, tiles.shape, labels_out.shape, strict=True
        )
    )
    if isinstance(engine, DeviceEngine):
        from viscera.segment.device import segment_on_device  # numba-cuda is an extra

        segment_on_device(image, model, engine, every, tiles, (z, y, x), labels_out, progress)
        return
    ring = Ring(tiles, model.output_count)
    restorer = Restorer(ring, (z, y, x), labels_out, model.outputs)
    runs = without_air(every, tiles, model, partial(_mark, image))

    for done, (one, logits) in enumerate(answers(image, model, engine, runs)):
        settle(ring, restorer, one.tile.start[0])
        ring.add(logits, one)
        progress(done / len(runs))
    settle(ring, restorer, tiles.shape[0])
    progress(1.0)


def _mark(image: ModelImage, low: np.ndarray, high: np.ndarray, above: float) -> np.ndarray:
    from viscera.segment import kernels

    marked = np.empty(len(low), np.bool_)
    kernels.mark_above(image, low, high, np.float32(above), marked)
    return marked


def _check(image: np.ndarray, labels_out: np.ndarray, model: Model) -> None:
    if image.ndim != 4 or len(image) != len(model.channels) or image.dtype != np.float32:
        raise GeometryMismatch(
            f"{model.full_name} takes float32 (channel, z, y, x) with {len(model.channels)}"
            f" channels, not {image.dtype} {image.shape}; prepare the volume for this model"
        )
    if labels_out.ndim != 3 or labels_out.dtype != np.uint8 or not labels_out.flags.writeable:
        raise GeometryMismatch(
            f"labels go into writable uint8 (z, y, x), not {labels_out.dtype} {labels_out.shape}"
        )
    if 0 in image.shape or 0 in labels_out.shape:
        raise GeometryMismatch(f"no voxels in {image.shape} or {labels_out.shape}")
    if model.output_count > MAX_LABELS:
        raise ModelRefused(
            f"{model.full_name} has {model.output_count - 1} labels; at most {MAX_LABELS - 1} fit"
        )


def _shape(volume: np.ndarray) -> tuple[int, int, int]:
    z, y, x = volume.shape
    return z, y, x

"""Tiles that show nothing but air: no network needs to see them.

A tile that is left out contributes nothing, and a voxel that no tile reached is background.
"""

from collections.abc import Callable, Sequence

import numpy as np

from viscera.domain.models import Model, NormalisationScheme
from viscera.segment.tiles import Pass, TileGrid

AIR_HU = -500.0
"""Between air with its noise and everything denser: a tile of lung, some centimetres wide, has
vessels above it."""
_ROUNDING_HU = 1.0

Corners = np.ndarray
Marker = Callable[[Corners, Corners, float], np.ndarray]
"""Which boxes hold a voxel above a value: (n, 3) first voxels (z, y, x), (n, 3) ends, the value;
(n,) bool."""


def without_air(
    runs: Sequence[Pass], tiles: TileGrid, model: Model, mark: Marker
) -> tuple[Pass, ...]:
    """Return the passes that may find something, in order; all where the model wants all.

    Parameters
    ----------
    mark
        Looks at the image, wherever it lies.
    """
    above = _air_of(model) if model.skip_air else None
    if above is None or not runs:
        return tuple(runs)
    starts = np.array(list(dict.fromkeys(one.tile.start for one in runs)), np.int64)
    low = np.maximum(starts, 0)
    high = np.minimum(starts + np.array(tiles.patch), tiles.shape)
    marked = mark(low, high, above)
    shown = {tuple(start) for start in starts[np.flatnonzero(marked)].tolist()}
    return tuple(one for one in runs if one.tile.start in shown)


def _air_of(model: Model) -> float | None:
    """Return what `AIR_HU` is in the network's input, or None where that is not to be known.

    Only CT has such a value, and only a scheme with fixed numbers keeps it. Where the network's
    first output is an organ, a voxel without logits would be that.
    """
    if model.modalities != ("CT",) or len(model.channels) != 1 or (model.outputs or (0,))[0] != 0:
        return None
    (how,) = model.normalisation["CT"]
    if how.scheme is not NormalisationScheme.CT:
        return None
    return (float(np.clip(AIR_HU, how.lower, how.upper)) + _ROUNDING_HU - how.mean) / how.sd

"""A raw label map becomes a plausible one, as far as the model's manifest asks for it.

In: the label map that `segment` made, the volume, the model with its `postprocess` policy. Out:
the same array with implausible pieces set to background, and a `Removal` for each organ that lost
voxels, so that nothing goes unseen. No label is ever changed into another one. Fails:
`GeometryMismatch` where label map and volume have different shapes.

Numba is imported late, by `warm_up` or the first call; `segment.configure_numba` comes before.
"""

from viscera.postprocess.run import postprocess, warm_up

__all__ = ["postprocess", "warm_up"]

"""Tiles, weights, kernels, engines: a volume's label map.

In: a `Volume` (int16 or float32 on the source grid), a `Model`, an `Engine`.
Out: the label map on the same grid, uint8.
Fails: `ModelRefused` (golden tile, shapes), `HostMemoryFull`.
"""

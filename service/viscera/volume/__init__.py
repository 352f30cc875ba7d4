"""Pixels to intensities on a grid, and on to the network's input; label maps to files.

In: a `Stack` of DICOM frames, or a NIfTI, NRRD or MHA file; a `Model`.
Out: a `Volume` (int16 or float32 on the source grid), a `ModelImage` on the model's grid.
Fails: `UndecodablePixels`, `DatasetMismatch` (the file is not the instance that was stacked),
`NoModelForSeries` (the model has no normalisation for this modality), `HostMemoryFull`.

The decoding children import this package too, so numba and SimpleITK are imported where they
are used: each would cost every child its start-up time and address space.
"""

from viscera.domain.geometry import to_axes
from viscera.volume.files import read_volume, write_labels
from viscera.volume.first import first_grid, labels_back, resample_first
from viscera.volume.load import load_volume
from viscera.volume.pool import DecodePool
from viscera.volume.prepare import input_shape, prepare, prepared_alike, warm_up
from viscera.volume.proof import proven_syntaxes
from viscera.volume.sampling import target_shape

__all__ = [
    "DecodePool",
    "first_grid",
    "input_shape",
    "labels_back",
    "load_volume",
    "prepare",
    "prepared_alike",
    "proven_syntaxes",
    "read_volume",
    "resample_first",
    "target_shape",
    "to_axes",
    "warm_up",
    "write_labels",
]

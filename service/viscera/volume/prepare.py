"""A volume to the network's input: the model's axes, grid and intensities.

One kernel clips, interpolates and scales straight from the source's int16, so the input is the
only float32 volume there ever is.
"""

import math
from dataclasses import dataclass

import numpy as np

from viscera.domain.arrays import ModelImage
from viscera.domain.geometry import axes_transform, to_axes
from viscera.domain.models import Model, Normalisation, NormalisationScheme, Order
from viscera.domain.volumes import Volume
from viscera.errors import HostMemoryFull, ModelRefused, NoModelForSeries
from viscera.volume.sampling import axis_table, target_shape

_MIN_SD = 1e-8
"""nnU-Net's floor, for a volume of one single intensity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Clip to [lower, upper], subtract `mean`, divide by `sd`: what every scheme comes to."""

    lower: float = -math.inf
    upper: float = math.inf
    mean: float = 0.0
    sd: float = 1.0


def prepare(volume: Volume, model: Model) -> ModelImage:
    """Normalise and resample `volume` for `model`.

    Returns
    -------
    numpy.ndarray
        (1, z, y, x), float32, on the model's axes. Its shape is nnU-Net's
        ``round(shape * spacing / target)``, the source's own where the model has no spacing.

    Raises
    ------
    NoModelForSeries
        If the model has no normalisation for the volume's modality.
    ModelRefused
        If its image order is one that we cannot compute.
    HostMemoryFull
        If the input does not fit.

    References
    ----------
    nnU-Net 2.8.1, ``default_preprocessor``: normalise on the native grid, then resample.
    """
    if model.image_order not in (0, 1):
        raise ModelRefused(f"{model.full_name}: image_order {model.image_order}, expected 0 or 1")
    normalisation = _normalisation(volume, model)
    source = to_axes(volume.voxels, volume.geometry.axes, model.axes)
    permutation, _ = axes_transform(volume.geometry.axes, model.axes)
    spacing_mm = tuple(volume.geometry.spacing_mm[k] for k in permutation)
    shape = target_shape(source.shape, spacing_mm, model.spacing_mm)
    try:
        image = np.empty((1, *shape), np.float32)
    except MemoryError as error:
        raise HostMemoryFull(f"no room for an input of {shape} voxels") from error
    if model.order is Order.NORMALISE_FIRST:
        _resample(source, image[0], model.image_order, scaling_of(normalisation, source))
    else:
        _resample(source, image[0], model.image_order, Scaling())
        _scale(image[0], scaling_of(normalisation, image[0]))
    return image


def scaling_of(normalisation: Normalisation, voxels: np.ndarray) -> Scaling:
    """Return what `normalisation` means for `voxels`, whose statistics z-scoring needs."""
    match normalisation.scheme:
        case NormalisationScheme.NONE:
            return Scaling()
        case NormalisationScheme.CT:
            return Scaling(
                lower=normalisation.lower,
                upper=normalisation.upper,
                mean=normalisation.mean,
                sd=max(normalisation.sd, _MIN_SD),
            )
        case NormalisationScheme.RESCALE_01:
            return Scaling(
                lower=normalisation.lower,
                upper=normalisation.upper,
                mean=normalisation.lower,
                sd=normalisation.upper - normalisation.lower,
            )
        case NormalisationScheme.ZSCORE:
            mean, sd = _mean_sd(voxels)
            return Scaling(mean=mean, sd=max(sd, _MIN_SD))


def warm_up() -> None:
    """Compile the kernel now, so that no job waits for it. Numba is configured before."""
    from viscera.volume import kernels  # noqa: F401 - importing compiles


def _normalisation(volume: Volume, model: Model) -> Normalisation:
    if volume.modality not in model.normalisation:
        raise NoModelForSeries(
            f"{model.full_name} has no normalisation for {volume.modality}, "
            f"only for {', '.join(model.normalisation)}; choose another model"
        )
    return model.normalisation[volume.modality]


def _mean_sd(voxels: np.ndarray) -> tuple[float, float]:
    """Return mean and population SD in float64, a plane at a time."""
    count = voxels.size
    mean = sum(float(plane.sum(dtype=np.float64)) for plane in voxels) / count
    squares = sum(float(np.square(plane - mean, dtype=np.float64).sum()) for plane in voxels)
    return mean, math.sqrt(squares / count)


def _resample(source: np.ndarray, out: np.ndarray, order: int, scaling: Scaling) -> None:
    from viscera.volume import kernels

    tables = [axis_table(n, m, order) for n, m in zip(source.shape, out.shape, strict=True)]
    columns = [(t.low, t.high, t.weight) for t in tables]
    numbers = (scaling.lower, scaling.upper, scaling.mean, scaling.sd)
    kernels.resample(source, *columns, *map(np.float32, numbers), out)


def _scale(voxels: np.ndarray, scaling: Scaling) -> None:
    np.clip(voxels, scaling.lower, scaling.upper, out=voxels)
    voxels -= np.float32(scaling.mean)
    voxels /= np.float32(scaling.sd)

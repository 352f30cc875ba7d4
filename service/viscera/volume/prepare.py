"""A volume to the network's input: the model's axes, grid and intensities.

Kernels clip, interpolate and scale straight from the source's int16: for linear input the result
is the only float32 volume there ever is.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from viscera.domain.arrays import Mask
from viscera.domain.geometry import Geometry, axes_transform, to_axes
from viscera.domain.models import Crop, Model, Normalisation, Order
from viscera.domain.volumes import Box, ModelInput, Volume
from viscera.errors import GeometryMismatch, HostMemoryFull, ModelRefused, NoModelForSeries
from viscera.volume.nonzero import nonzero_box, nonzero_mask
from viscera.volume.normalise import scaling_of
from viscera.volume.sampling import Scaling, axis_orders, axis_table, target_shape
from viscera.volume.spline import resample_cubic


def prepare(volumes: Volume | Sequence[Volume], model: Model, stream: Any = None) -> ModelInput:
    """Crop, normalise and resample `volumes` for `model`.

    Parameters
    ----------
    volumes
        One for each of the model's channels, on one grid.
    model
        Its axes, crop, normalisation, spacing and resampling rules count here.
    stream
        numba-cuda's, of an engine that works on the GPU: the image is made there and stays
        there. None: on the host.

    Returns
    -------
    ModelInput
        Its image has nnU-Net's shape ``round(shape * spacing / target)`` of what was left by the
        crop, the source's own where the model has no spacing.

    Raises
    ------
    NoModelForSeries
        If the model has no normalisation for the modality, or other channels.
    GeometryMismatch
        If the channels do not share one grid.
    ModelRefused
        If its image order is one that we cannot compute.
    HostMemoryFull
        If the input does not fit.

    References
    ----------
    nnU-Net 2.8.1, ``default_preprocessor``: crop, normalise on the native grid, then resample.
    """
    channels = (volumes,) if isinstance(volumes, Volume) else tuple(volumes)
    if model.image_order not in (0, 1, 3):
        raise ModelRefused(
            f"{model.full_name}: image_order {model.image_order}, expected 0, 1 or 3"
        )
    normalisation = _normalisation(channels, model)
    geometry = channels[0].geometry
    sources = [to_axes(one.voxels, geometry.axes, model.axes) for one in channels]
    box = nonzero_box(sources) if model.crop is Crop.NONZERO else _whole(sources[0])
    sources = [source[box] for source in sources]
    permutation, _ = axes_transform(geometry.axes, model.axes)
    spacing_mm = tuple(geometry.spacing_mm[k] for k in permutation)
    shape = target_shape(sources[0].shape, spacing_mm, model.spacing_mm)
    orders = axis_orders(model.image_order, model.image_separate, spacing_mm, model.spacing_mm)
    back = axis_orders(
        model.logits_order, model.logits_separate, model.spacing_mm or spacing_mm, spacing_mm
    )
    try:
        image = _image(sources, shape, orders, normalisation, model.order, stream)
    except MemoryError as error:
        raise HostMemoryFull(f"no room for an input of {shape} voxels") from error
    return ModelInput(image=image, box=box, restore_orders=back)


def input_shape(
    geometry: Geometry, model: Model
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return (z, y, x) of the model's input and of the source, before any crop."""
    permutation, _ = axes_transform(geometry.axes, model.axes)
    z, y, x = (geometry.shape[k] for k in permutation)
    spacing_mm = tuple(geometry.spacing_mm[k] for k in permutation)
    return target_shape((z, y, x), spacing_mm, model.spacing_mm), (z, y, x)


def prepared_alike(one: Model, other: Model) -> bool:
    """Whether `prepare` gives both networks the same: parts of a package often share it."""
    return _rules(one) == _rules(other)


def _rules(model: Model) -> tuple[object, ...]:
    return (
        *(model.channels, model.axes, model.spacing_mm, model.crop, model.order),
        *(model.normalisation, model.image_order, model.image_separate),
        *(model.logits_order, model.logits_separate),
    )


def warm_up(model: Model | None = None, stream: Any = None) -> None:
    """Compile the kernels now, so that no job waits for them. Numba is configured before.

    Parameters
    ----------
    model
        What will be served; cubic resampling is compiled only for a model that asks for it.
    stream
        As `prepare` takes it: kernels are compiled for its GPU.
    """
    from viscera.volume import kernels  # noqa: F401 - importing compiles

    orders = (model.image_order, model.first.order if model.first else 0) if model else ()
    if 3 in orders:
        from viscera.volume import spline_kernels  # noqa: F401
    if model is not None and stream is not None:
        from viscera.volume.device import compile_kernels  # numba-cuda is an extra

        compile_kernels(model, stream)


def _normalisation(channels: Sequence[Volume], model: Model) -> tuple[Normalisation, ...]:
    """Return one a channel, once the channels are what the model takes."""
    if len(channels) != len(model.channels):
        raise NoModelForSeries(
            f"{model.full_name} takes {len(model.channels)} channels"
            f" ({', '.join(model.channels)}), {len(channels)} came; give one series for each"
        )
    modality = channels[0].modality
    for one in channels[1:]:
        if one.modality != modality or not one.geometry.same_grid(channels[0].geometry):
            raise GeometryMismatch(
                f"the channels of {model.full_name} must share one grid and modality; resample"
                " them onto the first one's"
            )
    if modality not in model.normalisation:
        raise NoModelForSeries(
            f"{model.full_name} has no normalisation for {modality}, "
            f"only for {', '.join(model.normalisation)}; choose another model"
        )
    return model.normalisation[modality]


def _whole(array: np.ndarray) -> Box:
    z, y, x = (slice(0, n) for n in array.shape)
    return z, y, x


def _image(
    sources: Sequence[np.ndarray],
    shape: tuple[int, int, int],
    orders: tuple[int, int, int],
    normalisation: Sequence[Normalisation],
    order: Order,
    stream: Any,
) -> Any:
    """Return (channel, z, y, x), float32: on the device where there is a stream."""
    mask = nonzero_mask(sources) if any(one.masked for one in normalisation) else None
    if stream is not None:
        from viscera.volume.device import image_on_device  # numba-cuda is an extra

        return image_on_device(sources, shape, orders, normalisation, order, mask, stream)
    image = np.empty((len(sources), *shape), np.float32)
    for source, out, one in zip(sources, image, normalisation, strict=True):
        _fill(out, source, one, mask, orders, order)
    return image


def _fill(
    out: np.ndarray,
    source: np.ndarray,
    normalisation: Normalisation,
    mask: Mask | None,
    orders: tuple[int, int, int],
    order: Order,
) -> None:
    """Write one channel."""
    if order is Order.RESAMPLE_FIRST:
        _resample(source, out, orders, Scaling())
        _scale(out, scaling_of(normalisation, out))
    elif normalisation.masked and mask is not None:
        scaling = scaling_of(normalisation, source, mask)
        scaled = np.where(mask, scaling.apply(source), np.float32(0))
        _resample(scaled, out, orders, Scaling())
    else:
        _resample(source, out, orders, scaling_of(normalisation, source))


def _resample(
    source: np.ndarray, out: np.ndarray, orders: tuple[int, int, int], scaling: Scaling
) -> None:
    if 3 in orders:
        resample_cubic(source, out, orders, scaling)
        return
    from viscera.volume import kernels

    tables = [axis_table(n, m, k) for n, m, k in zip(source.shape, out.shape, orders, strict=True)]
    columns = [(t.low, t.high, t.weight) for t in tables]
    numbers = (scaling.lower, scaling.upper, scaling.mean, scaling.sd)
    kernels.resample(source, *columns, *map(np.float32, numbers), out)


def _scale(voxels: np.ndarray, scaling: Scaling) -> None:
    np.clip(voxels, scaling.lower, scaling.upper, out=voxels)
    voxels -= np.float32(scaling.mean)
    voxels /= np.float32(scaling.sd)

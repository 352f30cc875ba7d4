"""The network's input, made on the GPU: the source goes up as int16, once, and stays there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cuda

from viscera.domain.arrays import Mask
from viscera.domain.models import Model, Normalisation, Order
from viscera.volume import cuda_kernels
from viscera.volume.normalise import is_measured, scaling_of
from viscera.volume.sampling import Scaling, axis_table
from viscera.volume.spline import axis_apart, spline_axes, spline_taps
from viscera.volume.upload import upload

_NO_LIMITS = (np.array([-np.inf], np.float32), np.array([np.inf], np.float32))


def image_on_device(
    sources: Sequence[np.ndarray],
    shape: tuple[int, int, int],
    orders: tuple[int, int, int],
    normalisation: Sequence[Normalisation],
    order: Order,
    mask: Mask | None,
    stream: Any,
) -> Any:
    """Return the image (channel, z, y, x), float32, on the device.

    Parameters
    ----------
    sources
        One (z, y, x) a channel, int16 or float32, any strides.
    shape, orders
        Of the image, and of interpolation along each axis: 0, 1 or 3.
    normalisation, order
        One a channel, and whether it comes before or after resampling.
    mask
        (z, y, x), bool, any strides: where masked schemes count.
    stream
        What is launched goes there. Waited for are the upload, and what is measured.
    """
    image = cuda.device_array((len(sources), *shape), np.float32)
    for channel, (source, one) in enumerate(zip(sources, normalisation, strict=True)):
        within = mask if one.masked else None
        if order is Order.RESAMPLE_FIRST:
            _fill(image[channel], source, orders, Scaling(), within, stream)
            _scale(image[channel], one, stream)
        else:
            scaling = scaling_of(one, source, within)
            _fill(image[channel], source, orders, scaling, within, stream)
    return image


def compile_kernels(model: Model, stream: Any) -> None:
    """Make an image of nothing, by each rule of `model`."""
    order, separate = model.image_order, model.image_separate
    nothing = [np.zeros((2, 2, 2), np.int16)] * len(model.channels)
    mask = np.ones((2, 2, 2), np.bool_)
    for normalisation in model.normalisation.values():
        for first in {order, separate.order if separate else order}:
            orders = (first, order, order)
            image_on_device(nothing, (3, 3, 3), orders, normalisation, model.order, mask, stream)
    stream.synchronize()


def _fill(
    out: Any,
    source: np.ndarray,
    orders: tuple[int, int, int],
    scaling: Scaling,
    mask: Mask | None,
    stream: Any,
) -> None:
    """Write one channel. It goes up without its flips, and is read backwards instead.

    A flipped view would be slow to copy, and most series are flipped.
    """
    flips = tuple(stride < 0 for stride in source.strides)
    steps = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
    raised = upload(source[steps], stream)
    if mask is not None:
        within, bare = upload(mask[steps].view(np.uint8), stream), raised
        raised = cuda.device_array(bare.shape, np.float32)
        cuda_kernels.scale_within(bare, within, _numbers(scaling), raised, stream)
        scaling = Scaling()
    _Resampling(orders, flips, stream).fill(out, raised, scaling)


def _scale(out: Any, normalisation: Normalisation, stream: Any) -> None:
    """Normalise in place what was resampled; what must be measured is measured on the host."""
    measured = np.empty(0, np.float32)
    if is_measured(normalisation):
        measured = out.copy_to_host(stream=stream)
        stream.synchronize()
    cuda_kernels.scale(out, _numbers(scaling_of(normalisation, measured)), stream)


@dataclass(frozen=True, slots=True)
class _Resampling:
    """From one grid to another over the same box, as `prepare` and `spline` do on the host."""

    orders: tuple[int, int, int]
    flips: tuple[bool, ...]
    """Axes along which the source lies backwards."""
    stream: Any

    def fill(self, out: Any, source: Any, scaling: Scaling) -> None:
        """Fill `out` (z, y, x) with `source`, scaled; both on the device."""
        splines = spline_axes(source.shape, out.shape, self.orders)
        others = any(
            self.flips[k] or source.shape[k] != out.shape[k] for k in range(3) if k not in splines
        )
        limits = self._limits(source, scaling) if splines else _NO_LIMITS
        current = source
        for axis in splines:
            is_last = axis == splines[-1]
            shape = list(current.shape)
            shape[axis] = out.shape[axis]
            target = out if is_last and not others else cuda.device_array(shape, np.float32)
            self._spline(current, axis, scaling, limits if is_last else _NO_LIMITS, target)
            current, scaling = target, Scaling()
        if others or not splines:
            self._linear(current, splines, scaling, out)

    def _spline(
        self,
        source: Any,
        axis: int,
        scaling: Scaling,
        limits: tuple[np.ndarray, np.ndarray],
        out: Any,
    ) -> None:
        first, weights = spline_taps(source.shape[axis], out.shape[axis])
        if self.flips[axis]:
            first = source.shape[axis] - weights.shape[1] - first
            weights = weights[:, ::-1]
        apart = axis_apart(self.orders) if len(limits[0]) > 1 else None
        cuda_kernels.spline(
            source,
            axis,
            (self._up(first), self._up(weights)),
            _numbers(scaling),
            -1 if apart is None else apart,
            (self._up(limits[0]), self._up(limits[1])),
            out,
            self.stream,
        )

    def _linear(self, source: Any, done: Sequence[int], scaling: Scaling, out: Any) -> None:
        """Resample all axes but those that are `done`, which are upright by now."""
        columns = []
        for axis, (n, m) in enumerate(zip(source.shape, out.shape, strict=True)):
            table = axis_table(n, m, min(self.orders[axis], 1))
            flip = self.flips[axis] and axis not in done
            for index in (table.low, table.high):
                columns.append(n - 1 - index if flip else index)
            columns.append(table.weight)
        tables = tuple(map(self._up, columns))
        cuda_kernels.resample(source, tables, _numbers(scaling), out, self.stream)

    def _limits(self, source: Any, scaling: Scaling) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and largest scaled intensity: of the volume, or of each slice apart."""
        apart = axis_apart(self.orders)
        shape = (source.shape[apart or 0], cuda_kernels.EXTREMES)
        low, high = (cuda.device_array(shape, np.float32) for _ in range(2))
        cuda_kernels.extremes(source, apart or 0, low, high, self.stream)
        axis = None if apart is None else 1
        down = [part.copy_to_host(stream=self.stream) for part in (low, high)]
        self.stream.synchronize()
        least, most = down[0].min(axis=axis), down[1].max(axis=axis)
        return np.atleast_1d(scaling.apply(least)), np.atleast_1d(scaling.apply(most))

    def _up(self, table: np.ndarray) -> Any:
        return cuda.to_device(np.ascontiguousarray(table), stream=self.stream)


def _numbers(scaling: Scaling) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    lower, upper, mean, sd = map(
        np.float32, (scaling.lower, scaling.upper, scaling.mean, scaling.sd)
    )
    return lower, upper, mean, sd

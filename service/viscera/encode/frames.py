"""Which frames a BINARY SEG has, and their bits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from viscera.domain.arrays import Labels
from viscera.domain.geometry import Geometry
from viscera.encode.explicit import LONGEST_BYTES
from viscera.encode.segments import Segment
from viscera.errors import UnusableSeries

_VALUES = 256


class Place(NamedTuple):
    """One frame: a segment on a slice."""

    number: int
    """Of the segment, from 1."""
    slice_index: int
    """In the stack, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frames:
    """The frames of a SEG in their order: by segment, then by slice."""

    places: tuple[Place, ...]
    ranks: dict[int, int]
    """By slice that has a frame: its place among those slices, from 1."""
    pixels: np.ndarray
    """Value of Pixel Data: one bit a voxel, lowest first, padded to an even length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Band:
    """The rows of one slice between which a label lies, both ends included."""

    place: Place
    value: int
    first: int
    last: int


def pack_frames(labels: Labels, segments: Sequence[Segment], geometry: Geometry) -> Frames:
    """Return a frame for each slice of each segment that has a voxel there.

    Parameters
    ----------
    labels
        (slice, row, column) on `geometry`, by label value. Values of no segment are left out.
    segments
        What is described. Where no segment has a voxel, each gets one empty frame on the first
        slice, for an object without frames is not valid.
    geometry
        Says in which order slices follow one another.

    Raises
    ------
    UnusableSeries
        If one object cannot hold so many bits.
    """
    labels = np.ascontiguousarray(labels)
    bands = _bands(labels, segments, slice_order(geometry))
    places = tuple(band.place for band in bands) or tuple(Place(one.number, 0) for one in segments)
    seen = {place.slice_index for place in places}
    slices = [index for index in slice_order(geometry) if index in seen]
    return Frames(
        places=places,
        ranks={index: rank for rank, index in enumerate(slices, 1)},
        pixels=_packed(labels, bands, len(places)),
    )


def slice_order(geometry: Geometry) -> range:
    """Return the stack's slices from the far end of the rows' and columns' normal to its origin.

    highdicom sorts frames this way; axial slices run from head to feet.
    """
    step, down, along = geometry.affine_lps[:3, :3].T
    count = geometry.shape[0]
    onwards = float(step @ np.cross(along, down)) > 0
    return range(count - 1, -1, -1) if onwards else range(count)


def _bands(labels: Labels, segments: Sequence[Segment], order: range) -> list[_Band]:
    from viscera.encode import kernels

    count, rows, _ = labels.shape
    first = np.full((count, _VALUES), rows, dtype=np.int64)
    last = np.full((count, _VALUES), -1, dtype=np.int64)
    kernels.find_spans(labels, first, last)
    return [
        _Band(
            place=Place(segment.number, index),
            value=segment.label.value,
            first=int(first[index, segment.label.value]),
            last=int(last[index, segment.label.value]),
        )
        for segment in segments
        for index in order
        if last[index, segment.label.value] >= 0
    ]


def _packed(labels: Labels, bands: Sequence[_Band], frames: int) -> np.ndarray:
    """Pack the rows of each band into zeros; a band may begin within a byte."""
    _, rows, columns = labels.shape
    size = rows * columns
    pixels = np.zeros(_size_bytes(frames, size), dtype=np.uint8)
    room = np.empty(7 + size, dtype=bool)
    for frame, band in enumerate(bands):
        voxels = labels[band.place.slice_index, band.first : band.last + 1].reshape(-1)
        byte, shift = divmod(frame * size + band.first * columns, 8)
        room[:shift] = False
        mask = room[: shift + len(voxels)]
        np.equal(voxels, band.value, out=mask[shift:])
        packed = np.packbits(mask, bitorder="little")
        pixels[byte : byte + len(packed)] |= packed
    return pixels


def _size_bytes(frames: int, size: int) -> int:
    size_bytes = 2 * -(-frames * size // 16)
    if size_bytes > LONGEST_BYTES:
        raise UnusableSeries(
            f"{frames} frames of {size} voxels are more than the {LONGEST_BYTES} bytes that one "
            "SEG holds; send fewer slices, or choose a model with fewer labels"
        )
    return size_bytes

"""Passes over a label map that NumPy has no function for, compiled by Numba for threads.

Arguments are `Any`: Numba infers them, and Python never runs the functions. Importing this module
compiles, or loads from Numba's cache, so it is imported late: after the settings have said where
that is. `find_spans` serves the writer, `count_bits` judges what it wrote: they share nothing.
"""

from typing import Any

from numba import int64, njit, prange, types, uint8


def _find_spans(labels: Any, first: Any, last: Any) -> None:
    """Note between which rows each label lies in each slice.

    Parameters
    ----------
    labels
        (slice, row, column), uint8.
    first, last
        (slice, 256), preset with the number of rows and with -1; 0 stays as it is.
    """
    for index in prange(labels.shape[0]):
        for row in range(labels.shape[1]):
            any_label = uint8(0)
            for column in range(labels.shape[2]):
                any_label |= labels[index, row, column]
            if any_label == 0:
                continue
            before = uint8(0)
            for column in range(labels.shape[2]):
                label = labels[index, row, column]
                if label != before:
                    before = label
                    if label != 0:
                        first[index, label] = min(first[index, label], row)
                        last[index, label] = row


def _count_bits(pixels: Any, slices: Any, values: Any, planes: Any, counts: Any) -> None:
    """Count the set bits of each BINARY frame, or say that one stands where it must not.

    Parameters
    ----------
    pixels
        The bytes of Pixel Data, frames without padding between them, lowest bit first.
    slices, values
        (frame,): on which slice a frame lies, and which label it means.
    planes
        (slice, row x column), uint8: the label map.
    counts
        (frame,), written: set bits, or -1 where one of them lies on another label.

    References
    ----------
    DICOM PS3.5 8.1.1 and annex D.1: bits of Bits Allocated 1.
    """
    size = planes.shape[1]
    for frame in prange(len(slices)):
        start, stop = frame * size, (frame + 1) * size
        plane, value = planes[slices[frame]], values[frame]
        found, wrong = 0, 0
        for at in range(start // 8, (stop + 7) // 8):
            byte = pixels[at]
            if byte == 0:
                continue
            for bit in range(8):
                place = at * 8 + bit
                if (byte >> bit) & 1 and start <= place < stop:
                    found += 1
                    wrong += plane[place - start] != value
        counts[frame] = -1 if wrong else found


_LABELS = types.Array(uint8, 3, "C", readonly=True)
_PLANES = types.Array(uint8, 2, "C", readonly=True)
_BYTES = types.Array(uint8, 1, "C", readonly=True)
_INDICES = types.Array(int64, 1, "C", readonly=True)

_SPANS = [types.void(_LABELS, int64[:, ::1], int64[:, ::1])]
_BITS = [types.void(_BYTES, _INDICES, _INDICES, _PLANES, int64[::1])]

find_spans: Any = njit(_SPANS, parallel=True, cache=True)(_find_spans)
count_bits: Any = njit(_BITS, parallel=True, cache=True)(_count_bits)

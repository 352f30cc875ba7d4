"""The SEG that was written, read back by other means than wrote it."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from viscera.domain.arrays import Labels
from viscera.domain.geometry import Geometry
from viscera.encode import walk
from viscera.encode.segments import Segment
from viscera.errors import RoundTripMismatch

_PER_FRAME_GROUPS = 0x52009230
_PLANE_POSITION, _IMAGE_POSITION = 0x00209113, 0x00200032
_SEGMENT_IDENTIFICATION, _SEGMENT_NUMBER = 0x0062000A, 0x0062000B


def check_seg(path: Path, labels: Labels, segments: Sequence[Segment], geometry: Geometry) -> None:
    """Compare every voxel of a written SEG with the label map.

    Each set bit must lie on a voxel of its segment's label, no two frames may be the same
    segment on the same slice, and there must be as many bits as voxels: so both are the same set.

    Parameters
    ----------
    path
        The file.
    labels
        What was meant: (slice, row, column) by label value.
    segments
        What was described; their voxels are all that `labels` has.
    geometry
        Grid of `labels`; a frame lies on it by its position, orientation and pixel spacing.

    Raises
    ------
    RoundTripMismatch
        If a frame differs or lies on no slice, a segment is described as another organ, or voxels
        of `labels` stand in no frame.
    """
    seg = pydicom.dcmread(path)
    try:
        numbers, positions = _frames(seg)
        slices = _slices(seg, positions, geometry)
        _require_described(seg, segments)
        _require_same(seg, numbers, slices, labels, segments)
    except _Different as error:
        raise _mismatch(seg, str(error)) from error
    except (LookupError, AttributeError, ValueError, struct.error) as error:
        raise _mismatch(seg, f"its frames cannot be read ({error!r})") from error


class _Different(Exception):
    """What differs, in words."""


def _frames(seg: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return each frame's segment number, (n,), and ImagePositionPatient in mm, (n, 3)."""
    numbers, positions = [], []
    # Not `seg.PerFrameFunctionalGroupsSequence`, of which pydicom would make datasets.
    for content in walk.items(seg.get_item(_PER_FRAME_GROUPS).value):
        groups = walk.elements(content)
        identification = _only_item(groups[_SEGMENT_IDENTIFICATION])
        numbers.append(int.from_bytes(identification[_SEGMENT_NUMBER], "little"))
        position = _only_item(groups[_PLANE_POSITION])[_IMAGE_POSITION]
        positions.append([float(number) for number in position.split(b"\\")])
    if len(numbers) != seg.NumberOfFrames:
        raise _Different(f"{seg.NumberOfFrames} frames, {len(numbers)} described")
    return np.array(numbers, dtype=np.int64), np.array(positions)


def _only_item(value: bytes) -> dict[int, bytes]:
    (content,) = walk.items(value)
    return walk.elements(content)


def _slices(seg: Dataset, positions: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Return the slice that each frame lies on, by three of its corners."""
    if (seg.Rows, seg.Columns) != geometry.shape[1:]:
        raise _Different(f"frames of {seg.Rows} x {seg.Columns}")
    shared = seg.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    between_rows, between_columns = shared.PixelMeasuresSequence[0].PixelSpacing
    last_row, last_column = seg.Rows - 1, seg.Columns - 1
    down = cosines[3:] * float(between_rows) * last_row
    along = cosines[:3] * float(between_columns) * last_column
    slices: np.ndarray = np.rint(geometry.to_index(positions)[:, 0]).astype(np.int64)
    for row, column, offset in ((0, 0, 0.0), (last_row, 0, down), (0, last_column, along)):
        nearest = np.rint(geometry.to_index(positions + offset))
        meant = np.column_stack(np.broadcast_arrays(slices, row, column))
        astray = np.flatnonzero((nearest != meant).any(axis=1))
        if len(astray):
            raise _Different(f"frame {astray[0] + 1} lies beside the grid")
    beyond = np.flatnonzero((slices < 0) | (slices >= geometry.shape[0]))
    if len(beyond):
        raise _Different(f"frame {beyond[0] + 1} lies on no slice")
    return slices


def _require_described(seg: Dataset, segments: Sequence[Segment]) -> None:
    described = [(int(item.SegmentNumber), item.SegmentLabel) for item in seg.SegmentSequence]
    if described != [(segment.number, segment.label.title) for segment in segments]:
        raise _Different("its segments are described as other organs")


def _require_same(
    seg: Dataset,
    numbers: np.ndarray,
    slices: np.ndarray,
    labels: Labels,
    segments: Sequence[Segment],
) -> None:
    if sum(segment.voxels for segment in segments) != np.count_nonzero(labels):
        raise _Different("the label map holds values that no segment describes")
    if len(set(zip(numbers.tolist(), slices.tolist(), strict=True))) != len(numbers):
        raise _Different("two frames of one segment lie on one slice")
    found = _count_bits(seg, slices, _values_of(numbers, segments), labels)
    for segment in segments:
        own = found[numbers == segment.number]
        if own.sum() != segment.voxels:
            raise _Different(
                f"{own.sum()} voxels of segment {segment.number}, not {segment.voxels}"
            )


def _values_of(numbers: np.ndarray, segments: Sequence[Segment]) -> np.ndarray:
    values = {segment.number: segment.label.value for segment in segments}
    unknown = set(numbers.tolist()) - values.keys()
    if unknown:
        raise _Different(f"frames of segment {min(unknown)}, which is not described")
    return np.array([values[number] for number in numbers.tolist()], dtype=np.int64)


def _count_bits(seg: Dataset, slices: np.ndarray, values: np.ndarray, labels: Labels) -> np.ndarray:
    """Return how many bits each frame has, all of them on voxels of its label."""
    from viscera.encode import kernels

    pixels = np.frombuffer(seg.PixelData, dtype=np.uint8)
    if len(pixels) < len(slices) * seg.Rows * seg.Columns / 8:
        raise _Different("Pixel Data end before the last frame")
    found = np.empty(len(slices), dtype=np.int64)
    planes = np.ascontiguousarray(labels).reshape(len(labels), -1)
    kernels.count_bits(pixels, slices, values, planes, found)
    wrong = np.flatnonzero(found < 0)
    if len(wrong):
        raise _Different(f"frame {wrong[0] + 1} has voxels that are not its segment's")
    return found


def _mismatch(seg: Dataset, what: str) -> RoundTripMismatch:
    return RoundTripMismatch(
        f"SEG {seg.get('SOPInstanceUID')} does not decode to its label map: {what}; nothing is "
        "delivered"
    )

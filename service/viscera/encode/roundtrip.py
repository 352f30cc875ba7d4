"""The SEG that was written, decoded by other means than wrote it."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from viscera.domain.arrays import Labels
from viscera.domain.geometry import Geometry
from viscera.encode.seg import slices_of
from viscera.encode.segments import Segment
from viscera.errors import RoundTripMismatch


def check_seg(
    part10: bytes, labels: Labels, segments: Sequence[Segment], geometry: Geometry
) -> None:
    """Compare every frame of a written SEG with the label map, voxel by voxel.

    Parameters
    ----------
    part10
        The file's bytes.
    labels
        What was meant: (slice, row, column) by label value.
    segments
        What was described; their voxels are all that `labels` has.
    geometry
        Grid of `labels`; frames are placed on it by their ImagePositionPatient.

    Raises
    ------
    RoundTripMismatch
        If a frame differs, lies on no slice, or voxels of `labels` stand in no frame.
    """
    seg = pydicom.dcmread(BytesIO(part10))
    values = {segment.number: segment.label.value for segment in segments}
    left = {segment.number: segment.voxels for segment in segments}
    if sum(left.values()) != np.count_nonzero(labels):
        raise _mismatch(seg, "the label map holds values that no segment describes")
    where = slices_of(seg, geometry)
    for frame, (number, index) in enumerate(zip(_numbers(seg), where, strict=True)):
        mask = _frame_bits(seg.PixelData, frame, seg.Rows, seg.Columns)
        if not 0 <= index < len(labels) or not np.array_equal(
            mask, labels[index] == values[number]
        ):
            raise _mismatch(seg, f"frame {frame + 1} of segment {number} is not what was meant")
        left[number] -= int(np.count_nonzero(mask))
    if any(left.values()):
        raise _mismatch(seg, "slices of some segment are missing")


def _numbers(seg: Dataset) -> list[int]:
    """Return each frame's segment; one that all frames share may stand apart."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    return [
        int((item if "SegmentIdentificationSequence" in item else shared)
            .SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        for item in seg.PerFrameFunctionalGroupsSequence
    ]  # fmt: skip


def _frame_bits(pixels: bytes, frame: int, rows: int, columns: int) -> np.ndarray:
    """Unpack one frame; frames follow one another without padding (PS3.5 8.1.1)."""
    first, size = frame * rows * columns, rows * columns
    packed = np.frombuffer(pixels[first // 8 : -(-(first + size) // 8)], dtype=np.uint8)
    bits = np.unpackbits(packed, bitorder="little")[first % 8 :][:size]
    return bits.view(bool).reshape(rows, columns)


def _mismatch(seg: Dataset, what: str) -> RoundTripMismatch:
    return RoundTripMismatch(
        f"SEG {seg.SOPInstanceUID} does not decode to its label map: {what}; nothing is delivered"
    )

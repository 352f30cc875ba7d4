"""SEG: one BINARY segmentation object on the source's own slices.

pydicom writes the header. The sequences that have an item per frame or per instance, and the bits,
are joined as bytes: with pydicom datasets they take ten times as long as everything else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info

from viscera.encode import explicit
from viscera.encode.context import ResultContext
from viscera.encode.frames import Frames
from viscera.encode.groups import large_sequences
from viscera.encode.header import seg_header
from viscera.encode.identity import Identity
from viscera.encode.segments import Segment
from viscera.encode.sources import CHARACTER_SET, Sources

_PIXEL_DATA = 0x7FE00010


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SegObject:
    """A SEG, ready to be written."""

    header: Dataset
    """Without what has an item per frame or instance, and without pixels."""
    sequences: dict[int, bytes]
    """Encoded elements that the header lacks, by tag."""
    pixels: np.ndarray
    """Value of Pixel Data, uint8."""

    def part10(self) -> tuple[bytes, memoryview]:
        """Return the file's bytes (PS3.10 7.1) in two pieces: the second is the pixels'."""
        file = DicomBytesIO()
        file.write(bytes(128) + b"DICM")
        write_file_meta_info(file, self.header.file_meta, enforce_standard=True)
        elements = self.sequences | {int(one.tag): _encoded(one) for one in self.header}
        for _, element in sorted(elements.items()):
            file.write(element)
        file.write(explicit.head(_PIXEL_DATA, "OB", self.pixels.nbytes))
        return file.getvalue(), self.pixels.data


def encode_seg(
    frames: Frames,
    segments: Sequence[Segment],
    sources: Sources,
    context: ResultContext,
    identity: Identity,
) -> SegObject:
    """Return the SEG of a label map.

    Parameters
    ----------
    frames
        The label map's, by ``pack_frames``.
    segments
        What to describe.
    sources
        The stack that was segmented. Each SEG frame refers to the source frame that it lies on.
    context
        Model, time and job.
    identity
        The object's UIDs.
    """
    return SegObject(
        header=seg_header(segments, frames, sources, context, identity),
        sequences=large_sequences(frames, sources),
        pixels=frames.pixels,
    )


def _encoded(element: DataElement) -> bytes:
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = False, True
    write_data_element(file, element, CHARACTER_SET)
    return file.getvalue()

"""The SEG's large sequences as bytes: what each frame is, where it lies, what it came from.

References
----------
DICOM PS3.3 A.51.5 (functional groups of a segmentation), C.7.6.16, C.7.6.17 (dimensions).
"""

from collections.abc import Iterator

from pydicom.sr.coding import Code
from pydicom.valuerep import format_number_as_ds

from viscera.domain.sources import Frame
from viscera.encode import codes
from viscera.encode.explicit import item, longs, sequence, shorts, text
from viscera.encode.frames import Frames
from viscera.encode.sources import Sources

_SOP_CLASS, _SOP_INSTANCE = 0x00081150, 0x00081155
REFERENCED_SERIES = 0x00081115
SOURCE_IMAGES = 0x00082112
PER_FRAME_GROUPS = 0x52009230


def large_sequences(frames: Frames, sources: Sources) -> dict[int, bytes]:
    """Return the elements that are too many for pydicom, by tag.

    Parameters
    ----------
    frames
        The frames in their order.
    sources
        Each frame refers to the source frame that it lies on, and the whole to every instance.
    """
    instances = _instances(sources)
    return {
        REFERENCED_SERIES: sequence(
            REFERENCED_SERIES,
            item(
                sequence(0x0008114A, *instances),
                text(0x0020000E, "UI", sources.stack.facts.series_uid),
            ),
        ),
        SOURCE_IMAGES: sequence(SOURCE_IMAGES, *instances),
        PER_FRAME_GROUPS: sequence(PER_FRAME_GROUPS, *_frame_items(frames, sources)),
    }


def _instances(sources: Sources) -> list[bytes]:
    sop_class = text(_SOP_CLASS, "UI", sources.stack.facts.sop_class_uid)
    uids = dict.fromkeys(frame.source.sop_uid for frame in sources.stack.frames)
    return [item(sop_class, text(_SOP_INSTANCE, "UI", uid)) for uid in uids]


def _frame_items(frames: Frames, sources: Sources) -> Iterator[bytes]:
    """Yield each frame's item; what frames of one slice or segment share is made once."""
    stack = sources.stack
    slices = {
        index: (_derivation(stack.frames[index], sources), _position(stack.frames[index]))
        for index in frames.ranks
    }
    segments = {number: _identification(number) for number in {one.number for one in frames.places}}
    for number, index in frames.places:
        derivation, position = slices[index]
        content = sequence(0x00209111, item(longs(0x00209157, number, frames.ranks[index])))
        yield item(derivation, content, position, segments[number])


def _derivation(frame: Frame, sources: Sources) -> bytes:
    source = item(
        text(_SOP_CLASS, "UI", sources.stack.facts.sop_class_uid),
        text(_SOP_INSTANCE, "UI", frame.source.sop_uid),
        text(0x00081160, "IS", str(frame.source.frame)) if sources.is_multi_frame else b"",
        text(0x0028135A, "CS", "YES"),  # the frames lie on the source's own grid
        sequence(0x0040A170, _code(codes.SOURCE_IMAGE)),
    )
    how = sequence(0x00089215, _code(codes.SEGMENTATION))
    return sequence(0x00089124, item(sequence(SOURCE_IMAGES, source), how))


def _position(frame: Frame) -> bytes:
    position = "\\".join(map(format_number_as_ds, frame.position_lps))
    return sequence(0x00209113, item(text(0x00200032, "DS", position)))


def _identification(number: int) -> bytes:
    return sequence(0x0062000A, item(shorts(0x0062000B, number)))


def _code(code: Code) -> bytes:
    return item(
        text(0x00080100, "SH", code.value),
        text(0x00080102, "SH", code.scheme_designator),
        text(0x00080104, "LO", code.meaning),
    )

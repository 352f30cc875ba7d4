"""A stack of DICOM frames to a volume."""

from collections.abc import Iterator

from viscera.domain.sources import Frame, Stack
from viscera.domain.volumes import Volume
from viscera.volume.canvas import Canvas
from viscera.volume.pool import DecodePool
from viscera.volume.work import MAX_FRAMES, DecodedSlice, FrameWork

_MIN_FRAMES = 8
"""A file's header is parsed once per message: fewer frames than this are not worth another."""


def load_volume(stack: Stack, pool: DecodePool) -> Volume:
    """Decode, mask and rescale the frames of `stack`.

    Parameters
    ----------
    stack
        Its frames' order is the volume's; enhanced objects give theirs by frame number.
    pool
        Where decoders run.

    Returns
    -------
    Volume
        HU for CT. int16 where every intensity is a whole number that fits, else float32.

    Raises
    ------
    UndecodablePixels
        Truncated, damaged or in a transfer syntax that we do not know; a CT without rescale.
    DatasetMismatch
        A file no longer holds the instance that was stacked.
    HostMemoryFull
        The volume does not fit.

    References
    ----------
    DICOM PS3.3 C.7.5.1.1.2 (padding), C.11.1.1.2 (rescale), C.7.6.16.2.9 (per frame).
    """
    with Canvas(stack.geometry.shape) as canvas:
        slices = pool.decode(tuple(_works(stack, pool)), canvas)
        voxels, padding = canvas.take(slices)
    return Volume(
        voxels=voxels,
        geometry=stack.geometry,
        modality=stack.facts.modality,
        padding=padding,
        defects=tuple(_defect(stack, s) for s in slices if s.missing),
    )


def _defect(stack: Stack, s: DecodedSlice) -> str:
    frame = stack.frames[s.slot]
    return (
        f"The end of instance {frame.source.sop_uid} is cut off: {s.missing} of "
        f"{frame.rows * frame.columns} pixels of slice {s.slot + 1} are missing and count as air."
    )


def _works(stack: Stack, pool: DecodePool) -> Iterator[FrameWork]:
    """Yield one message per file; a file of many frames is shared out among the processes."""
    by_file: dict[object, list[tuple[int, Frame]]] = {}
    for slot, frame in enumerate(stack.frames):
        by_file.setdefault((frame.path, frame.source.sop_uid), []).append((slot, frame))
    for members in by_file.values():
        size = min(max(_MIN_FRAMES, -(-len(members) // pool.processes)), MAX_FRAMES)
        for start in range(0, len(members), size):
            part = members[start : start + size]
            first = part[0][1]
            yield FrameWork(
                path=str(first.path),
                sop_uid=first.source.sop_uid,
                modality=stack.facts.modality,
                rows=first.rows,
                columns=first.columns,
                frames=tuple((frame.source.frame, slot) for slot, frame in part),
                max_missing_share=pool.max_missing_share,
            )

"""JPEG extended with 12 bits (process 4). Runs in a decoding child.

GDCM holds a codec for it, which pydicom's plugin does not ask; `proof` tries it at every start.
"""

from collections.abc import Iterator

import gdcm
import numpy as np
from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import JPEGExtended12Bit

from viscera.errors import UndecodablePixels
from viscera.volume.header import PixelHeader
from viscera.volume.work import FrameWork

_END_OF_IMAGE = b"\xff\xd9"


def is_jpeg12(header: PixelHeader) -> bool:
    """Whether `jpeg12_frames` is for it; with 8 bits pydicom's plugins do."""
    return header.transfer_syntax_uid == JPEGExtended12Bit and header.bits_stored > 8


def jpeg12_frames(header: PixelHeader, work: FrameWork) -> Iterator[np.ndarray]:
    """Yield each frame of `work`.

    Raises
    ------
    UndecodablePixels
        If values are signed, which JPEG does not know, if a codestream has no end, or if GDCM
        gives fewer pixels than the header promises.
    """
    reader = gdcm.ImageReader()
    reader.SetFileName(work.path)
    if header.signed or not _is_complete(header, work) or not reader.Read():
        raise _bad(work)
    buffer = reader.GetImage().GetBuffer() or ""
    # GDCM's wrapper hands bytes over as text.
    pixels = np.frombuffer(buffer.encode("utf-8", "surrogateescape"), "<u2")
    if pixels.size != header.frames * work.rows * work.columns:
        raise _bad(work)
    frames = pixels.reshape(header.frames, work.rows, work.columns)
    for frame, _ in work.frames:
        yield frames[frame - 1]


def _is_complete(header: PixelHeader, work: FrameWork) -> bool:
    """Whether every codestream has its end: of one that is cut off GDCM makes up the rest."""
    encapsulated = dcmread(work.path, specific_tags=["PixelData"]).PixelData
    frames = generate_frames(encapsulated, number_of_frames=header.frames)
    return all(frame.rstrip(b"\0").endswith(_END_OF_IMAGE) for frame in frames)


def _bad(work: FrameWork) -> UndecodablePixels:
    return UndecodablePixels(
        f"instance {work.sop_uid}: its pixels cannot be decoded as 12-bit JPEG of {work.rows} x "
        f"{work.columns} unsigned values; send it again, uncompressed"
    )

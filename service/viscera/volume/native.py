"""Uncompressed frames straight from the file. Runs in a decoding child.

pydicom decodes these too, but parses the header again and copies: 4 ms a slice beside 1.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from pydicom.uid import UID

from viscera.errors import UndecodablePixels
from viscera.volume.header import PixelHeader
from viscera.volume.work import FrameWork

_PIXEL_DATA = (0x7FE0, 0x0010)


def native_frames(
    file: BinaryIO, header: PixelHeader, work: FrameWork
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield each frame of `work`, sign-extended from BitsStored, and how many pixels it lacks.

    A file whose end was cut off lacks pixels at its end; they are 0 here.

    Parameters
    ----------
    file
        Standing at the pixel data element, where `read_header` leaves it.

    Raises
    ------
    UndecodablePixels
        If more of a frame is missing than `work.max_missing_share`.

    References
    ----------
    DICOM PS3.5 7.1 (element headers), 8.1.1 (unused high bits may hold anything).
    """
    order = ">" if not UID(header.transfer_syntax_uid).is_little_endian else "<"
    kind = "i" if header.signed else "u"
    dtype = np.dtype(f"{order}{kind}{header.bits_allocated // 8}")
    pixels = work.rows * work.columns
    start = _start_of_pixels(file, header, work, order, pixels * dtype.itemsize)
    for frame, _ in work.frames:
        file.seek(start + (frame - 1) * pixels * dtype.itemsize)
        stored = np.fromfile(file, dtype, pixels).astype(dtype.newbyteorder("="), copy=False)
        missing = pixels - len(stored)
        stored = np.pad(stored, (0, missing)).reshape(work.rows, work.columns)
        yield header.pixels(stored), missing


def _start_of_pixels(
    file: BinaryIO, header: PixelHeader, work: FrameWork, order: str, frame_bytes: int
) -> int:
    implicit = UID(header.transfer_syntax_uid).is_implicit_VR
    layout = struct.Struct(f"{order}HHL" if implicit else f"{order}HH4xL")
    start = file.read(layout.size)
    if len(start) < layout.size:
        raise UndecodablePixels(f"instance {work.sop_uid}: it has no pixel data; send it again")
    group, element, length = layout.unpack(start)
    there = min(length, header.file_bytes - file.tell())
    needed = frame_bytes * header.frames
    if (group, element) != _PIXEL_DATA or needed - there > frame_bytes * work.max_missing_share:
        raise UndecodablePixels(
            f"instance {work.sop_uid}: {max(there, 0)} bytes of pixels, its header promises "
            f"{needed}; the file is truncated, send it again"
        )
    return file.tell()

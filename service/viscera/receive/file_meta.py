"""Preamble and file meta (PS3.10 section 7.1) for a data set that came without them."""

import struct

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION


def file_header(*, sop_class_uid: str, sop_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return what stands before the data set in DICOM's file format.

    Written here because pydicom's writer takes as long as parsing a whole header.
    """
    body = b"".join(
        (
            struct.pack("<HH2sHL2s", 2, 0x0001, b"OB", 0, 2, b"\0\1"),
            _text(0x0002, b"UI", sop_class_uid, b"\0"),
            _text(0x0003, b"UI", sop_uid, b"\0"),
            _text(0x0010, b"UI", transfer_syntax_uid, b"\0"),
            _text(0x0012, b"UI", PYNETDICOM_IMPLEMENTATION_UID, b"\0"),
            _text(0x0013, b"SH", PYNETDICOM_IMPLEMENTATION_VERSION, b" "),
        )
    )
    length = struct.pack("<HH2sHL", 2, 0x0000, b"UL", 4, len(body))
    return b"\0" * 128 + b"DICM" + length + body


def _text(element: int, vr: bytes, value: str, padding: bytes) -> bytes:
    data = value.encode("ascii")
    data += padding * (len(data) % 2)
    return struct.pack("<HH2sH", 2, element, vr, len(data)) + data

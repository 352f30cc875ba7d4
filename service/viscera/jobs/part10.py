"""What the spool reads of an instance: its UIDs, its place, where its data set begins.

Reading stops at Number of Series Related Instances (0020,1209): no pixel is touched.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from pydicom.dataelem import RawDataElement
from pydicom.filereader import data_element_generator, read_preamble
from pydicom.tag import BaseTag
from pydicom.uid import UID

from viscera.errors import DatasetMismatch, InvalidUID, ServiceError

_MEDIA_SOP_CLASS = 0x00020002
_MEDIA_SOP_INSTANCE = 0x00020003
_TRANSFER_SYNTAX = 0x00020010
_SOP_CLASS = 0x00080016
_SOP_INSTANCE = 0x00080018
_STUDY = 0x0020000D
_SERIES = 0x0020000E
_POSITION = 0x00200032
_EXPECTED_COUNT = 0x00201209

_META: list[BaseTag | int] = [_MEDIA_SOP_CLASS, _MEDIA_SOP_INSTANCE, _TRANSFER_SYNTAX]
_WANTED: list[BaseTag | int] = [
    _SOP_CLASS,
    _SOP_INSTANCE,
    _STUDY,
    _SERIES,
    _POSITION,
    _EXPECTED_COUNT,
]

_IMPLICIT_LITTLE = "1.2.840.10008.1.2"
_EXPLICIT_BIG = "1.2.840.10008.1.2.2"
# Deflated data sets inflate without bound before a single tag can be read.
_DEFLATED = {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the spool needs to know of one instance."""

    sop_class_uid: str
    sop_uid: str
    study_uid: str
    series_uid: str
    position_lps: tuple[float, float, float] | None
    expected_count: int | None
    data_offset: int
    """Where the data set begins: after preamble and file meta."""


class JoinedBuffers(io.RawIOBase):
    """A seekable stream over several buffers, without joining them in memory."""

    def __init__(self, buffers: Sequence[memoryview]) -> None:
        self._buffers = buffers
        self._size = sum(len(b) for b in buffers)
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Offset in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, also beyond the end, as files do."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, target: Any) -> int:
        """Copy what one buffer holds from here on, as much as fits."""
        room = memoryview(target).cast("B")
        start = 0
        for buffer in self._buffers:
            if self._at < start + len(buffer):
                piece = buffer[self._at - start :][: len(room)]
                room[: len(piece)] = piece
                self._at += len(piece)
                return len(piece)
            start += len(buffer)
        return 0


def read_header(stream: BinaryIO) -> Header:
    """Read the identity of one instance in DICOM's file format.

    Parameters
    ----------
    stream
        At the preamble; seekable.

    Raises
    ------
    DatasetMismatch
        If it cannot be parsed, or its data set names another SOP class or instance than its
        file meta, which `receive` fills from the C-STORE request.
    InvalidUID
        If a UID is empty or breaks DICOM PS3.5 section 9.
    """
    try:
        return _read_header(stream)
    except ServiceError:
        raise
    # pydicom raises whatever hostile bytes provoke: ValueError, struct.error, RecursionError ...
    except Exception as error:
        raise DatasetMismatch(
            f"the data set cannot be parsed ({type(error).__name__}); send it as its transfer "
            "syntax says"
        ) from error


def _read_header(stream: BinaryIO) -> Header:
    read_preamble(stream, force=False)
    meta = _elements(stream, implicit=False, little=True, wanted=_META, last=0x0002FFFF)
    offset = stream.tell()
    syntax = _uid(meta, _TRANSFER_SYNTAX, "Transfer Syntax UID")
    if syntax in _DEFLATED:
        raise DatasetMismatch(f"transfer syntax {syntax} is deflated; send it uncompressed")
    tags = _elements(
        stream,
        implicit=syntax == _IMPLICIT_LITTLE,
        little=syntax != _EXPLICIT_BIG,
        wanted=_WANTED,
        last=_EXPECTED_COUNT,
    )
    if _SOP_CLASS not in tags or _SOP_INSTANCE not in tags:
        raise DatasetMismatch("the data set has no SOP Class UID or no SOP Instance UID")
    header = Header(
        sop_class_uid=_uid(tags, _SOP_CLASS, "SOP Class UID"),
        sop_uid=_uid(tags, _SOP_INSTANCE, "SOP Instance UID"),
        study_uid=_uid(tags, _STUDY, "Study Instance UID"),
        series_uid=_uid(tags, _SERIES, "Series Instance UID"),
        position_lps=_position(tags.get(_POSITION, b"")),
        expected_count=_count(tags.get(_EXPECTED_COUNT, b"")),
        data_offset=offset,
    )
    _require_same(_uid(meta, _MEDIA_SOP_CLASS, "SOP Class UID"), header.sop_class_uid)
    _require_same(_uid(meta, _MEDIA_SOP_INSTANCE, "SOP Instance UID"), header.sop_uid)
    return header


def _elements(
    stream: BinaryIO, *, implicit: bool, little: bool, wanted: list[BaseTag | int], last: int
) -> dict[int, bytes]:
    """Return the raw values of `wanted`; leave `stream` before the first tag above `last`."""
    elements = data_element_generator(
        stream,
        is_implicit_VR=implicit,
        is_little_endian=little,
        stop_when=lambda tag, vr, length: tag > last,
        specific_tags=wanted,
    )
    return {
        int(e.tag): e.value or b""
        for e in elements
        if isinstance(e, RawDataElement) and isinstance(e.value, bytes | None)
    }


def _uid(tags: dict[int, bytes], tag: int, name: str) -> str:
    # Peers pad with spaces too, against the standard; the path and the rows get the bare UID.
    text = tags.get(tag, b"").rstrip(b"\0 ").decode("ascii", "replace")
    if not text:
        raise InvalidUID(f"{name} is empty or absent; every instance needs one")
    if not UID(text).is_valid:
        raise InvalidUID(
            f"{name} is not a UID as DICOM PS3.5 section 9 has it (digits and dots, at most 64)"
        )
    return text


def _require_same(announced: str, found: str) -> None:
    if announced != found:
        raise DatasetMismatch(f"announced as {announced}, but the data set says {found}")


def _position(value: bytes) -> tuple[float, float, float] | None:
    try:
        x, y, z = (float(part) for part in value.rstrip(b"\0 ").split(b"\\"))
    except ValueError:
        return None  # `series` judges geometry; here a position only helps to close early
    return (x, y, z) if math.isfinite(x) and math.isfinite(y) and math.isfinite(z) else None


def _count(value: bytes) -> int | None:
    try:
        count = int(value.rstrip(b"\0 "))
    except ValueError:
        return None
    return count if count > 0 else None

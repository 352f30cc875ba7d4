"""What the head of a DICOM file says: UIDs, a place, where the data set begins (PS3.10 7.1).

Reading stops at Number of Series Related Instances (0020,1209): no pixel is touched, and nothing
nests: sequences of undefined length are walked with a stack of one flag a level.
"""

import math
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from viscera.errors import DatasetMismatch, InvalidUID

T = TypeVar("T")
Head = Callable[[int], bytes]
"""Gives the first n bytes of an instance, or all of it where there are less."""

_PREAMBLE_BYTES = 128
_MAGIC = b"DICM"
HEAD_BYTES = _PREAMBLE_BYTES + len(_MAGIC)
"""What :func:`is_part10` looks at."""
_FIRST_LOOK_BYTES = 1 << 15

_MEDIA_SOP_CLASS = 0x00020002
_MEDIA_SOP_INSTANCE = 0x00020003
_TRANSFER_SYNTAX = 0x00020010
_LAST_META = 0x0002FFFF
_SOP_CLASS = 0x00080016
_SOP_INSTANCE = 0x00080018
_STUDY = 0x0020000D
_SERIES = 0x0020000E
_POSITION = 0x00200032
_EXPECTED_COUNT = 0x00201209
_META = {_MEDIA_SOP_CLASS, _MEDIA_SOP_INSTANCE, _TRANSFER_SYNTAX}
_WANTED = {_SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES, _POSITION, _EXPECTED_COUNT}

_IMPLICIT_LITTLE = "1.2.840.10008.1.2"
_EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = frozenset(
    (
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.4.95",
        "1.2.840.10008.1.2.4.205",
        "1.2.840.10008.1.2.8.1",
    )
)
"""Transfer syntaxes that inflate without bound before a single tag, or a frame, can be read."""

# PS3.5 table 7.1-1: two reserved bytes, then a length of four.
_LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")
_LONGEST_UID = 64
_UNDEFINED = 0xFFFFFFFF
_MOST_INSTANCES = 2**31 - 1  # of an integer string (PS3.5 6.2), and of the column that keeps it
_DELIMITERS = 0xFFFE  # PS3.5 7.5: items and delimiters, which have no VR
_SEQUENCE_END = 0xE0DD


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


class _MoreNeeded(Exception):
    """The bytes at hand end inside the header."""


def read_header(head: Head) -> Header:
    """Read the identity of one instance in DICOM's file format.

    Parameters
    ----------
    head
        Its first bytes, as many as it takes.

    Raises
    ------
    DatasetMismatch
        If it cannot be parsed, or its data set names another SOP class or instance than its
        file meta, which `receive` fills from the C-STORE request.
    InvalidUID
        If a UID is empty or breaks DICOM PS3.5 section 9.
    """
    return _grown(head, _parse)


def read_meta(head: Head) -> tuple[str, int]:
    """Return the transfer syntax, as far as the file names one, and where the data set begins.

    Raises
    ------
    DatasetMismatch
        If it is no DICOM file.
    """
    meta, offset = _grown(head, _parse_meta)
    return _text(meta.get(_TRANSFER_SYNTAX, b"")), offset


def is_part10(first: bytes) -> bool:
    """Whether a file that begins with these 132 bytes is a DICOM file."""
    return first[_PREAMBLE_BYTES : _PREAMBLE_BYTES + len(_MAGIC)] == _MAGIC


def _grown(head: Head, parse: Callable[[bytes, bool], T]) -> T:
    """Return what `parse` makes of as many bytes as it needs."""
    size = _FIRST_LOOK_BYTES
    while True:
        data = head(size)
        try:
            return parse(data, len(data) < size)
        except _MoreNeeded:
            if len(data) < size:
                raise DatasetMismatch(
                    "the data set cannot be parsed: it ends inside an element; send it as its "
                    "transfer syntax says"
                ) from None
        size *= 4


def is_uid(text: str) -> bool:
    """Whether `text` is a UID (PS3.5 section 9). pydicom's own check prints it in a warning."""
    return len(text) <= _LONGEST_UID and _UID.fullmatch(text) is not None


def _parse(data: bytes, complete: bool) -> Header:
    meta, offset = _parse_meta(data, complete)
    syntax = _uid(meta, _TRANSFER_SYNTAX, "Transfer Syntax UID")
    if syntax in DEFLATED:
        raise DatasetMismatch(f"transfer syntax {syntax} is deflated; send it uncompressed")
    order = ">" if syntax == _EXPLICIT_BIG else "<"
    implicit = syntax == _IMPLICIT_LITTLE
    tags, _ = _values(data, offset, order, implicit, _WANTED, _EXPECTED_COUNT, complete)
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


def _parse_meta(data: bytes, complete: bool) -> tuple[dict[int, bytes], int]:
    """Return the elements of the file meta; the length that (0002,0000) states is not trusted."""
    if not is_part10(data):
        raise DatasetMismatch("no DICM after the preamble; send DICOM's file format (PS3.10)")
    at = _PREAMBLE_BYTES + len(_MAGIC)
    return _values(data, at, "<", False, _META, _LAST_META, complete)


def _values(
    data: bytes, at: int, order: str, implicit: bool, wanted: set[int], last: int, complete: bool
) -> tuple[dict[int, bytes], int]:
    """Return the values of `wanted`, and where the first element above `last` begins."""
    found: dict[int, bytes] = {}
    for tag, start, value_at, length in _elements(data, at, order, implicit):
        if tag > last:
            return found, start
        if tag in wanted:
            if value_at + length > len(data):
                raise _MoreNeeded
            found[tag] = data[value_at : value_at + length]
        at = value_at + length
    if at > len(data) or not complete:
        raise _MoreNeeded
    return found, len(data)


def _elements(
    data: bytes, at: int, order: str, implicit: bool
) -> Iterator[tuple[int, int, int, int]]:
    """Give (tag, offset, offset of the value, its length) of each top-level element.

    Sequences of undefined length are passed over; ends where `data` ends.
    """
    tag_and_length = struct.Struct(f"{order}HHL").unpack_from
    # One flag for each open sequence: whether its elements are in implicit VR.
    levels = [implicit]
    while at + 8 <= len(data):
        start = at
        group, element, length = tag_and_length(data, at)
        vr, at = b"", at + 8
        if group == _DELIMITERS:
            if element == _SEQUENCE_END and len(levels) > 1:
                levels.pop()
            at += length if length != _UNDEFINED else 0
            continue
        if not levels[-1]:
            vr, length, at = _explicit(data, at, order, length)
        if length == _UNDEFINED:
            # PS3.5 6.2.2 note 2: UN of undefined length holds implicit VR.
            levels.append(vr in (b"UN", b""))
            continue
        if len(levels) == 1:
            yield (group << 16) | element, start, at, length
        at += length
    if at != len(data) or len(levels) > 1:
        raise _MoreNeeded


def _explicit(data: bytes, at: int, order: str, length: int) -> tuple[bytes, int, int]:
    """Return VR, length and value offset of the element whose first eight bytes end at `at`."""
    vr = data[at - 4 : at - 2]
    if vr in _LONG_VRS:
        if at + 4 > len(data):
            raise _MoreNeeded
        return vr, struct.unpack_from(f"{order}L", data, at)[0], at + 4
    if vr.isalpha() and vr.isupper():
        return vr, struct.unpack_from(f"{order}H", data, at - 2)[0], at
    return b"", length, at  # some writers fall back to implicit VR for single elements


def _uid(tags: dict[int, bytes], tag: int, name: str) -> str:
    text = _text(tags.get(tag, b""))
    if not text:
        raise InvalidUID(f"{name} is empty or absent; every instance needs one")
    if not is_uid(text):
        raise InvalidUID(
            f"{name} is not a UID as DICOM PS3.5 section 9 has it (digits and dots, at most 64)"
        )
    return text


def _text(value: bytes) -> str:
    """Peers pad with spaces too, against the standard; the path and the rows get the bare UID."""
    return value.rstrip(b"\0 ").decode("ascii", "replace")


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
    return count if 0 < count <= _MOST_INSTANCES else None

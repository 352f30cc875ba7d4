"""A DICOM Part 10 file: its digest, and its header as a data set (PS3.10 section 7.1)."""

import hashlib
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.dataset import Dataset

from viscera.errors import DatasetMismatch, UndecodablePixels

_MAGIC_OFFSET = 128
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_LONG_VRS = frozenset((b"OB", b"OW", b"UN", b"UT", b"SQ", b"OF", b"OD", b"OL", b"UC", b"UR"))


def is_part10(path: Path) -> bool:
    """Whether `path` starts like a DICOM file: the preamble and ``DICM``."""
    with path.open("rb") as file:
        return file.read(_MAGIC_OFFSET + 4)[_MAGIC_OFFSET:] == b"DICM"


def read_part10(path: Path, tags: Iterable[int]) -> tuple[Dataset, str]:
    """Read the elements `tags` of a file, and the digest of its data set.

    Nothing of the pixels is parsed, but they count for the digest.

    Parameters
    ----------
    path
        A file; it is read once from start to end.
    tags
        Elements to keep; at the top level only, sequences are kept whole.

    Returns
    -------
    tuple
        The data set, and sha256 (hex) of the bytes after the file meta information.

    Raises
    ------
    DatasetMismatch
        If the file is no DICOM file or cannot be parsed.
    UndecodablePixels
        If its data set is deflated: inflating has no bound.
    """
    with path.open("rb") as file:
        meta, start = _read_meta(file)
        if meta.get(0x0010, b"").strip(b" \0") == _DEFLATED:
            raise UndecodablePixels(
                "a file is in the deflated transfer syntax 1.2.840.10008.1.2.1.99, which is not "
                "read because it inflates without bound: send it uncompressed"
            )
        file.seek(start)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        return _parse(file, tags), digest


def _parse(file: BinaryIO, tags: Iterable[int]) -> Dataset:
    try:
        return dcmread(file, stop_before_pixels=True, specific_tags=list(tags))
    # A damaged file makes pydicom raise whatever its code meets: struct.error, KeyError,
    # RecursionError from nested sequences ... All of it is the file's fault.
    except Exception as error:
        raise _damaged(type(error).__name__) from error


def _read_meta(file: BinaryIO) -> tuple[dict[int, bytes], int]:
    """Return the elements of group 0002 and the offset of the data set.

    The length that (0002,0000) states is not trusted: the elements themselves are walked.
    """
    if file.read(_MAGIC_OFFSET + 4)[_MAGIC_OFFSET:] != b"DICM":
        raise _damaged("no DICM after the preamble")
    elements: dict[int, bytes] = {}
    while True:
        start = file.tell()
        head = file.read(8)
        if len(head) < 8 or head[:2] != b"\x02\x00":
            return elements, start
        length = struct.unpack("<H", head[6:8])[0]
        if head[4:6] in _LONG_VRS:
            length = int.from_bytes(file.read(4), "little")
        if length > 1 << 16:
            raise _damaged("oversized file meta information")
        elements[struct.unpack("<H", head[2:4])[0]] = file.read(length)


def _damaged(why: str) -> DatasetMismatch:
    return DatasetMismatch(
        f"a file of this series is not a readable DICOM Part 10 file ({why}): send it again"
    )

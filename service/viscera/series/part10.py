"""A DICOM Part 10 file: its digest, and its header as a data set (PS3.10 section 7.1)."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.dataset import Dataset

from viscera.errors import DatasetMismatch, UndecodablePixels
from viscera.files import part10


def is_part10(path: Path) -> bool:
    """Whether `path` starts like a DICOM file: the preamble and ``DICM``."""
    with path.open("rb") as file:
        return part10.is_part10(file.read(part10.HEAD_BYTES))


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
        transfer_syntax_uid, start = part10.read_meta(lambda n: os.pread(file.fileno(), n, 0))
        if transfer_syntax_uid in part10.DEFLATED:
            raise UndecodablePixels(
                f"a file is in the deflated transfer syntax {transfer_syntax_uid}, which is not "
                "read because it inflates without bound: send it uncompressed"
            )
        file.seek(start)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        return _parse(file, tags), digest


def _parse(file: BinaryIO, tags: Iterable[int]) -> Dataset:
    try:
        return dcmread(file, stop_before_pixels=True, specific_tags=list(tags))
    except OSError:  # the machine's fault, which the caller names
        raise
    # A damaged file makes pydicom raise whatever its code meets: struct.error, KeyError,
    # RecursionError from nested sequences ... All of it is the file's fault.
    except Exception as error:
        raise _damaged(type(error).__name__) from error


def _damaged(why: str) -> DatasetMismatch:
    return DatasetMismatch(
        f"a file of this series is not a readable DICOM Part 10 file ({why}): send it again"
    )

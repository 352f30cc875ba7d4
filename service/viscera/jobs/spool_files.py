"""Files of the spool: their names, digests and times."""

import hashlib
import os
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from viscera.domain.sources import Arrival, Origin
from viscera.errors import InvalidRequest
from viscera.files.part10 import Header

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_OLD_NS = 3600 * 10**9
"""A repeat that comes so much later is a reason to keep the instance longer."""


def arrival_of(
    header: Header,
    *,
    origin: Origin,
    principal: str,
    upload: str,
    path: Path,
    sha256: str,
    size_bytes: int,
    arrived_at: datetime,
) -> Arrival:
    """Return what a file's header and its place say together."""
    return Arrival(
        origin=origin,
        principal=principal,
        upload=upload,
        study_uid=header.study_uid,
        series_uid=header.series_uid,
        sop_uid=header.sop_uid,
        sop_class_uid=header.sop_class_uid,
        path=path,
        sha256=sha256,
        size_bytes=size_bytes,
        arrived_at=arrived_at,
        position_lps=header.position_lps,
        expected_count=header.expected_count,
    )


def checked(name: str) -> str:
    """Return `name` if it can name a folder; raises `InvalidRequest`."""
    if not NAME.fullmatch(name):
        raise InvalidRequest("a principal or upload must be letters, digits, _ and -")
    return name


def hashed(uid: str) -> str:
    """Return the name of a UID's folder or file: peers write UIDs, never paths."""
    return hashlib.sha256(uid.encode("ascii")).hexdigest()[:32]


def first_bytes(buffers: Sequence[memoryview], size: int) -> bytes:
    """Return the first `size` bytes of `buffers` in one piece, or all there are."""
    pieces = []
    for buffer in buffers:
        if size <= 0:
            break
        pieces.append(buffer[:size])
        size -= len(buffer)
    return b"".join(pieces)


def digest_after(buffers: Sequence[memoryview], offset: int) -> str:
    """Return the SHA-256 of what follows `offset`: the data set, whatever head it came under."""
    digest = hashlib.sha256()
    for buffer in buffers:
        digest.update(buffer[min(offset, len(buffer)) :])
        offset = max(0, offset - len(buffer))
    return digest.hexdigest()


def came_ns(file: Path) -> int:
    """Return when it came, or came again; 0 where it is gone."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def renewed(target: Path, fd: int, now_ns: int) -> bool:
    """Keep an old file, open as `fd`, from retention; False where that took its name already."""
    status = os.fstat(fd)
    if now_ns - status.st_mtime_ns > _OLD_NS:
        os.utime(fd, ns=(status.st_atime_ns, now_ns))
    try:
        return os.path.samestat(target.stat(), status)
    except FileNotFoundError:
        return False


def to_ns(moment: datetime) -> int:
    """Return a file time, of whole microseconds as rows have them."""
    return round(moment.timestamp() * 1e6) * 1000

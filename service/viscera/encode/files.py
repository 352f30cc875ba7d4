"""Files that stay: written, synced, and named by their digest."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from viscera.domain.results import ResultFile, ResultKind
from viscera.files.durable import sync_file


def result_file(
    kind: ResultKind, path: Path, root: Path, *, sop_class_uid: str = "", sop_uid: str = ""
) -> ResultFile:
    """Sync a written file and return its row, with `path` relative to `root`."""
    sync_file(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ResultFile(
        kind=kind,
        path=path.relative_to(root),
        sha256=digest,
        size_bytes=path.stat().st_size,
        sop_class_uid=sop_class_uid,
        sop_uid=sop_uid,
    )


def write_file(
    kind: ResultKind,
    path: Path,
    root: Path,
    buffers: Sequence[bytes | memoryview],
    *,
    sop_class_uid: str = "",
    sop_uid: str = "",
) -> ResultFile:
    """Write `buffers` to a file, sync it and return its row; its digest is made meanwhile.

    The digest is that of the bytes that were meant: a file that differs from them is found by
    whoever compares it before it leaves the house.
    """
    with ThreadPoolExecutor(1) as beside:
        digest = beside.submit(_sha256, buffers)
        with path.open("wb") as file:
            for buffer in buffers:
                file.write(buffer)
            file.flush()
            os.fsync(file.fileno())
    return ResultFile(
        kind=kind,
        path=path.relative_to(root),
        sha256=digest.result(),
        size_bytes=sum(len(buffer) for buffer in buffers),
        sop_class_uid=sop_class_uid,
        sop_uid=sop_uid,
    )


def _sha256(buffers: Sequence[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for buffer in buffers:
        digest.update(buffer)
    return digest.hexdigest()

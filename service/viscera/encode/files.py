"""Files that stay: written, synced, and named by their digest."""

import hashlib
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

"""Files into a folder: whole or not at all."""

import hashlib
import os
import shutil
from pathlib import Path

from viscera.errors import PeerUnreachable
from viscera.files.durable import sync_folder
from viscera.files.part10 import is_uid


def place(folder: Path, series_uid: str, job_id: str, name: str) -> Path:
    """Return where a file belongs: ``<series UID>/<job>/<name>``.

    The job's id keeps apart the stacks and the versions of one series. What is no UID is hashed:
    a folder is never named by whatever a peer wrote.
    """
    if not is_uid(series_uid):
        series_uid = hashlib.sha256(series_uid.encode()).hexdigest()[:32]
    return folder / series_uid / job_id / name


def send_folder(source: Path, target: Path) -> None:
    """Copy `source` to `target`; when this returns, it survives a power cut.

    Raises
    ------
    PeerUnreachable
        If the folder cannot be written now.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as read, part.open("wb") as written:
            shutil.copyfileobj(read, written, 1 << 20)
            written.flush()
            os.fsync(written.fileno())
        part.replace(target)
        for folder in (target.parent, target.parent.parent, target.parent.parent.parent):
            sync_folder(folder)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise PeerUnreachable(f"the destination's folder cannot be written: {reason}") from error

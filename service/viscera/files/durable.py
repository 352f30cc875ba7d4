"""Files that survive a power cut: written whole, synced, and named only then."""

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from viscera.errors import SpoolFull

PART = ".part"
"""Ending of files that are being written."""

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def full_disk_named() -> Iterator[None]:
    """Turn the operating system's ways of saying "no room" into `SpoolFull`."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM | {errno.EFBIG}:
            raise
        raise SpoolFull(
            f"the spool's disk refused a write ({errno.errorcode[error.errno]}); free space and "
            "send again"
        ) from error


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    _sync(folder, os.O_DIRECTORY)


def sync_file(path: Path) -> None:
    """Make the bytes of a file durable, whoever wrote them."""
    _sync(path, 0)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, os.O_RDONLY | flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(root: Path, folder: Path) -> None:
    """Make `folder` below `root` and make its name and those of its parents durable.

    Parents are synced also where they exist: another process may have made them a moment ago.
    """
    folder.mkdir(parents=True, exist_ok=True)
    while folder != root:
        folder = folder.parent
        sync_folder(folder)


@contextmanager
def part_file(folder: Path, mtime_ns: int, buffers: Sequence[memoryview]) -> Iterator[Path]:
    """Write `buffers` durably under a temporary name and give it; it is gone afterwards.

    The file is locked while it is written, so that `remove_leftovers` of another process knows
    it from what a dead writer left behind.
    """
    path = folder / f"{secrets.token_hex(8)}{PART}"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        for buffer in buffers:
            _write_all(fd, buffer)
        os.utime(fd, ns=(mtime_ns, mtime_ns))
        os.fsync(fd)
        yield path
    finally:
        with suppress(FileNotFoundError):
            path.unlink()
        os.close(fd)


def put_new(target: Path, mtime_ns: int, buffers: Sequence[memoryview]) -> bool:
    """Give `buffers` the name `target` durably; False where the name was taken.

    Raises
    ------
    FileNotFoundError
        If the folder vanished (retention), or the temporary file did (a sweep that came between
        its creation and its lock): try again.
    """
    with part_file(target.parent, mtime_ns, buffers) as part:
        try:
            # A link never overwrites: of two writers one wins and the other learns of it.
            os.link(part, target)
        except FileExistsError:
            return False
    sync_folder(target.parent)
    return True


def remove_leftovers(root: Path) -> int:
    """Remove the temporary files of dead writers below `root`; return how many."""
    removed = 0
    for path in root.rglob(f"*{PART}"):
        with suppress(FileNotFoundError, BlockingIOError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                removed += 1
            finally:
                os.close(fd)
    return removed


def _write_all(fd: int, buffer: memoryview) -> None:
    done = 0
    while done < len(buffer):
        done += os.write(fd, buffer[done : done + (1 << 30)])

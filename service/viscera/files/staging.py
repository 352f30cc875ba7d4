"""Folders in which something is built aside, and what dead processes left of theirs."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = ".lock"
_UNLOCKED_S = 86_400.0
"""So old is no folder without a lock that somebody is still about to lock."""


@contextmanager
def staged(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a new folder in `parent`; it is gone afterwards.

    It is locked meanwhile, so that the next one knows it from what a dead process left behind,
    which it removes.

    Parameters
    ----------
    prefix
        Of its name; nothing else in `parent` begins so.
    """
    for left in parent.glob(f"{prefix}*"):
        _remove_dead(left)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    fd = _lock(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(fd)


def _lock(folder: Path) -> int:
    """Lock `folder`; its lock has its name only once it is held."""
    nameless = folder / f"{_LOCK}.part"
    fd = os.open(nameless, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    nameless.rename(folder / _LOCK)
    return fd


def _remove_dead(folder: Path) -> None:
    try:
        fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        if _is_old(folder):
            shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # held, or no locks here: then it stays for a person to see
        return
    finally:
        os.close(fd)


def _is_old(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > _UNLOCKED_S
    except OSError:  # its owner has just removed it
        return False

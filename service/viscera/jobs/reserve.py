"""Disk that is kept for the database: on a full disk even a claim, a few bytes, would fail."""

import contextlib
import os
from pathlib import Path

from viscera import log

_log = log.get(__name__)


class DiskReserve:
    """A file that holds space beside a SQLite database until the database needs it.

    Parameters
    ----------
    path
        The file; made and removed by this class alone.
    size_bytes
        How much to hold.
    """

    def __init__(self, path: Path, size_bytes: int = 16 << 20) -> None:
        self._path, self._size_bytes = path, size_bytes

    def hold(self) -> bool:
        """Allocate it where it is missing and the disk has twice the room; say whether it is held.

        Twice: taking the last free bytes would bring about what the file is there to prevent.
        """
        if self._path.exists():
            return True
        disk = os.statvfs(self._path.parent)
        if disk.f_bavail * disk.f_frsize < 2 * self._size_bytes:
            return False
        try:
            with self._path.open("xb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size_bytes)
        except FileExistsError:  # another role made it this moment
            return True
        except OSError:
            self.release()
            return False
        return True

    def release(self) -> None:
        """Give the space to the database; the retention sweep holds it again later."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
            _log.warning("disk_reserve_released", size_bytes=self._size_bytes)

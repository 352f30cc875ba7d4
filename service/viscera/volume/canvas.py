"""The memory that decoding children write slices into and the parent maps.

Anonymous files (memfd), not named shared memory: nothing is left behind by a SIGKILL, and a
container's 64 MB of /dev/shm is no limit. A page costs memory only once it is written, so the
canvas has room for every slice as int16 and as float32, and pays for what is used.
"""

import mmap
import os
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

import numpy as np

from viscera.domain.arrays import Mask, Voxels
from viscera.errors import HostMemoryFull
from viscera.volume.work import DecodedSlice


class Canvas:
    """Room for one volume.

    Parameters
    ----------
    shape
        (slices, rows, columns).
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._shape = shape
        self._files = ExitStack()
        self.fds = tuple(self._open(name) for name in ("whole", "real", "padding"))
        """Of the int16, the float32 and the padding plane; for the children."""

    def __enter__(self) -> Self:
        """Return the canvas itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the files; arrays that were taken keep their memory."""
        self._files.close()

    def take(self, slices: Iterable[DecodedSlice]) -> tuple[Voxels, Mask | None]:
        """Return the voxels and the padding, once every slice is written.

        Raises
        ------
        HostMemoryFull
            If the address space has no room for them.
        """
        slices = tuple(slices)
        padding = self._map(self.fds[2], np.bool_) if any(s.padded for s in slices) else None
        if all(s.whole for s in slices):
            return self._map(self.fds[0], np.int16), padding
        real = self._map(self.fds[1], np.float32)
        if any(s.whole for s in slices):
            whole = self._map(self.fds[0], np.int16)
            for s in slices:
                if s.whole:
                    real[s.slot] = whole[s.slot]
        return real, padding

    def _open(self, name: str) -> int:
        fd = os.memfd_create(f"viscera-{name}")
        self._files.callback(os.close, fd)
        return fd

    def _map(self, fd: int, dtype: type[np.generic]) -> np.ndarray:
        size_bytes = int(np.prod(self._shape, dtype=object)) * np.dtype(dtype).itemsize
        try:
            os.ftruncate(fd, size_bytes)
            memory = mmap.mmap(fd, size_bytes)
        except (OSError, OverflowError, ValueError) as error:
            raise HostMemoryFull(f"no room for a volume of {size_bytes >> 20} MB") from error
        with suppress(OSError):  # advice only: fewer page faults where the kernel takes it
            memory.madvise(mmap.MADV_HUGEPAGE)
        return np.frombuffer(memory, dtype=dtype).reshape(self._shape)


def write_slice(
    fds: tuple[int, ...],
    slot: int,
    values: np.ndarray,
    padded: np.ndarray | None,
    missing: int = 0,
) -> DecodedSlice:
    """Put one slice into the canvas behind `fds`. Runs in a child, which maps nothing.

    Parameters
    ----------
    fds
        As `Canvas.fds`.
    slot
        Slice of the volume, from 0.
    values
        (row, column), int16 or float32.
    padded
        (row, column), bool; None: no padding here.
    missing
        Pixels that were not in the file.
    """
    whole = values.dtype == np.int16
    _write(fds[0] if whole else fds[1], slot, values)
    if padded is not None:
        _write(fds[2], slot, padded)
    return DecodedSlice(slot=slot, whole=whole, padded=padded is not None, missing=missing)


def _write(fd: int, slot: int, values: np.ndarray) -> None:
    rest, at = np.ascontiguousarray(values).data.cast("B"), slot * values.nbytes
    while rest:
        written = os.pwrite(fd, rest, at)
        rest, at = rest[written:], at + written

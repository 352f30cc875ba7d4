"""A decoding child: `python -m viscera.volume.child SOCKET MEMORY_MB TIMEOUT_S`.

In: one message of `FrameWork` at a time, with the canvas' open files. Out: one message, the
slices written or the error. A decoder that hangs is ended by the alarm, also when the pool that
would have ended it is gone; one that crashes ends the child. Either way the pool sees the socket
close. End of the socket is end of work.
"""

import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import astuple
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import JPEGLSLossless, JPEGLSNearLossless, RLELossless

from viscera.errors import DatasetMismatch, ServiceError, StorageUnavailable, UndecodablePixels
from viscera.files.faults import storage_faults_named
from viscera.volume.canvas import write_slice
from viscera.volume.header import PixelHeader, read_header
from viscera.volume.jpeg12 import is_jpeg12, jpeg12_frames
from viscera.volume.native import native_frames
from viscera.volume.work import MAX_MESSAGE, DecodedSlice, FrameWork

_PLUGINS: dict[str, str] = {
    RLELossless: "pylibjpeg",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
}
"""Where pydicom's first choice is not the fastest; elsewhere it tries all it has, in its order."""


def decode(work: FrameWork, fds: tuple[int, ...]) -> list[DecodedSlice]:
    """Decode, mask and rescale the frames of `work` into the canvas behind `fds`.

    Raises
    ------
    DatasetMismatch, UndecodablePixels
        With the SOP instance UID and never a value of the data set.
    StorageUnavailable
        If the machine is at fault.
    """
    try:
        with storage_faults_named(), Path(work.path).open("rb") as file:
            header = read_header(file, work)
            return [
                write_slice(fds, slot, *header.rescale(work, frame).apply(stored, missing), missing)
                for (frame, slot), (stored, missing) in zip(
                    work.frames, _stored_frames(file, work, header), strict=True
                )
            ]
    except ServiceError:
        raise
    except MemoryError as error:
        raise UndecodablePixels(
            f"instance {work.sop_uid}: decoding needs more memory than one child may use "
            "(decode.memory_mb); check its rows and columns, or raise the limit"
        ) from error
    except Exception as error:  # decoders raise what they like; their texts may quote the file
        raise UndecodablePixels(
            f"instance {work.sop_uid}: its pixels cannot be decoded ({type(error).__name__}); "
            "the file is damaged, or nothing here decodes it: send it again, uncompressed"
        ) from error


def _stored_frames(
    file: BinaryIO, work: FrameWork, header: PixelHeader
) -> Iterator[tuple[np.ndarray, int]]:
    if header.native:
        yield from native_frames(file, header, work)
        return
    for stored in jpeg12_frames(header, work) if is_jpeg12(header) else _by_pydicom(header, work):
        if stored.shape != (work.rows, work.columns):
            raise UndecodablePixels(
                f"instance {work.sop_uid}: its pixels decode to {stored.shape}, its header "
                f"promises {(work.rows, work.columns)}"
            )
        yield header.pixels(stored), 0


def _by_pydicom(header: PixelHeader, work: FrameWork) -> Iterator[np.ndarray]:
    return iter_pixels(
        work.path,
        raw=True,
        indices=[frame - 1 for frame, _ in work.frames],
        decoding_plugin=_PLUGINS.get(header.transfer_syntax_uid, ""),
    )


def serve(channel: socket.socket, timeout_s: float) -> None:
    """Answer messages until the pool closes the socket."""
    channel.send(b"{}")
    while True:
        message, fds, _, _ = socket.recv_fds(channel, MAX_MESSAGE, 3)
        if not message:
            return
        signal.setitimer(signal.ITIMER_REAL, timeout_s)
        try:
            slices = decode(FrameWork.from_json(message), tuple(fds))
            answer = json.dumps({"slices": [astuple(s) for s in slices]})
        except (DatasetMismatch, StorageUnavailable, UndecodablePixels) as error:
            answer = json.dumps({"error": error.reason, "message": str(error)})
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for fd in fds:
                os.close(fd)
        channel.send(answer.encode())


def main() -> None:
    """Limit this process, load the decoders, serve."""
    fd, memory_mb, timeout_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    limit = memory_mb << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold patient data
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the pool ends us
    for module in ("gdcm", "openjpeg", "rle", "jpeg_ls"):
        import_module(module)
    with socket.socket(fileno=fd) as channel, suppress(BrokenPipeError):
        serve(channel, timeout_s)


if __name__ == "__main__":
    main()

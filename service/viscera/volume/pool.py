"""Warm decoding processes. A decoder is foreign code over foreign bytes: it may hang or crash.

Children are exec'ed, never forked, and get only paths and open files. One thread here waits for
each. A child that dies is replaced and the frame tried once more, for it may have been killed for
memory that others used; one that dies again, or overruns its time, costs the job an
`UndecodablePixels`.
"""

import json
import os
import queue
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

from viscera.config import DecodeSettings
from viscera.errors import (
    DatasetMismatch,
    HostMemoryFull,
    ServiceError,
    StorageUnavailable,
    UndecodablePixels,
)
from viscera.volume.canvas import Canvas
from viscera.volume.work import MAX_MESSAGE, DecodedSlice, FrameWork

_START_TIMEOUT_S = 60.0
_ORPHAN_GRACE_S = 5.0
"""A child's own alarm rings this much after our deadline: it is for children without a pool."""

_ERRORS: dict[str, type[ServiceError]] = {
    error.__name__: error for error in (DatasetMismatch, StorageUnavailable, UndecodablePixels)
}


class _ChildLost(Exception):
    """The child died."""


class _ChildSlow(_ChildLost):
    """The child said nothing in time."""


class _Child:
    """One process and the socket to it."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._timeout_s = settings.timeout_s
        self._ready = False
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "viscera.volume.child"),
                    *(str(theirs.fileno()), str(settings.memory_mb)),
                    str(settings.timeout_s + _ORPHAN_GRACE_S),
                ],
                pass_fds=(theirs.fileno(),),
                # OpenBLAS reserves address space per core, which the memory limit counts.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # decoders print what they find in the file
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self) -> None:
        """Wait for its first message."""
        try:
            self._receive(_START_TIMEOUT_S)
        except _ChildLost as error:
            self.end()
            raise HostMemoryFull(
                f"a decoding child did not start (exit {self._process.returncode}); "
                "check decode.memory_mb"
            ) from error
        self._ready = True

    def ask(self, work: FrameWork, fds: Sequence[int]) -> tuple[DecodedSlice, ...]:
        """Send `work`, wait for the answer, and first for a child that has just been started."""
        if not self._ready:
            self.wait_ready()
        try:
            socket.send_fds(self._channel, [work.to_json()], list(fds))
        except OSError as error:
            raise _ChildLost("it is gone") from error
        answer = json.loads(self._receive(self._timeout_s))
        if "error" in answer:
            raise _ERRORS[answer["error"]](answer["message"])
        return tuple(DecodedSlice(*fields) for fields in answer["slices"])

    def end(self) -> None:
        """Kill it and wait; idempotent."""
        self._channel.close()
        self._process.kill()
        self._process.wait()

    def _receive(self, timeout_s: float) -> bytes:
        self._channel.settimeout(timeout_s)
        try:
            message = self._channel.recv(MAX_MESSAGE)
        except TimeoutError as error:
            raise _ChildSlow(f"it took longer than {timeout_s:g} s") from error
        except OSError as error:
            raise _ChildLost("it crashed") from error
        if not message:
            raise _ChildLost("it crashed")
        return message


class DecodePool:
    """Warm children that decode for one role. Threads may share it; `close` it, or use ``with``.

    Raises
    ------
    HostMemoryFull
        If a child cannot start within its memory limit.
    """

    def __init__(self, settings: DecodeSettings) -> None:
        self._settings = settings
        self._closed = False
        self._threads = ThreadPoolExecutor(settings.processes, thread_name_prefix="decode")
        self._idle: queue.SimpleQueue[_Child] = queue.SimpleQueue()
        self._children = [_Child(settings) for _ in range(settings.processes)]
        try:
            for child in self._children:
                child.wait_ready()
                self._idle.put(child)
        except ServiceError:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return the pool itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the children."""
        self.close()

    @property
    def processes(self) -> int:
        """How many children decode at once."""
        return self._settings.processes

    @property
    def max_missing_share(self) -> float:
        """Share of a cut-off slice's pixels that may be missing."""
        return self._settings.max_missing_share

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the children that live now."""
        return tuple(child.pid for child in self._children)

    def close(self) -> None:
        """End the children; what they were decoding fails. Idempotent."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for child in self._children:
            child.end()
        self._threads.shutdown(wait=True)

    def decode(self, works: Sequence[FrameWork], canvas: Canvas) -> tuple[DecodedSlice, ...]:
        """Decode all of `works` into `canvas`.

        Raises
        ------
        DatasetMismatch, UndecodablePixels, StorageUnavailable
            The first that any instance raised; the rest is then not begun.
        HostMemoryFull
            If a child that died cannot be replaced.
        """
        futures = [self._threads.submit(self._decode_one, work, canvas.fds) for work in works]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            for future in futures:
                future.cancel()
            wait(futures)  # the canvas' files must stay open until nobody sends them
        for future in futures:
            if not future.cancelled() and (error := future.exception()) is not None:
                raise error
        return tuple(s for future in futures for s in future.result())

    def _decode_one(self, work: FrameWork, fds: Sequence[int]) -> tuple[DecodedSlice, ...]:
        child = self._idle.get()
        try:
            lost_before = False
            while True:
                if not child.alive:  # died between jobs, or at its start
                    child = self._replace(child)
                try:
                    return child.ask(work, fds)
                except _ChildLost as lost:
                    child = self._replace(child)
                    if lost_before or isinstance(lost, _ChildSlow):
                        raise UndecodablePixels(
                            f"instance {work.sop_uid}: its decoder was stopped, {lost}; "
                            "check the file"
                        ) from lost
                    lost_before = True  # the first time is perhaps not this instance's fault
        finally:
            self._idle.put(child)

    def _replace(self, child: _Child) -> _Child:
        """Return a fresh child in its place; `child` itself while closing."""
        child.end()
        if self._closed:
            return child
        fresh = _Child(self._settings)
        self._children[self._children.index(child)] = fresh
        return fresh

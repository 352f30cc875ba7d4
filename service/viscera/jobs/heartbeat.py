"""Heartbeats from a process that does no computing.

A worker that decodes or waits for the network's threads may hold Python's lock for long; its
leases are kept by a small child instead. The child reads from a pipe what to keep and ends when
the pipe closes, however the worker died; then the leases run out. A worker from which no progress
comes for long is ended by the child: see `stalled`.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Literal

from viscera import log
from viscera.config import LogSettings
from viscera.domain.jobs import Claim
from viscera.errors import LeaseLost, StoreUnavailable
from viscera.jobs import leases, schema
from viscera.jobs.database import Database
from viscera.jobs.moments import Timekeeper
from viscera.jobs.stalled import Watch, end_worker

_log = log.get(__name__)

Table = Literal["jobs", "submissions"]
Held = tuple[Table, Claim]
_CHUNK = 65536
_HELLO_S = 60.0
_ALIVE_PAUSE_S = 5.0
"""A child that waits for the store reads nothing; so seldom a word never fills the pipe."""


class Heartbeat:
    """The worker's side: which claims the child is to keep.

    Parameters
    ----------
    url
        Of the job store. Goes through the pipe: a command line is for all to see.
    lease_s
        Length of a lease; the child extends each at a third of it, or sooner.
    stall_s
        Silence after which the child ends this process.
    """

    def __init__(self, url: str, lease_s: float, stall_s: float) -> None:
        self._hello = {"url": url, "lease_s": lease_s, "stall_s": stall_s, "worker": os.getpid()}
        self._pause_s = min(_ALIVE_PAUSE_S, stall_s / 10)
        self._held: dict[str, Held] = {}
        self._begun: dict[str, Held] = {}
        self._told_s: dict[str, float] = {}
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    @contextmanager
    def keep(self, table: Table, claim: Claim) -> Iterator[None]:
        """Keep the lease while the block runs."""
        with self._lock:
            self._held[claim.id] = (table, claim)
            self._tell("keep", table, claim)
        try:
            yield
        finally:
            with self._lock:
                del self._held[claim.id]
                self._told_s.pop(claim.id, None)
                self._tell("drop", table, claim)

    @contextmanager
    def watching(self, what: str) -> Iterator[None]:
        """Have this process ended if the block takes longer than `stall_s`; there is no lease."""
        begun: Held = ("jobs", Claim(what, "", 0))
        with self._lock:
            self._begun[what] = begun
            self._tell("alive", *begun)
        try:
            yield
        finally:
            with self._lock:
                del self._begun[what]
                self._tell("drop", *begun)

    def alive(self, claim: Claim) -> None:
        """Say that the claim's work goes on; start the child if it is not there."""
        with self._lock:
            due = monotonic() >= self._told_s.get(claim.id, 0.0)
            if claim.id in self._held and due:
                self._told_s[claim.id] = monotonic() + self._pause_s
                self._tell("alive", self._held[claim.id][0], claim)
                return
        self.ensure()

    def close(self) -> None:
        """End the child. Idempotent."""
        with self._lock:
            self._end()

    def ensure(self) -> None:
        """Start the child if it is not there, and tell it everything that is held."""
        with self._lock:
            if self._child is None or self._child.poll() is not None:
                self._start()

    def _tell(self, what: str, table: Table, claim: Claim) -> None:
        if self._child is None or self._child.poll() is not None:
            self._start()  # which tells everything that is held
            return
        try:
            self._send({"what": what, "table": table, "claim": _fields(claim)})
        except OSError:
            self._start()

    def _start(self) -> None:
        if self._child is not None:
            self._end()
            _log.warning("heartbeat_restarted")
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "viscera.jobs.heartbeat"], stdin=subprocess.PIPE
        )
        try:
            self._send(self._hello)
            for what, told in (("keep", self._held), ("alive", self._begun)):
                for table, claim in told.values():
                    self._send({"what": what, "table": table, "claim": _fields(claim)})
        except OSError:
            # Ended at once; the next call tries again, and reports extend the lease meanwhile.
            _log.error("heartbeat_ended")

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None and child.stdin is not None:
            with suppress(BrokenPipeError):
                child.stdin.close()
            child.wait()

    def _send(self, line: dict[str, object]) -> None:
        if self._child is None or self._child.stdin is None:
            raise BrokenPipeError
        self._child.stdin.write(json.dumps(line).encode() + b"\n")
        self._child.stdin.flush()


def _fields(claim: Claim) -> list[object]:
    return [claim.id, claim.owner, claim.fence]


def beat(database: Database, held: dict[str, Held], time: Timekeeper, lease_s: float) -> None:
    """Extend every lease once; those that are lost are dropped, the worker learns it itself."""
    for table, claim in list(held.values()):
        try:
            with database.write() as connection:
                leases.extend(connection, schema.metadata.tables[table], claim, time.now(), lease_s)
        except LeaseLost:
            del held[claim.id]
        except StoreUnavailable as error:
            _log.warning("heartbeat_missed", error=str(error))


def obey(held: dict[str, Held], watch: Watch, line: bytes) -> None:
    """Do what one line of the pipe says."""
    told = json.loads(line)
    claim = Claim(*told["claim"])
    if told["what"] == "keep":
        held[claim.id] = (told["table"], claim)
        watch.hear(claim.id)
    elif told["what"] == "alive":
        watch.hear(claim.id)
    else:
        watch.forget(claim.id)
        if held.get(claim.id, (None, None))[1] == claim:
            del held[claim.id]


class Pipe:
    """Whole lines from a file descriptor, with a deadline."""

    def __init__(self, fd: int) -> None:
        self._fd, self._rest, self._lines = fd, b"", deque[bytes]()

    def line(self, timeout_s: float) -> bytes | None:
        """Return the next line, or None if none came in time. Raises `EOFError` at the end."""
        deadline_s = monotonic() + timeout_s
        while not self._lines:
            left_s = max(0.0, deadline_s - monotonic())
            if not select.select([self._fd], [], [], left_s)[0]:
                return None
            chunk = os.read(self._fd, _CHUNK)
            if not chunk:
                raise EOFError
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            self._lines.extend(lines)
        return self._lines.popleft()


def main() -> None:
    """Keep what standard input says until it closes."""
    # A signal to the whole group is the worker's to obey: it may still finish what it holds.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log.configure(LogSettings(), "work")
    with suppress(EOFError):
        _serve(Pipe(sys.stdin.fileno()))


def _serve(pipe: Pipe) -> None:
    hello = json.loads(pipe.line(_HELLO_S) or b"{}")
    lease_s = float(hello["lease_s"])
    database, time = Database(hello["url"]), Timekeeper(partial(datetime.now, UTC))
    held: dict[str, Held] = {}
    watch = Watch(float(hello["stall_s"]))
    pause_s = min(lease_s / 3, watch.pause_s)
    due_s = monotonic()  # one that is started again may be late already
    while True:
        line = pipe.line(max(0.0, due_s - monotonic()))
        if line is not None:
            obey(held, watch, line)
        elif watch.stalled():  # all was read: what waited while the store did counts first
            held.clear()  # also of a worker that not even the kernel can end
            end_worker(hello["worker"])
        if monotonic() >= due_s:
            beat(database, held, time, lease_s)
            due_s = monotonic() + pause_s


if __name__ == "__main__":
    main()

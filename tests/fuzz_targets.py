"""What the fuzzer feeds with bytes; a test feeds them what it found worth keeping.

A target returns if the bytes were handled as they should be: taken, or refused with one of our
errors. Whatever else is raised is a finding.
"""

import contextlib
import functools
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import attacks
from receive_support import PACS, FakeStore
from viscera import series
from viscera.config import DicomSettings, SeriesSettings
from viscera.errors import ServiceError
from viscera.files.part10 import read_header, read_meta
from viscera.jobs.spool import Spool
from viscera.metrics import ASSOCIATION_ENDS, Metrics
from viscera.receive import Indexer, Listener
from viscera.receive.listener import _quiet_libraries
from viscera.receive.server import BoundedHandler

LONGEST_S = 10.0
PREFIXES = (
    b"",
    attacks.associate_rq(calling="PACS"),
    attacks.associate_rq(calling="PACS") + attacks.store_request(1, "1.2.3", b"")[:-12],
)


def part10(data: bytes) -> None:
    """The head that the spool reads of each instance."""
    for read in (read_header, read_meta):
        with contextlib.suppress(ServiceError):
            read(lambda size: data[:size])


def dataset(data: bytes) -> None:
    """The header that a worker reads of each instance of a series."""
    path = _folder() / "instance.dcm"
    path.write_bytes(b"\0" * 128 + b"DICM" + data)
    with contextlib.suppress(ServiceError):
        series.examine([path], SeriesSettings(min_slices=1))


class _Pair(socket.socket):
    """One end of a local pair; it has none of TCP's options."""

    def setsockopt(self, *arguments) -> None:
        """Nothing to set."""


def pdu(data: bytes) -> None:
    """A connection that sends `data` and hangs up; the first byte says after what."""
    metrics, server = _listening()
    prefix = PREFIXES[data[0] % len(PREFIXES)] if data else b""
    ours, theirs = socket.socketpair()
    before = _ended(metrics)
    BoundedHandler(_Pair(fileno=ours.detach()), ("127.0.0.1", 1), server)
    with theirs:
        theirs.settimeout(LONGEST_S)
        try:
            theirs.sendall(prefix + data[1:])
            theirs.shutdown(socket.SHUT_WR)
            while theirs.recv(65536):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass
    deadline = time.monotonic() + LONGEST_S
    while server.active_associations:
        if time.monotonic() > deadline:
            raise AssertionError("an association outlived its connection")
        time.sleep(0.0005)
    ends = {end: n - before[end] for end, n in _ended(metrics).items() if n != before[end]}
    if sum(ends.values()) != 1 or "broken" in ends:
        raise AssertionError(f"counted as {ends}")


def _ended(metrics: Metrics) -> dict[str, float]:
    return {end: metrics.associations.labels(end)._value.get() for end in ASSOCIATION_ENDS}


@functools.cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="viscera-fuzz-"))


@functools.cache
def _listening():
    """Return a listener's parts that need no port: its server, and what it counts with."""
    spool = Spool(_folder() / "spool", reserve_bytes=0, clock=lambda: datetime.now(UTC))
    settings = DicomSettings(
        host="127.0.0.1", port=0, peers=(PACS,), pdu_timeout_s=2, max_instance_bytes=1 << 20
    )
    _quiet_libraries()
    metrics = Metrics()
    listener = Listener(settings, spool, Indexer(FakeStore(), spool), metrics)
    server = listener._make_server(0, None)
    server.socket.close()  # nobody calls there
    return metrics, server


TARGETS: Mapping[str, Callable[[bytes], None]] = {"part10": part10, "dataset": dataset, "pdu": pdu}

"""A destination that reads slowly gets all of it; one that stops reading holds up nothing."""

import random
import socket
import threading
import time as clock
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import AE, evt
from pynetdicom.sop_class import SegmentationStorage

from sendable import write_object
from viscera.config import Destination
from viscera.deliver import dicom
from viscera.domain.results import ResultKind
from viscera.errors import PeerUnreachable

TIMEOUT_S = 1.5
SIZE = 12_000_000
"""More than the kernel's buffers on the way take."""


@contextmanager
def slow_road(to_port: int, bytes_per_s: float, stops_after: int = 1 << 60) -> Iterator[int]:
    """A relay to `to_port` that reads so many bytes a second, and after some no more."""
    done = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def relay(source: socket.socket, sink: socket.socket, rate: float) -> None:
        passed, began = 0, clock.monotonic()
        while not done.is_set():
            if passed >= stops_after:
                done.wait(60)
            try:
                piece = source.recv(65536)
                sink.sendall(piece)
            except OSError:
                return
            if not piece:
                return
            passed += len(piece)
            done.wait(max(0.0, passed / rate - (clock.monotonic() - began)))

    def accept() -> None:
        here, _ = listener.accept()
        here.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        there = socket.create_connection(("127.0.0.1", to_port))
        sockets.extend((here, there))
        for pair in ((here, there, bytes_per_s), (there, here, 1e12)):
            threads.append(threading.Thread(target=relay, args=pair, daemon=True))
            threads[-1].start()

    sockets: list[socket.socket] = [listener]
    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        done.set()
        accepting.join(5)
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # a close waits for the thread that reads
            one.close()
        for thread in threads:
            thread.join(5)


@pytest.fixture
def pacs() -> Iterator[tuple[int, list[bytes]]]:
    """A storage provider: its port, and the pixels of what it was sent."""
    received: list[bytes] = []

    def store(event: evt.Event) -> int:
        received.append(event.dataset.PixelData)
        return 0x0000

    ae = AE()
    ae.add_supported_context(SegmentationStorage)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    yield server.server_address[1], received
    server.shutdown()


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.dcm"
    write_object(path, ResultKind.SEG)
    ds = dcmread(path)
    # No piece of it is like another, so that none can be lost, doubled or moved unseen.
    ds.add_new("PixelData", "OB", random.Random(SIZE).randbytes(SIZE))
    ds.save_as(path, enforce_file_format=True)
    return path


def send(path: Path, port: int) -> None:
    destination = Destination(
        name="slow", kind="dicom", host="127.0.0.1", port=port, timeout_s=TIMEOUT_S
    )
    dicom.send_dicom(path, destination, "VISCERA")


def test_a_slow_link_takes_longer_than_the_timeout_and_gets_all(
    large: Path, pacs: tuple[int, list[bytes]]
) -> None:
    port, received = pacs
    began = clock.monotonic()
    with slow_road(port, bytes_per_s=SIZE / 4) as road:
        send(large, road)
    assert clock.monotonic() - began > 2 * TIMEOUT_S
    assert received == [dcmread(large).PixelData]


def test_a_peer_that_stops_reading_is_left(large: Path, pacs: tuple[int, list[bytes]]) -> None:
    port, received = pacs
    began = clock.monotonic()
    with slow_road(port, 1e12, stops_after=1_000_000) as road, pytest.raises(PeerUnreachable):
        send(large, road)
    assert clock.monotonic() - began < 30
    assert received == []


def test_a_peer_that_reads_drop_by_drop_is_cut_off(
    large: Path, pacs: tuple[int, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom, "_SLOWEST_BYTES_PER_S", SIZE)
    began = clock.monotonic()
    with slow_road(pacs[0], bytes_per_s=100_000) as road, pytest.raises(PeerUnreachable):
        send(large, road)
    assert clock.monotonic() - began < 30

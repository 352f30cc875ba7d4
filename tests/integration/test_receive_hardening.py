"""Attacks that stock pynetdicom 3.0.4 falls to: each must free its slot, and others get through."""

import contextlib
import os
import socket
import threading
import time

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from instances import as_file, ct_dataset
from peers import wait_for
from receive_support import Sender, fragment, receiver, store_request

CT = [(CTImageStorage, [ExplicitVRLittleEndian])]


@pytest.fixture
def running(tmp_path):
    limits = {"pdu_timeout_s": 0.5, "idle_timeout_s": 60, "max_instance_bytes": 1 << 20}
    with receiver(tmp_path, **limits) as receive:
        yield receive


def freed(running, within_s: float) -> None:
    wait_for(lambda: running.associations_open() == 0, within_s, "the slot freed")
    assert Sender(running.listener.port).send(ct_dataset()) == [0]


@pytest.mark.parametrize("half", [b"\x04", b"\x04\0\0\0", b"\x04\0\0\0\x10\0" + b"\0" * 99])
def test_half_a_pdu_does_not_hold_its_slot(running, half):
    with Sender(running.listener.port, contexts=CT).association() as assoc:
        assoc.dul.socket.socket.sendall(half)
        freed(running, 3)


def test_a_trickle_does_not_extend_the_deadline(running):
    with Sender(running.listener.port, contexts=CT).association() as assoc:
        raw = assoc.dul.socket.socket
        raw.sendall(b"\x04\0\0\0\x10\0")
        began = time.monotonic()
        while running.associations_open() and time.monotonic() - began < 5:
            try:
                raw.sendall(b"\0")
            except OSError:
                break
            time.sleep(0.1)
        freed(running, 1)
        assert time.monotonic() - began < 4


def test_a_pdu_length_of_4_gib_is_not_believed(running):
    with Sender(running.listener.port, contexts=CT).association() as assoc:
        assoc.dul.socket.socket.sendall(b"\x04\0\xff\xff\xff\xff" + b"\0" * 1000)
        freed(running, 0.4)  # at once, not after the PDU's deadline


def flood(raw: socket.socket, piece: bytes, most_bytes: int) -> int:
    """Send `piece` again and again until the peer hangs up; return how many bytes went out."""
    sent = 0
    with contextlib.suppress(OSError):
        while sent < most_bytes:
            sent += raw.send(piece)
            time.sleep(0.0005)
    return sent


def test_fragments_that_never_end_are_capped(running):
    with Sender(running.listener.port, contexts=CT).association() as assoc:
        (context,) = assoc.accepted_contexts
        piece = fragment(context.context_id, 0, b"\0" * 60_000)
        # The cap is 1 MiB; the rest lay in the sockets' buffers.
        assert flood(assoc.dul.socket.socket, piece, 64 << 20) < 16 << 20
        freed(running, 3)


def test_requests_that_do_not_wait_for_answers_are_bounded(running):
    with Sender(running.listener.port, contexts=CT).association() as assoc:
        (context,) = assoc.accepted_contexts
        data = as_file(ct_dataset())
        piece = store_request(context.context_id, "1.2.3", data[: len(data) // 2]) * 20
        assert flood(assoc.dul.socket.socket, piece, 64 << 20) < 16 << 20
        freed(running, 3)


def test_a_command_set_that_is_none_ends_only_its_association(running):
    with Sender(running.listener.port, contexts=CT).association() as assoc:
        (context,) = assoc.accepted_contexts
        assoc.dul.socket.socket.sendall(fragment(context.context_id, 3, b"\0" * 12))
        freed(running, 3)


def test_a_connection_that_says_nothing_is_closed(running):
    with socket.create_connection(("127.0.0.1", running.listener.port)) as silent:
        silent.settimeout(5)
        assert silent.recv(100) == b""
    freed(running, 1)


def test_more_connections_than_twice_the_associations_are_closed_unheard(tmp_path):
    with receiver(tmp_path, max_associations=2, pdu_timeout_s=20) as receive:
        port = receive.listener.port
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
        try:
            wait_for(lambda: len(receive.listener._servers[0].active_associations) == 4, 5, "four")
            with socket.create_connection(("127.0.0.1", port)) as fifth:
                fifth.settimeout(5)
                assert fifth.recv(100) == b""
        finally:
            for connection in silent:
                connection.close()
        wait_for(lambda: not receive.listener._servers[0].active_associations, 5, "all ended")
        assert Sender(port).send(ct_dataset()) == [0]


def test_noise_instead_of_dicom(running):
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x01\0\0\0\0\x04\0\0\0\0", bytes(range(256)) * 9):
        with socket.create_connection(("127.0.0.1", running.listener.port)) as peer:
            peer.sendall(noise)
            peer.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                while peer.recv(1000):
                    pass
    freed(running, 1)


def test_threads_and_descriptors_are_given_back(running):
    def held() -> tuple[int, int]:
        return threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    Sender(running.listener.port).send(ct_dataset())
    wait_for(lambda: not running.listener._servers[0].active_associations, 5, "the end")
    before = held()
    for _ in range(10):
        Sender(running.listener.port).send(ct_dataset())
        Sender(running.listener.port, calling="NOBODY", contexts=CT).send(ct_dataset())

    def given_back() -> bool:
        return all(now <= then for now, then in zip(held(), before, strict=True))

    wait_for(given_back, 5, "threads and descriptors given back")

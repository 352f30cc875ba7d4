"""One connection, plain or TLS: every wait for the peer has an end.

Neither the length of a PDU nor the pace of its bytes is the peer's to choose, and a TLS handshake
runs in the connection's own thread: it blocks nobody else.
"""

import contextlib
import os
import select
import socket
import ssl
import time
from typing import Protocol

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from viscera.config import DicomSettings
from viscera.receive.tls import PeerCertificate

_HEADER_BYTES = 6
_MIN_ASSOCIATE_BYTES = 1 << 16
"""Room for an A-ASSOCIATE-RQ of 128 presentation contexts, whatever P-DATA is limited to."""
_WAIT_S = 0.1
_READ_AHEAD_BYTES = 1 << 14
"""One TLS record."""
_CLOSED = "Evt17"
"""PS3.8 9.2: transport connection closed."""


class Ending(Protocol):
    """What is told of why a connection ends."""

    def ends_by(self, reason: str) -> None:
        """Keep the first `reason`, one of `metrics.ASSOCIATION_ENDS`."""


class BoundedSocket(AssociationSocket):
    """Reads with a deadline and a cap; waits for the peer or for our own answer, no polling."""

    def __init__(
        self, assoc: Association, connection: socket.socket, limits: DicomSettings, ending: Ending
    ) -> None:
        super().__init__(assoc, client_socket=connection)
        self._ending = ending
        self._pdu_timeout_s = limits.pdu_timeout_s
        self._max_bytes = max(limits.max_pdu_bytes, _MIN_ASSOCIATE_BYTES) + _HEADER_BYTES
        self._deadline = 0.0
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()  # select() cannot take descriptors above 1023
        self._poll.register(connection, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        # One bound for a peer that does not read our answers either.
        connection.settimeout(limits.pdu_timeout_s)

    def wake(self) -> None:
        """End the wait in `ready`; from any thread."""
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def forget(self) -> None:
        """Close the descriptor behind `wake`; after both threads are done."""
        with contextlib.suppress(OSError):
            os.close(self._wake)

    @property
    def ready(self) -> bool:
        """Whether the peer sent something; returns early when there is something to send."""
        if self.socket is None or not self._is_connected:
            return False
        try:
            readable = self._has_data(self.socket)
        except (OSError, ValueError):
            self._ending.ends_by("connection_closed")
            self.event_queue.put(_CLOSED)
            return False
        if readable:
            # Acknowledge at once, or a sender with Nagle's algorithm (dcmtk's default) waits
            # 40 ms for us at the end of every message. The kernel forgets it, so every time.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            self._deadline = time.monotonic() + self._pdu_timeout_s
        return readable

    def recv(self, nr_bytes: int) -> bytearray:
        """Read `nr_bytes`, or less where the peer closed.

        Raises
        ------
        OSError
            If the PDU is longer than the cap, or did not arrive within its time.
        """
        if nr_bytes > self._max_bytes:
            self._ending.ends_by("pdu_too_long")
            raise OSError(f"a PDU of {nr_bytes} bytes; the largest we take is {self._max_bytes}")
        data = bytearray(nr_bytes)
        view, at = memoryview(data), 0
        try:
            while at < nr_bytes and (got := self._read_some(view[at:])):
                at += got
        except TimeoutError:
            self._ending.ends_by("pdu_too_slow")
            raise
        view.release()
        del data[at:]
        assert self.socket is not None
        self.socket.settimeout(self._pdu_timeout_s)
        return data

    def _wait(self) -> bool:
        """Wait a moment for the peer or for `wake`; return whether the peer sent something."""
        assert self.socket is not None
        # What was read and is not yet acted upon must not wait for what comes next.
        patience_s = _WAIT_S if self.event_queue.empty() else 0
        descriptors = {fd for fd, _ in self._poll.poll(patience_s * 1000)}
        if self._wake in descriptors:
            os.eventfd_read(self._wake)
        return self.socket.fileno() in descriptors

    def _has_data(self, connection: socket.socket) -> bool:
        return self._wait()

    def _read_some(self, into: memoryview) -> int:
        assert self.socket is not None
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the PDU did not arrive within dicom.pdu_timeout_s")
        self.socket.settimeout(left_s)
        return self.socket.recv_into(into)

    def _shutdown_socket(self) -> None:
        # Stock forgets to close where the peer was first to hang up.
        if self.socket is not None:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()


class SecureSocket(BoundedSocket):
    """TLS: shakes hands step by step, then hands over only what was decrypted."""

    def __init__(
        self, assoc: Association, connection: ssl.SSLSocket, limits: DicomSettings, ending: Ending
    ) -> None:
        super().__init__(assoc, connection, limits, ending)
        self._shake_until = time.monotonic() + limits.pdu_timeout_s
        self.is_shaken = False
        self._ahead = b""
        self._ended = False
        self.certificate: PeerCertificate | None = None

    def _has_data(self, connection: socket.socket) -> bool:
        assert isinstance(connection, ssl.SSLSocket)
        return self._read_ahead(connection) if self.is_shaken else self._shake(connection)

    def _shake(self, connection: ssl.SSLSocket) -> bool:
        """Go one step on in the handshake; there is no data before its end."""
        if time.monotonic() > self._shake_until:
            self._ending.ends_by("tls_too_slow")
            raise TimeoutError("no TLS handshake within dicom.pdu_timeout_s")
        connection.settimeout(0)
        try:
            connection.do_handshake()
            self.is_shaken = True
            self.certificate = PeerCertificate.of(connection)
        except ssl.SSLWantReadError:
            self._wait()
        except ssl.SSLWantWriteError:
            time.sleep(_WAIT_S)
        except OSError:
            self._ending.ends_by("tls_failed")
            raise
        finally:
            connection.settimeout(self._pdu_timeout_s)
        return False

    def _read_ahead(self, connection: ssl.SSLSocket) -> bool:
        """Decrypt a little: a readable socket may hold but a piece of a record, or none."""
        if not self._ahead and not self._ended and not connection.pending():
            self._wait()
        if self._ahead or self._ended:
            return True
        connection.settimeout(0)
        try:
            self._ahead = connection.recv(_READ_AHEAD_BYTES)
            self._ended = not self._ahead
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        finally:
            connection.settimeout(self._pdu_timeout_s)
        return True

    def _read_some(self, into: memoryview) -> int:
        if not self._ahead:
            return super()._read_some(into)
        size = min(len(into), len(self._ahead))
        into[:size] = self._ahead[:size]
        self._ahead = self._ahead[size:]
        return size

    def _shutdown_socket(self) -> None:
        # RFC 9325 has both sides say that they close; we do not wait for the other's word.
        if isinstance(self.socket, ssl.SSLSocket) and self.is_shaken:
            with contextlib.suppress(OSError, ValueError):
                self.socket.settimeout(0)
                self.socket.unwrap()
        super()._shutdown_socket()

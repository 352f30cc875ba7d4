"""C-STORE: one association that carries objects while there are some."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    SegmentationStorage,
)
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from viscera.config import Destination
from viscera.deliver.answers import require_taken
from viscera.errors import PeerRefused, PeerUnreachable

# Send a file's bytes as they are: decoding and encoding again might change them.
_config.STORE_SEND_CHUNKED_DATASET = True

# (SOP class, transfer syntax): an association proposes only one syntax per context, so that the
# destination cannot accept another one than the file has.
Kind = tuple[str, str]
_COMPANIONS: tuple[Kind, ...] = tuple(
    (str(sop_class), str(ExplicitVRLittleEndian))
    for sop_class in (
        SegmentationStorage,
        ComprehensiveSRStorage,
        EnhancedSRStorage,
        Comprehensive3DSRStorage,
    )
)


_SLOWEST_BYTES_PER_S = 100_000
"""Of a link that still counts as one: the answer may take that much longer for a large object."""


class DicomLink:
    """An association with one destination, opened by the first object. Not thread-safe.

    Parameters
    ----------
    destination
        Of kind ``dicom``.
    ae_title
        Our calling AE title.
    """

    def __init__(self, destination: Destination, ae_title: str) -> None:
        self._destination, self._ae_title = destination, ae_title
        self._assoc: Association | None = None
        self._proposed: frozenset[Kind] = frozenset()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def send(self, path: Path) -> None:
        """Store one DICOM file; when this returns, the destination has it.

        Raises
        ------
        PeerUnreachable
            If it may go better later.
        PeerRefused
            If it would not.
        """
        meta = read_file_meta_info(path)
        kind = (str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID))
        sop_uid = str(meta.MediaStorageSOPInstanceUID)
        assoc = self._associate(kind)
        if not _accepts(assoc, kind):
            raise PeerRefused(
                f"SOP instance {sop_uid}: the destination accepts no SOP class {kind[0]} in "
                f"transfer syntax {kind[1]}; allow it there"
            )
        timeout_s = self._destination.timeout_s
        # It counts from when the object is queued, not from when the last of it went out.
        assoc.dimse_timeout = timeout_s + path.stat().st_size / _SLOWEST_BYTES_PER_S
        try:
            with _cut_after(assoc, assoc.dimse_timeout + timeout_s):
                answer = assoc.send_c_store(path)
        except RuntimeError as error:  # the association ended a moment ago
            raise PeerUnreachable(f"SOP instance {sop_uid}: the association ended") from error
        require_taken(answer.Status if "Status" in answer else None, sop_uid)

    def close(self) -> None:
        """Release the association if there is one. Idempotent."""
        assoc, self._assoc = self._assoc, None
        if assoc is not None and assoc.is_established:
            assoc.release()

    def _associate(self, kind: Kind) -> Association:
        """Return an association that proposed `kind`: the open one, or a new one."""
        if self._assoc is not None and self._assoc.is_established and kind in self._proposed:
            return self._assoc
        self.close()
        proposed = dict.fromkeys((kind, *_COMPANIONS))
        ae = AE(ae_title=self._ae_title)
        ae.connection_timeout = ae.acse_timeout = self._destination.timeout_s
        ae.dimse_timeout = ae.network_timeout = self._destination.timeout_s
        assoc = ae.associate(
            self._destination.host,
            self._destination.port,
            contexts=[build_context(*each) for each in proposed],
            ae_title=self._destination.ae_title,
            evt_handlers=[(evt.EVT_CONN_OPEN, _bound_sends, [self._destination.timeout_s])],
        )
        if not assoc.is_established:
            # Each of its accepted contexts may be none: then every object is refused by name.
            if assoc.is_aborted and assoc.rejected_contexts:
                raise PeerRefused("the destination accepts none of our SOP classes; allow them")
            raise PeerUnreachable(_why_not(assoc, self._destination.name))
        self._assoc, self._proposed = assoc, frozenset(proposed)
        return assoc


def send_dicom(path: Path, destination: Destination, ae_title: str) -> None:
    """Store one DICOM file over an association of its own; see :meth:`DicomLink.send`."""
    with DicomLink(destination, ae_title) as link:
        link.send(path)


def _accepts(assoc: Association, kind: Kind) -> bool:
    return any(
        context.abstract_syntax == kind[0] and kind[1] in context.transfer_syntax
        for context in assoc.accepted_contexts
    )


def _why_not(assoc: Association, name: str) -> str:
    if assoc.is_rejected:
        return f"destination {name} rejected the association; does it know our AE title?"
    return f"destination {name} does not answer, or ended the association; does it run?"


def _bound_sends(event: evt.Event, timeout_s: float) -> None:
    """Bound how long the peer may read nothing, and do not wait for its acknowledgements.

    Those are delayed, which costs 40 ms a message. pynetdicom's own sends wait for ever.
    """
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.socket.settimeout(timeout_s)


@contextmanager
def _cut_after(assoc: Association, limit_s: float) -> Iterator[None]:
    """Cut the connection if the block takes longer.

    An abort waits for the thread that sends, and a peer that reads drop by drop holds that one.
    """

    def cut() -> None:
        connection = assoc.dul.socket
        if connection is not None and connection.socket is not None:
            with suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(limit_s, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()

"""Asks a destination to be responsible for an object: N-ACTION of the push model.

On an association of its own: a report may come on it, and would meet a C-STORE there.

References
----------
DICOM PS3.4 annex J.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import StorageCommitmentPushModelInstance

from viscera.config import Destination
from viscera.deliver.event_report import PUSH_MODEL, ReportScp
from viscera.domain.results import ResultFile
from viscera.errors import PeerUnreachable

_WELL_KNOWN = str(StorageCommitmentPushModelInstance)
_REQUEST = 1
"""Action type: request storage commitment."""


def new_transaction_uid() -> str:
    """Return a UID that nobody can guess (PS3.5 B.2)."""
    return f"2.25.{uuid4().int}"


class CommitmentRequest:
    """An association that asks once; see :func:`committing`."""

    def __init__(self, assoc: Association, reported: threading.Event) -> None:
        self._assoc, self._reported = assoc, reported

    @property
    def is_offered(self) -> bool:
        """Whether the destination commits at all."""
        return bool(self._assoc.accepted_contexts)

    def send(self, transaction_uid: str, file: ResultFile) -> None:
        """Ask for one object; when this returns, the destination will report.

        Raises
        ------
        PeerUnreachable
            If it does not answer, or says no: it has the object, and may commit later.
        """
        item = Dataset()
        item.ReferencedSOPClassUID = file.sop_class_uid
        item.ReferencedSOPInstanceUID = file.sop_uid
        request = Dataset()
        request.TransactionUID = transaction_uid
        request.ReferencedSOPSequence = [item]
        try:
            answer, _ = self._assoc.send_n_action(request, _REQUEST, PUSH_MODEL, _WELL_KNOWN)
        except RuntimeError as error:  # the association ended a moment ago
            raise PeerUnreachable(
                "the association ended before commitment was asked for"
            ) from error
        if "Status" not in answer:
            raise PeerUnreachable("the association ended without an answer to N-ACTION")
        if answer.Status != 0x0000:
            raise PeerUnreachable(
                f"the destination does not commit: N-ACTION was answered 0x{answer.Status:04X}; "
                "does it know our AE title and address?"
            )

    def wait(self, seconds: float) -> bool:
        """Whether a report comes on this association soon."""
        return self._reported.wait(seconds)


@contextmanager
def committing(
    destination: Destination, ae_title: str, reports: ReportScp
) -> Iterator[CommitmentRequest]:
    """Open an association for one request, and release it.

    Parameters
    ----------
    reports
        Answers what is reported on it.

    Raises
    ------
    PeerUnreachable
        If there is none to be had.
    """
    reported = threading.Event()

    def on_report(event: evt.Event) -> tuple[int, None]:
        status = reports.answer(event, destination.name)
        reported.set()
        return status, None

    ae = AE(ae_title=ae_title)
    ae.connection_timeout = ae.acse_timeout = destination.timeout_s
    ae.dimse_timeout = destination.timeout_s
    ae.network_timeout = None  # `CommitmentRequest.wait` ends it
    ae.add_requested_context(PUSH_MODEL, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    assoc = ae.associate(
        destination.host,
        destination.port,
        ae_title=destination.ae_title,
        evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)],
    )
    # pynetdicom aborts where no context was accepted.
    if not assoc.is_established and not assoc.rejected_contexts:
        raise PeerUnreachable(
            f"destination {destination.name} gives no association to ask for commitment"
        )
    try:
        yield CommitmentRequest(assoc, reported)
    finally:
        if assoc.is_established:
            assoc.release()

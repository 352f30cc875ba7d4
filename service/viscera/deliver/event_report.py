"""One N-EVENT-REPORT of storage commitment: from the request to its answer.

It comes on an association of the PACS's own, to the listener, or on the one that asked.

References
----------
DICOM PS3.4 J.3.3 (the report) and PS3.7 10.1.1 (statuses).
"""

from io import BytesIO
from typing import cast

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from viscera import log
from viscera.deliver.outbox import Transactions
from viscera.domain.jobs import CommitmentReport
from viscera.errors import SpoolFull
from viscera.files.part10 import is_uid
from viscera.metrics import Metrics

_log = log.get(__name__)

PUSH_MODEL = str(StorageCommitmentPushModel)

TAKEN = 0x0000
FAILED = 0x0110
NO_SUCH_EVENT = 0x0113
INVALID_ARGUMENT = 0x0115
"""No transaction of ours, or one that cannot be read."""
NO_SUCH_CLASS = 0x0118
NO_ROOM = 0x0213

_EVENTS = (1, 2)
"""Everything is committed; something is not."""
_MOST_BYTES = 1 << 20
_MOST_REFERENCES = 1000


class ReportScp:
    """Answers reports; called in association threads, and never waits for the job store.

    Parameters
    ----------
    transactions
        Knows what was asked, and keeps what is reported.
    metrics
        Counts reports that are not kept.
    """

    def __init__(self, transactions: Transactions, metrics: Metrics) -> None:
        self._transactions, self._metrics = transactions, metrics

    def answer(self, event: evt.Event, peer: str) -> int:
        """Take one report and return its status: `TAKEN` once it is durable.

        Parameters
        ----------
        peer
            Our name of who reports, for the log.
        """
        try:
            return self._take(event, peer)
        except SpoolFull as error:
            _log.error("commitment_report_put_off", peer=peer, error=str(error))
            return NO_ROOM
        except Exception as error:  # a data set that is none, or a disk that does not answer
            self._metrics.commitments.labels("invalid").inc()
            _log.error("commitment_report_broke", peer=peer, error=type(error).__name__)
            return FAILED

    def _take(self, event: evt.Event, peer: str) -> int:
        if event.context.abstract_syntax != PUSH_MODEL:
            return self._refuse(NO_SUCH_CLASS, "class", peer)
        if event.event_type not in _EVENTS:
            return self._refuse(NO_SUCH_EVENT, "event_type", peer)
        information = cast(N_EVENT_REPORT, event.request).EventInformation or BytesIO()
        if len(information.getbuffer()) > _MOST_BYTES:
            return self._refuse(INVALID_ARGUMENT, "size", peer)
        report = _read(event.event_information)
        if report is None:
            return self._refuse(INVALID_ARGUMENT, "information", peer)
        if not self._transactions.is_asked(report.transaction_uid):
            self._metrics.commitments.labels("unknown_transaction").inc()
            _log.warning(
                "commitment_transaction_unknown", peer=peer, transaction_uid=report.transaction_uid
            )
            return INVALID_ARGUMENT
        self._transactions.keep(report)
        _log.info(
            "commitment_reported",
            peer=peer,
            transaction_uid=report.transaction_uid,
            committed=len(report.committed),
            failed=len(report.failed),
        )
        return TAKEN

    def _refuse(self, status: int, because: str, peer: str) -> int:
        self._metrics.commitments.labels("invalid").inc()
        _log.warning("commitment_report_invalid", peer=peer, because=because)
        return status


def _read(information: Dataset) -> CommitmentReport | None:
    """Return what a report says; None where that cannot be."""
    transaction_uid = str(information.get("TransactionUID") or "")
    committed = list(information.get("ReferencedSOPSequence") or ())
    failed = list(information.get("FailedSOPSequence") or ())
    if not is_uid(transaction_uid) or len(committed) + len(failed) > _MOST_REFERENCES:
        return None
    uids = [str(item.get("ReferencedSOPInstanceUID") or "") for item in (*committed, *failed)]
    if not all(map(is_uid, uids)):
        return None
    reasons = [int(item.get("FailureReason") or FAILED) for item in failed]
    return CommitmentReport(
        transaction_uid=transaction_uid,
        committed=frozenset(uids[: len(committed)]),
        failed=dict(zip(uids[len(committed) :], reasons, strict=True)),
    )

"""One C-STORE: from the request to its answer."""

from collections import Counter
from dataclasses import dataclass
from typing import Self, cast

from pydicom.dataset import Dataset
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event

from viscera import log
from viscera.domain.sources import Origin
from viscera.errors import InvalidUID, ServiceError, UnsupportedSOPClass
from viscera.files.part10 import is_uid
from viscera.jobs.spool import Spool
from viscera.metrics import Metrics
from viscera.receive.classes import IMAGES
from viscera.receive.file_meta import file_header
from viscera.receive.indexer import Indexer
from viscera.receive.policy import AdmittedPeer
from viscera.statuses import outward

_log = log.get(__name__)

_SUCCESS = 0x0000


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRequest:
    """What one C-STORE request says. `data_set` holds the bytes as they came."""

    sop_class_uid: str
    sop_uid: str
    context_sop_class_uid: str
    """Of the presentation context that carried it."""
    transfer_syntax_uid: str
    data_set: memoryview

    @classmethod
    def of(cls, event: Event) -> Self:
        """Read it from pynetdicom's event."""
        request = cast(C_STORE, event.request)
        data_set = request.DataSet
        return cls(
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_uid=str(request.AffectedSOPInstanceUID),
            context_sop_class_uid=str(event.context.abstract_syntax),
            transfer_syntax_uid=str(event.context.transfer_syntax),
            data_set=data_set.getbuffer() if data_set is not None else memoryview(b""),
        )


class StoreScp:
    """Answers C-STORE requests; called in association threads."""

    def __init__(self, spool: Spool, index: Indexer, metrics: Metrics) -> None:
        self._spool = spool
        self._index = index
        self._metrics = metrics

    def answer(
        self, request: StoreRequest, peer: AdmittedPeer, outcomes: Counter[str]
    ) -> int | Dataset:
        """Take one instance and return the C-STORE status.

        Parameters
        ----------
        request
            The instance.
        peer
            Who sends.
        outcomes
            Of this association; counted up.

        Returns
        -------
        int or Dataset
            0x0000 once the bytes are durable, or because this class is dropped for this peer.
            Otherwise the status of `viscera.statuses`, with our error's name as comment.
        """
        try:
            outcome, reason, status = self._take(request, peer), "", _SUCCESS
        except Exception as error:
            reason = error.reason if isinstance(error, ServiceError) else ServiceError.__name__
            outcome, status = "rejected", outward(error).dimse
            _report(request, error, reason, status)
        outcomes[outcome] += 1
        self._metrics.instances.labels(outcome, reason).inc()
        return status if status == _SUCCESS else _refusal(status, reason)

    def _take(self, request: StoreRequest, peer: AdmittedPeer) -> str:
        sop_class = request.sop_class_uid
        if sop_class != request.context_sop_class_uid:
            raise UnsupportedSOPClass("the SOP class is not that of its presentation context")
        if sop_class in peer.dropped:
            return "dropped"
        if sop_class not in IMAGES:
            raise UnsupportedSOPClass(f"SOP class {sop_class} is not taken from peer {peer.name}")
        stored = self._spool.put(
            origin=Origin.DICOM,
            principal=peer.name,
            part10=[_file_header(request), request.data_set],
        )
        # Repeats too: they keep the series open, and ask again where nothing had come of it.
        self._index.add(stored.arrival)
        return "repeated" if stored.repeated else "stored"


def _file_header(request: StoreRequest) -> bytes:
    if not is_uid(request.sop_uid):
        raise InvalidUID(
            "the requested SOP Instance UID is not a UID as DICOM PS3.5 section 9 has it"
        )
    return file_header(
        sop_class_uid=request.sop_class_uid,
        sop_uid=request.sop_uid,
        transfer_syntax_uid=request.transfer_syntax_uid,
    )


def _report(request: StoreRequest, error: Exception, reason: str, status: int) -> None:
    uid = request.sop_uid if is_uid(request.sop_uid) else ""
    facts = {"reason": reason, "status": f"0x{status:04X}", "sop_uid": uid}
    if isinstance(error, ServiceError):
        _log.warning("instance_rejected", message=str(error), **facts)
    else:
        _log.error("instance_rejected", exc_info=error, **facts)


def _refusal(status: int, reason: str) -> Dataset:
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = reason  # LO, at most 64 characters: our class names are shorter
    return answer

"""Ask a PACS for a study: C-FIND for its series, C-MOVE of each to our own listener.

What is moved comes like anything that a peer pushes: over the listener, into the spool.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

from viscera.config import DicomSettings, Peer
from viscera.errors import InvalidRequest, PeerRefused, PeerUnreachable
from viscera.files.part10 import is_uid

FIND = str(StudyRootQueryRetrieveInformationModelFind)
MOVE = str(StudyRootQueryRetrieveInformationModelMove)

_SUCCESS, _PENDING = 0x0000, (0xFF00, 0xFF01)
_UNKNOWN_DESTINATION = 0xA801
_MOST_SERIES = 2000
_ANSWER_S = 60.0
FIND_S = 60.0
"""C-FIND asks the PACS's database only."""
_MOVE_S = 900.0
"""A PACS may be silent while it fetches a series from its archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSeries:
    """One series of a study, as the PACS tells it."""

    series_uid: str
    modality: str
    instances: int | None
    """As far as the PACS counts them."""


def find_peer(settings: DicomSettings, name: str) -> Peer:
    """Return the peer that is called `name`, or has it as AE title, and can be asked.

    Raises
    ------
    InvalidRequest
        If there is none.
    """
    named = [peer for peer in settings.peers if name in (peer.name, peer.ae_title)]
    found = next((peer for peer in named if peer.host), None)
    if found is not None:
        return found
    if named:
        raise InvalidRequest(f"dicom.peers: {named[0].name} has no host; set host and port")
    known = ", ".join(peer.name for peer in settings.peers) or "none"
    raise InvalidRequest(f"dicom.peers has no {name}; known: {known}")


class Puller:
    """An association with a PACS that finds and moves. Use as the value of :func:`asking`.

    Parameters
    ----------
    assoc
        Established.
    peer
        Whom it asks.
    ae_title
        Ours: where the PACS shall send to.
    """

    def __init__(self, assoc: Association, peer: Peer, ae_title: str) -> None:
        self._assoc, self._peer, self._ae_title = assoc, peer, ae_title
        self._is_aborted = False

    def abort(self) -> None:
        """Break off whatever is asked; it ends as `PeerUnreachable`. Repeat until it has."""
        if not self._is_aborted:
            self._is_aborted = True
            self._assoc.abort(block=False)
            # Its threads end when the PACS closes the connection; a frozen one takes a minute.
            threading.Thread(target=self._assoc.kill, daemon=True).start()
        # Who waits for an answer is not told of our own abort, and pynetdicom's loop may take this.
        self._assoc.dimse.msg_queue.put((None, None))

    def find(self, study_uid: str, series_uid: str = "") -> tuple[FoundSeries, ...]:
        """Return the series of a study, or one of them; none where the PACS has none.

        Raises
        ------
        InvalidRequest
            If `study_uid` is no UID: an empty one would match every study.
        PeerUnreachable, PeerRefused
            If the PACS does not answer, or not with success.
        """
        if not is_uid(study_uid):
            raise InvalidRequest("a Study Instance UID is digits and dots, at most 64 characters")
        query = _series_query(study_uid, series_uid)
        query.Modality = ""
        query.NumberOfSeriesRelatedInstances = None
        found: list[FoundSeries] = []
        self._assoc.dimse_timeout = FIND_S
        for status, answer in self._assoc.send_c_find(query, FIND):
            if _code(status, self._peer) in _PENDING and answer is not None:
                found += _read(answer)
            elif status.Status != _SUCCESS:
                raise PeerRefused(f"{self._peer.name} answered C-FIND with 0x{status.Status:04X}")
            if len(found) > _MOST_SERIES:
                raise PeerRefused(f"{self._peer.name} tells of more than {_MOST_SERIES} series")
        return tuple(found)

    def move(self, study_uid: str, series_uid: str) -> int:
        """Have one series sent to us; return how many instances the PACS says it sent.

        Raises
        ------
        PeerUnreachable, PeerRefused
            If the PACS does not answer, or did not send all.
        """
        sent = failed = 0
        last = _SUCCESS
        query = _series_query(study_uid, series_uid)
        self._assoc.dimse_timeout = _MOVE_S
        for status, _ in self._assoc.send_c_move(query, self._ae_title, MOVE):
            last = _code(status, self._peer)
            sent = status.get("NumberOfCompletedSuboperations", sent) or 0
            failed = status.get("NumberOfFailedSuboperations", failed) or 0
        if last == _UNKNOWN_DESTINATION:
            raise PeerRefused(
                f"{self._peer.name} does not know {self._ae_title} as a destination; add our AE "
                "title, address and port there"
            )
        if last != _SUCCESS or failed:
            raise PeerRefused(
                f"{self._peer.name} sent {sent} and failed with {failed} instances of series "
                f"{series_uid} (0x{last:04X}); does our listener run, and take what it sends?"
            )
        return sent


@contextmanager
def asking(peer: Peer, ae_title: str) -> Iterator[Puller]:
    """Open an association for questions with `peer`.

    Raises
    ------
    PeerUnreachable, PeerRefused
        If there is none to be had.
    """
    ae = AE(ae_title=ae_title)
    ae.connection_timeout = ae.acse_timeout = _ANSWER_S
    ae.network_timeout = _MOVE_S
    for uid in (FIND, MOVE):
        ae.add_requested_context(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    assoc = ae.associate(peer.host, peer.port, ae_title=peer.ae_title)
    if not assoc.is_established:
        raise _why_not(assoc, peer, ae_title)
    try:
        accepted = {str(context.abstract_syntax) for context in assoc.accepted_contexts}
        if accepted != {FIND, MOVE}:
            raise PeerRefused(f"{peer.name} does not take C-FIND and C-MOVE (study root) from us")
        yield Puller(assoc, peer, ae_title)
    finally:
        if assoc.is_established:
            assoc.release()


def _why_not(assoc: Association, peer: Peer, ae_title: str) -> Exception:
    if assoc.is_rejected:
        return PeerRefused(f"{peer.name} rejected the association; does it know {ae_title}?")
    if assoc.rejected_contexts:
        return PeerRefused(f"{peer.name} does not take C-FIND and C-MOVE (study root) from us")
    return PeerUnreachable(f"{peer.name} does not answer at {peer.host}:{peer.port}; does it run?")


def _series_query(study_uid: str, series_uid: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID = study_uid
    query.SeriesInstanceUID = series_uid
    return query


def _read(answer: Dataset) -> Iterator[FoundSeries]:
    """Give the series that an answer tells of; peers answer with odd things too."""
    series_uid = str(answer.get("SeriesInstanceUID") or "")
    if not is_uid(series_uid):
        return
    try:
        instances = int(answer.get("NumberOfSeriesRelatedInstances"))
    except (TypeError, ValueError):
        instances = None
    modality = str(answer.get("Modality") or "")
    yield FoundSeries(series_uid=series_uid, modality=modality, instances=instances)


def _code(status: Dataset, peer: Peer) -> int:
    if "Status" not in status:
        raise PeerUnreachable(f"{peer.name} ended the association, or answers no more")
    return int(status.Status)

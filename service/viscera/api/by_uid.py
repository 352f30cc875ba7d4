"""A series that is named by its UIDs: from the spool where all of it is there, else by C-MOVE."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from viscera import log
from viscera.api.gate import Call
from viscera.api.uploads import DoorStore
from viscera.api.v1 import viscera_pb2 as pb
from viscera.domain.sources import SubmissionState
from viscera.errors import InvalidRequest, NotAnImageSeries, PeerUnreachable, SeriesNotFound
from viscera.files.part10 import is_uid
from viscera.jobs.spool import Spool

_log = log.get(__name__)


class Archive(Protocol):
    """What this door asks about a PACS; `receive` has it, and neither imports the other."""

    def require_allowed(self, peer: str, principal: str) -> None:
        """Check that `principal` may ask for series of `peer`. Raises `UnknownPeer`."""

    def is_asked(self, peer: str) -> bool:
        """Whether the settings say where `peer` answers questions."""

    def count(
        self, peer: str, study_uid: str, series_uid: str, is_wanted: Callable[[], bool]
    ) -> int | None:
        """Return how many instances the PACS has of a CT or MR series, as far as it counts them."""

    def fetch(
        self, peer: str, study_uid: str, series_uid: str, is_wanted: Callable[[], bool]
    ) -> int:
        """Have a series sent to our listener; return how many instances were sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A series that is there, here or at the PACS."""

    peer: str
    study_uid: str
    series_uid: str
    is_here: bool
    """Whether the spool holds all of it."""
    there: int | None = None
    """How many instances the PACS has, as far as it was asked and counts them."""


class ByUid:
    """Finds a series and brings it here."""

    def __init__(self, archive: Archive, spool: Spool, store: DoorStore) -> None:
        self._archive, self._spool, self._store = archive, spool, store

    def locate(self, request: pb.SegmentByUidRequest, call: Call) -> Wanted:
        """Say where the series is.

        Raises
        ------
        UnknownPeer
            If the caller may not ask for it there.
        InvalidRequest
            If a UID is none, or the peer cannot be asked and nothing complete is here.
        SeriesNotFound, NotAnImageSeries, PeerUnreachable, PeerRefused
            What the PACS says.
        """
        self._archive.require_allowed(request.peer, call.principal)
        for name, uid in (("study_uid", request.study_uid), ("series_uid", request.series_uid)):
            if not is_uid(uid):
                raise InvalidRequest(f"{name} must be digits and dots, at most 64 characters")
        is_here, there = self._look(request, call)
        return Wanted(
            peer=request.peer,
            study_uid=request.study_uid,
            series_uid=request.series_uid,
            is_here=is_here,
            there=there,
        )

    def bring(self, wanted: Wanted, call: Call) -> tuple[Path, ...]:
        """Return what the spool holds of the series, once all of it is there.

        Raises
        ------
        NotAnImageSeries
            If nothing of it was kept.
        PeerUnreachable, PeerRefused
            If the PACS did not send it, or not all that it counts.
        """
        sent = 0
        if not wanted.is_here:
            uids = (wanted.study_uid, wanted.series_uid)
            sent = self._archive.fetch(wanted.peer, *uids, call.is_active)
        held = self._held(wanted.peer, wanted.study_uid, wanted.series_uid)
        if not held:
            raise NotAnImageSeries(
                f"{wanted.peer} sent {sent} instances of series {wanted.series_uid}, and none came "
                "here as CT or MR from that peer; do its AE title and network match dicom.peers?"
            )
        if wanted.there is not None and len(held) < wanted.there:
            raise PeerUnreachable(
                f"{wanted.peer} has {wanted.there} instances of series {wanted.series_uid}, and "
                f"{len(held)} are here; ask again"
            )
        return held

    def _look(self, request: pb.SegmentByUidRequest, call: Call) -> tuple[bool, int | None]:
        """Return whether all of the series is here, and how many instances the PACS has."""
        held = self._held(request.peer, request.study_uid, request.series_uid)
        settled = bool(held) and self._is_settled(request.peer, request.series_uid)
        if not self._archive.is_asked(request.peer):
            if settled:
                return True, None
            raise SeriesNotFound(
                f"series {request.series_uid} has not come here completely from {request.peer}, "
                "which cannot be asked for it: dicom.peers has no host for it"
            )
        try:
            uids = (request.study_uid, request.series_uid)
            there = self._archive.count(request.peer, *uids, call.is_active)
        except PeerUnreachable:
            if not settled or not call.is_active():
                raise
            _log.warning("peer_not_asked", peer=request.peer, instances=len(held))
            return True, None
        return there is not None and len(held) >= there, there

    def _held(self, peer: str, study_uid: str, series_uid: str) -> tuple[Path, ...]:
        held = self._spool.held(peer, series_uid)
        one = next(iter(self._spool.readable(held[:1])), None)
        return held if one is not None and one.study_uid == study_uid else ()

    def _is_settled(self, peer: str, series_uid: str) -> bool:
        """Whether what came was judged complete, and nothing came since."""
        told = self._store.why(series_uid)
        states = [submission.state for submission, *_ in told if submission.principal == peer]
        return bool(states) and SubmissionState.OPEN not in states

"""A PACS as gRPC clients may ask for it: by the names and rights in the settings."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from viscera import log
from viscera.config import DicomSettings, Peer
from viscera.domain.sources import MODALITIES
from viscera.errors import InvalidRequest, NotAnImageSeries, SeriesNotFound, UnknownPeer
from viscera.receive.pull import Puller, asking

_log = log.get(__name__)

_LOOK_S = 0.5
_WANTED = frozenset(MODALITIES.values())


class PacsArchive:
    """Finds and fetches series of the peers that a caller may ask for. Safe for threads.

    Parameters
    ----------
    settings
        The peers; our AE title, where they send to.
    """

    def __init__(self, settings: DicomSettings) -> None:
        self._settings = settings

    def require_allowed(self, peer: str, principal: str) -> None:
        """Check that `principal` may ask for series of `peer`.

        Raises
        ------
        UnknownPeer
            If there is none for this caller: who may not ask does not learn which there are.
        """
        allowed = [p.name for p in self._settings.peers if principal in p.grpc_principals]
        if peer not in allowed:
            names = ", ".join(dict.fromkeys(allowed)) or "none"
            raise UnknownPeer(
                f"peer {peer[:64]!r} is not one whose series you may have segmented by UID; "
                f"those are: {names} (grpc_principals of dicom.peers)"
            )

    def is_asked(self, peer: str) -> bool:
        """Whether the settings say where `peer` answers questions."""
        return self._peer(peer) is not None

    def count(
        self, peer: str, study_uid: str, series_uid: str, is_wanted: Callable[[], bool]
    ) -> int | None:
        """Return how many instances the PACS has of a CT or MR series, as far as it counts them.

        Parameters
        ----------
        is_wanted
            Asked now and then; where it says no, the question is broken off.

        Raises
        ------
        SeriesNotFound
            If it has none.
        NotAnImageSeries
            If it has another modality.
        PeerUnreachable, PeerRefused
            If it does not answer, or not with success.
        """
        with self._asking(peer) as puller, _broken_off_unless(is_wanted, puller):
            series = puller.find(study_uid, series_uid)
        found = [one for one in series if one.series_uid == series_uid]
        if not found:
            raise SeriesNotFound(f"{peer} has no series {series_uid} in study {study_uid}")
        if found[0].modality not in _WANTED:
            raise NotAnImageSeries(f"series {series_uid} is not CT or MR, {peer} says")
        return found[0].instances

    def fetch(
        self, peer: str, study_uid: str, series_uid: str, is_wanted: Callable[[], bool]
    ) -> int:
        """Have a series sent to our listener; return how many instances the PACS says it sent.

        Parameters
        ----------
        is_wanted
            Asked now and then; where it says no, the transfer is broken off.

        Raises
        ------
        PeerUnreachable, PeerRefused
            If the PACS does not answer, or did not send all.
        """
        with self._asking(peer) as puller, _broken_off_unless(is_wanted, puller):
            sent = puller.move(study_uid, series_uid)
        _log.info("series_fetched", peer=peer, instances=sent)
        return sent

    @contextmanager
    def _asking(self, name: str) -> Iterator[Puller]:
        peer = self._peer(name)
        if peer is None:
            raise InvalidRequest(f"dicom.peers: {name} has no host; set host and port")
        with asking(peer, self._settings.ae_title) as puller:
            yield puller

    def _peer(self, name: str) -> Peer | None:
        return next((p for p in self._settings.peers if p.name == name and p.host), None)


@contextmanager
def _broken_off_unless(is_wanted: Callable[[], bool], puller: Puller) -> Iterator[None]:
    """A PACS may be silent for minutes while nobody waits for the answer any more."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_S):
            if not is_wanted():
                puller.abort()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()

"""Seats for associations, counted over all listener processes that share a port.

A seat is a byte of a file that one process has locked. The kernel frees it when that process
ends, in whatever way, so no count can be left behind.
"""

import fcntl
import threading


class Seats:
    """Takes and frees seats in groups of a size each. Safe for threads and processes.

    Parameters
    ----------
    shared_fd
        A file that every listener process has open and nobody else locks; None: one process.
    """

    def __init__(self, shared_fd: int | None = None) -> None:
        self._fd = shared_fd
        self._mine: set[int] = set()
        self._lock = threading.Lock()

    def take(self, first: int, size: int) -> int | None:
        """Return a free seat of those from `first` to `first + size`; None where all are taken."""
        with self._lock:
            for seat in range(first, first + size):
                if seat not in self._mine and self._locked(seat):
                    self._mine.add(seat)
                    return seat
        return None

    def free(self, seat: int) -> None:
        """Give back what `take` gave."""
        with self._lock:
            self._mine.discard(seat)
            if self._fd is not None:
                fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, seat)

    def _locked(self, seat: int) -> bool:
        if self._fd is None:
            return True
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, seat)
        except OSError:
            return False
        return True


class PeerSeats:
    """The two limits on associations: over all peers, and for each.

    Parameters
    ----------
    peers
        Names, in an order that all processes share: that of the settings.
    most, most_per_peer
        `dicom.max_associations` and `dicom.max_associations_per_peer`.
    """

    def __init__(
        self, seats: Seats, peers: tuple[str, ...], *, most: int, most_per_peer: int
    ) -> None:
        self._seats = seats
        self._most, self._most_per_peer = most, most_per_peer
        self._first = {name: most + n * most_per_peer for n, name in enumerate(peers)}
        self._held: dict[str, list[tuple[int, int]]] = {name: [] for name in peers}
        self._lock = threading.Lock()

    def take(self, peer: str) -> str:
        """Seat one association of `peer`; return an empty string, or the limit that it met."""
        with self._lock:
            of_all = self._seats.take(0, self._most)
            if of_all is None:
                return "max_associations"
            of_peer = self._seats.take(self._first[peer], self._most_per_peer)
            if of_peer is None:
                self._seats.free(of_all)
                return "max_associations_per_peer"
            self._held[peer].append((of_all, of_peer))
        return ""

    def free(self, peer: str) -> None:
        """One association of `peer` is over."""
        with self._lock:
            for seat in self._held[peer].pop():
                self._seats.free(seat)

    def held(self, peer: str) -> int:
        """Return how many associations `peer` has with this process."""
        with self._lock:
            return len(self._held[peer])

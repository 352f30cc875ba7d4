"""Who may send: called and calling AE title, source network, how many at once."""

import ipaddress
import threading
from collections import Counter
from dataclasses import dataclass

from viscera.config import DicomSettings, Peer
from viscera.receive.classes import dropped_by

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Caller:
    """What an association request says, and where it came from. Peer text: never logged."""

    called_ae_title: str
    calling_ae_title: str
    address: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """An A-ASSOCIATE-RJ: result, source and reason of PS3.8 table 9-21, and our word for it."""

    result: int
    source: int
    diagnostic: int
    because: str
    peer: str = ""
    """Our name, where the AE title is a known one."""


@dataclass(frozen=True, slots=True)
class AdmittedPeer:
    """A peer with what is dropped of it."""

    peer: Peer
    dropped: frozenset[str]

    @property
    def name(self) -> str:
        """Our name for it."""
        return self.peer.name


class Admissions:
    """Decides who comes in and counts who is in. Safe for threads.

    Raises
    ------
    InvalidSettings
        If a peer names an unknown kind in `accept_and_drop`.
    """

    def __init__(self, settings: DicomSettings) -> None:
        self._settings = settings
        self._peers = [AdmittedPeer(peer, dropped_by(peer)) for peer in settings.peers]
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    def enter(self, caller: Caller) -> AdmittedPeer | Rejection:
        """Admit `caller` and count it, or say how to reject it."""
        if caller.called_ae_title.strip() != self._settings.ae_title.strip():
            return Rejection(1, 1, 7, "called_ae_title")
        title = caller.calling_ae_title.strip()
        named = [p for p in self._peers if p.peer.ae_title.strip() == title]
        found = next((p for p in named if _lies_in(caller.address, p.peer.networks)), None)
        if found is None:
            # One answer for both: a stranger must not learn which AE titles we know.
            because = "source_network" if named else "calling_ae_title"
            return Rejection(1, 1, 3, because, named[0].name if named else "")
        with self._lock:
            full = self._open.total() >= self._settings.max_associations
            if full or self._open[found.name] >= self._settings.max_associations_per_peer:
                because = "max_associations" if full else "max_associations_per_peer"
                return Rejection(2, 3, 2, because, found.name)
            self._open[found.name] += 1
        return found

    def leave(self, name: str) -> None:
        """Count one association of peer `name` less."""
        with self._lock:
            self._open[name] -= 1

    def open_now(self, name: str) -> int:
        """Return how many associations peer `name` has."""
        with self._lock:
            return self._open[name]


def _lies_in(address: str, networks: tuple[str, ...]) -> bool:
    here: Address = ipaddress.ip_address(address.partition("%")[0])
    # A socket that listens on IPv6 shows IPv4 callers as ::ffff:a.b.c.d.
    if isinstance(here, ipaddress.IPv6Address) and here.ipv4_mapped is not None:
        here = here.ipv4_mapped
    return any(here in ipaddress.ip_network(network) for network in networks)

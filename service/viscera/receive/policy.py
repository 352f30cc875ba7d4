"""Who may send: called and calling AE title, source network, how many at once."""

import ipaddress
from dataclasses import dataclass

from viscera.config import DicomSettings, Peer
from viscera.receive.classes import dropped_by
from viscera.receive.seats import PeerSeats, Seats
from viscera.receive.tls import PeerCertificate

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Caller:
    """What an association request says, and where it came from. Peer text: logged as ASCII only."""

    called_ae_title: str
    calling_ae_title: str
    address: str
    is_secured: bool = False
    """Whether it came by TLS."""
    certificate: PeerCertificate | None = None
    """That it showed there."""


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

    Parameters
    ----------
    settings
        The peers and the limits.
    seats
        Shared with the other listener processes of the port, where there are any.

    Raises
    ------
    InvalidSettings
        If a peer names an unknown kind in `accept_and_drop`.
    """

    def __init__(self, settings: DicomSettings, seats: Seats | None = None) -> None:
        self._settings = settings
        self._peers = [AdmittedPeer(peer, dropped_by(peer)) for peer in settings.peers]
        self._seats = PeerSeats(
            seats or Seats(),
            # Once each: a peer may be listed twice, for two of its AE titles.
            tuple(dict.fromkeys(peer.name for peer in settings.peers)),
            most=settings.max_associations,
            most_per_peer=settings.max_associations_per_peer,
        )

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
        if not _is_proven(caller, found.peer):
            return Rejection(1, 1, 3, "certificate", found.name)
        met = self._seats.take(found.name)
        return Rejection(2, 3, 2, met, found.name) if met else found

    def leave(self, name: str) -> None:
        """Count one association of peer `name` less."""
        self._seats.free(name)

    def open_now(self, name: str) -> int:
        """Return how many associations peer `name` has with this process."""
        return self._seats.held(name)


def _is_proven(caller: Caller, peer: Peer) -> bool:
    """Whether the caller came by TLS and with the certificate that the settings bind it to."""
    if not peer.certificates:
        return caller.is_secured or not peer.require_tls
    return caller.certificate is not None and caller.certificate.is_one_of(peer.certificates)


def _lies_in(address: str, networks: tuple[str, ...]) -> bool:
    here: Address = ipaddress.ip_address(address.partition("%")[0])
    # A socket that listens on IPv6 shows IPv4 callers as ::ffff:a.b.c.d.
    if isinstance(here, ipaddress.IPv6Address) and here.ipv4_mapped is not None:
        here = here.ipv4_mapped
    return any(here in ipaddress.ip_network(network) for network in networks)

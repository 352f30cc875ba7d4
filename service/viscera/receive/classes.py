"""Which SOP classes and transfer syntaxes are taken, and which are taken only to be dropped."""

from collections.abc import Collection, Mapping
from types import MappingProxyType

from pynetdicom import AllStoragePresentationContexts
from pynetdicom._globals import ALL_TRANSFER_SYNTAXES

from viscera.config import Peer
from viscera.domain.sources import MODALITIES
from viscera.errors import InvalidSettings
from viscera.files.part10 import DEFLATED

IMAGES = frozenset(MODALITIES)

COMMITMENT = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model: a PACS reports on what we asked it to keep."""
COMMITMENT_TRANSFER_SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")

TRANSFER_SYNTAXES = (
    "1.2.840.10008.1.2.1",  # explicit VR little endian: first choice of what a peer offers
    "1.2.840.10008.1.2",  # implicit VR little endian
    "1.2.840.10008.1.2.2",  # explicit VR big endian (retired)
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.4.70",  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.57",  # JPEG lossless
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.201",  # HTJ2K lossless
    "1.2.840.10008.1.2.4.202",  # HTJ2K lossless RPCL
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.203",  # HTJ2K
    "1.2.840.10008.1.2.4.50",  # JPEG baseline 8 bit
    "1.2.840.10008.1.2.4.51",  # JPEG extended 12 bit
)
"""Uncompressed first, then lossless: a peer that offers several gets the first one here."""


def offered(proven: Collection[str]) -> tuple[str, ...]:
    """Return what negotiation offers for images: of ours, those that decode on this machine.

    Parameters
    ----------
    proven
        As ``volume.proven_syntaxes`` found them.
    """
    return tuple(uid for uid in TRANSFER_SYNTAXES if uid in proven)


DROPPED_TRANSFER_SYNTAXES = (
    *TRANSFER_SYNTAXES,
    *(uid for uid in ALL_TRANSFER_SYNTAXES if uid not in {*TRANSFER_SYNTAXES, *DEFLATED}),
)
"""For what is dropped unread: video and the rest too, but nothing deflated."""

_STORAGE = frozenset(
    str(context.abstract_syntax)
    for context in AllStoragePresentationContexts
    if context.abstract_syntax is not None
)
_ROOT = "1.2.840.10008.5.1.4.1.1"
_KEY_OBJECT = f"{_ROOT}.88.59"
_DOSE = frozenset(f"{_ROOT}.88.{n}" for n in (67, 68, 73, 76))


def _below(*stems: str) -> frozenset[str]:
    """Return the storage classes that are one of `stems` or lie under it."""
    roots = [f"{_ROOT}.{stem}" for stem in stems]
    return frozenset(u for u in _STORAGE if any(u == r or u.startswith(f"{r}.") for r in roots))


def _kinds() -> dict[str, frozenset[str]]:
    named = {
        "SR": _below("88") - _DOSE - {_KEY_OBJECT},
        "PR": _below("11"),
        "KO": frozenset({_KEY_OBJECT}),
        "SC": _below("7"),
        "SEG": _below("66.4", "66.5", "66.7", "66.8"),
        "DOSE": _DOSE,
    }
    return {**named, "OTHER": _STORAGE - IMAGES - frozenset().union(*named.values())}


KINDS: Mapping[str, frozenset[str]] = MappingProxyType(_kinds())
"""What `accept_and_drop` may name, as SOP Class UIDs; OTHER is every other storage class."""


def dropped_by(peer: Peer) -> frozenset[str]:
    """Return the SOP classes that are taken from `peer`, counted and dropped.

    Raises
    ------
    InvalidSettings
        If the settings name a kind that is none.
    """
    unknown = set(peer.accept_and_drop) - set(KINDS)
    if unknown:
        raise InvalidSettings(
            f"dicom.peers: accept_and_drop of {peer.name} names {', '.join(sorted(unknown))}; "
            f"known are {', '.join(KINDS)}"
        )
    return frozenset().union(*(KINDS[kind] for kind in peer.accept_and_drop))

"""Negotiation offers what was proven to decode, and nothing else; pynetdicom asks."""

from pathlib import Path

import pytest
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
)

from receive_support import Sender, receiver
from viscera.receive import offered
from viscera.receive.classes import TRANSFER_SYNTAXES

PROVEN = set(TRANSFER_SYNTAXES) - {JPEG2000Lossless, JPEGExtended12Bit}


def accepted(root: Path, *proposals: list[str]) -> list[str | None]:
    """Return the transfer syntax taken of each proposal; None where it was rejected."""
    with receiver(root, transfer_syntaxes=offered(PROVEN)) as running:
        sender = Sender(running.listener.port)
        sender.contexts = [(CTImageStorage, proposal) for proposal in proposals]
        with sender.association() as assoc:
            taken = {c.context_id: str(c.transfer_syntax[0]) for c in assoc.accepted_contexts}
            return [taken.get(2 * k + 1) for k in range(len(proposals))]


def test_what_is_not_proven_is_not_accepted(tmp_path: Path) -> None:
    proposals = [
        [JPEG2000Lossless],
        [JPEGExtended12Bit],
        [JPEG2000Lossless, JPEGLosslessSV1],
        [DeflatedExplicitVRLittleEndian],
        [DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian],
        [ExplicitVRBigEndian],
        [JPEGLosslessSV1, ImplicitVRLittleEndian, ExplicitVRLittleEndian],
    ]
    assert accepted(tmp_path, *proposals) == [
        *(None, None, JPEGLosslessSV1, None),
        *(ImplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian),
    ]


@pytest.mark.parametrize("proven", [frozenset(), frozenset({ExplicitVRLittleEndian})])
def test_an_association_is_for_what_decodes(tmp_path: Path, proven: frozenset[str]) -> None:
    with receiver(tmp_path, transfer_syntaxes=offered(proven)) as running:
        sender = Sender(running.listener.port)
        sender.contexts = [
            (EnhancedMRImageStorage, [ExplicitVRLittleEndian]),
            (EnhancedMRImageStorage, [JPEGLosslessSV1]),
        ]
        with sender.association() as assoc:
            assert len(assoc.accepted_contexts) == len(proven)

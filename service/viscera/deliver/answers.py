"""What the status of a C-STORE answer means for the object that was sent.

References
----------
DICOM PS3.4 table B.2-1 (Storage) and PS3.7 annex C (all services).
"""

from viscera.errors import PeerRefused, PeerUnreachable

_DUPLICATE = 0x0111
_WARNINGS = {0x0001, 0x0107, 0x0116}
# The object's own fault: sending the same bytes again gives the same answer.
_FINAL = {0x0105, 0x0106, 0x0115, 0x0117, 0x0118, 0x0119, 0x0120, 0x0121, 0x0122}


def require_taken(status: int | None, sop_uid: str) -> None:
    """Return if the destination has the object now.

    A duplicate counts as taken: our UIDs are made from the content, so the one that the
    destination has is this one.

    Parameters
    ----------
    status
        (0000,0900) of the answer; None: there was no answer.
    sop_uid
        For the message.

    Raises
    ------
    PeerRefused
        If the same object would be refused again.
    PeerUnreachable
        In all other cases: unknown failures too, for giving up loses a result and trying again
        costs an association an hour.
    """
    if status is None:
        raise PeerUnreachable(f"SOP instance {sop_uid}: the association ended without an answer")
    if status in (0x0000, _DUPLICATE) or status in _WARNINGS or status >> 12 == 0xB:
        return
    message = f"SOP instance {sop_uid}: the destination answered 0x{status:04X}"
    if status in _FINAL or status >> 8 == 0xA9 or status >> 12 == 0xC:
        raise PeerRefused(f"{message}; its log says what it expects")
    raise PeerUnreachable(message)

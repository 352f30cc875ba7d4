"""Sending results: C-STORE to a PACS, or files into a folder.

In: committed results, one delivery per object and destination, leased from the job store.
Out: objects at their destinations; each delivery's end, or the time of its next attempt. Where a
destination commits, the end is its report (`asking`, `event_report`, `recorder`).
Fails: `PeerUnreachable` (tried again with backoff, never given up), `PeerRefused` and
`RoundTripMismatch` (the delivery fails and says why). One destination never holds up another.
"""

from viscera.deliver.dicom import DicomLink, send_dicom
from viscera.deliver.event_report import ReportScp
from viscera.deliver.folder import send_folder
from viscera.deliver.loop import DeliverLoop
from viscera.deliver.routes import addresses_of

__all__ = [
    "DeliverLoop",
    "DicomLink",
    "ReportScp",
    "addresses_of",
    "send_dicom",
    "send_folder",
]

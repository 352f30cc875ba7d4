"""DICOM associations in: who may send, what is taken, and how it becomes durable.

In: associations from the peers in the settings, each C-STORE with one instance.
Out: files in the spool (the record), rows through `IntakeStore` (their index), counts.
Fails: towards the peer, by the DIMSE status of `viscera.statuses`; a caller who is not in the
settings is rejected at association. A store that does not answer stops nothing here.
"""

from viscera.receive.archive import PacsArchive
from viscera.receive.classes import offered
from viscera.receive.indexer import Indexer
from viscera.receive.listener import Listener

__all__ = ["Indexer", "Listener", "PacsArchive", "offered"]

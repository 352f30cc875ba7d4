"""Rows and closings of uploads that a crash, or a store that was away, kept from the store."""

import threading
import time
import traceback

from viscera import log
from viscera.api.uploads import DoorStore
from viscera.domain.sources import Arrival, SubmissionState
from viscera.errors import JobNotFound, StoreUnavailable
from viscera.jobs.catching_up import close_upload, record
from viscera.jobs.spool import Spool

_log = log.get(__name__)

_STORE_PAUSE_S = 2.0
_FAULT_PAUSE_S = 60.0
_LOOK_S = 10.0
"""One question to the store each time."""
_NOT_WHOLE_PAUSE_S = 600.0
"""All files of such an upload are read again each time."""


class Recovery:
    """Looks for uploads that are complete on disk and not in the store, for as long as it runs."""

    def __init__(self, spool: Spool, store: DoorStore) -> None:
        self._spool, self._store = spool, store
        self._scanned = False
        self._not_before: dict[str, float] = {}

    def run(self, stopping: threading.Event) -> None:
        """Look until `stopping` is set; no error ends it."""
        while not stopping.is_set():
            stopping.wait(self._step())

    def _step(self) -> float:
        """Look once; return the pause until the next time in seconds."""
        try:
            recovered = self._close_missed() if self._scanned else self._scan()
        except StoreUnavailable:
            return _STORE_PAUSE_S
        except Exception as error:
            # Not the error's text: a database repeats a row's values in it.
            where = traceback.format_tb(error.__traceback__)
            _log.error("uploads_not_recovered", error=type(error).__name__, where=where)
            return _FAULT_PAUSE_S
        if recovered:
            _log.info("uploads_recovered", uploads=recovered)
        return _LOOK_S

    def _scan(self) -> int:
        recovered = recover_uploads(self._spool, self._store)
        self._scanned = True
        return recovered

    def _close_missed(self) -> int:
        now_s = time.monotonic()
        closed = 0
        for handle in self._store.unclosed_uploads():
            if self._not_before.get(handle, 0.0) > now_s or not self._spool.is_closed(handle):
                continue
            record(self._store, tuple(self._spool.readable(self._spool.uploaded(handle))))
            if close_upload(self._store, self._spool, handle, self._store.known_paths()):
                closed += 1
            else:
                self._not_before[handle] = now_s + _NOT_WHOLE_PAUSE_S
        return closed


def recover_uploads(spool: Spool, store: DoorStore) -> int:
    """Give the store what a crash kept from it: rows of uploads, and that some are complete.

    Returns
    -------
    int
        How many there were. Doing it again, or in two processes, changes nothing.

    Raises
    ------
    StoreUnavailable
        Call again later.
    """
    uploads = {upload.upload: upload for upload in spool.uploads()}
    missing: dict[str, list[Arrival]] = {
        handle: [] for handle, upload in uploads.items() if upload.closed and _open(store, handle)
    }
    for arrival in spool.scan(store.known_paths()) if uploads else ():
        if arrival.upload in uploads:
            missing.setdefault(arrival.upload, []).append(arrival)
    for handle, arrivals in missing.items():
        upload = uploads[handle]
        store.open_upload(handle, upload.principal, upload.model, upload.channels)
        record(store, arrivals)
    closed = [handle for handle in missing if uploads[handle].closed]
    known = store.known_paths() if closed else set()
    for handle in closed:
        close_upload(store, spool, handle, known)
    return len(missing)


def _open(store: DoorStore, handle: str) -> bool:
    try:
        return store.get_submission(handle).state is SubmissionState.OPEN
    except JobNotFound:
        return False  # its instances have no rows either, and are found in the spool

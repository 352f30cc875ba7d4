"""Rows for what lies in the spool: in batches, behind the answer to the peer."""

import math
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import islice

from viscera import log
from viscera.domain.sources import Arrival
from viscera.errors import StoreUnavailable
from viscera.jobs.catching_up import close_upload, record
from viscera.jobs.protocol import IntakeStore
from viscera.jobs.spool import Spool

_log = log.get(__name__)

_BATCH = 500
_LOOK_S = 0.1
_BETWEEN_COMMITS_S = 0.4
"""Each costs syncs on the disk that instances wait for, and time of the lock they share."""
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_LOOK_AGAIN_S = 600.0
"""After a row that could not be recorded: what was in its way may have been a passing thing."""
_STOP_S = 10.0
_TELL_AGAIN_S = 60.0
"""Numbers of open associations that nobody tells again are forgotten after three minutes."""


class Indexer:
    """A thread that records arrivals and open associations in the store.

    The files are the record, so nothing is lost here: while the store is down rows wait in
    memory, above `max_pending` they are dropped, and the spool is scanned for them later.

    Parameters
    ----------
    store, spool
        Where rows go, and what they index.
    listener
        Name of this process in the store, where several listen.
    max_pending
        Arrivals that may wait in memory.
    """

    def __init__(
        self, store: IntakeStore, spool: Spool, *, listener: str = "", max_pending: int = 20_000
    ) -> None:
        self._store = store
        self._spool = spool
        self._listener = listener
        self._waiting: queue.Queue[Arrival] = queue.Queue(max_pending)
        self._batch: list[Arrival] = []
        self._counts: dict[str, int] = {}
        self._open: dict[str, int] = {}
        self._last_commit = 0.0
        self._tell_again_at = time.monotonic() + _TELL_AGAIN_S
        self._scan_again_at = math.inf
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._scan_due = threading.Event()
        self._scan_due.set()
        self._thread = threading.Thread(target=self._run, name="indexer", daemon=True)

    def start(self) -> None:
        """Begin, with a scan for what an earlier process left without rows."""
        self._thread.start()

    def stop(self) -> None:
        """Record what waits, if the store answers, and end."""
        self._stopping.set()
        self._thread.join(_STOP_S)

    def add(self, arrival: Arrival) -> None:
        """Record `arrival` soon. Never blocks, never fails."""
        try:
            self._waiting.put_nowait(arrival)
        except queue.Full:
            self._scan_due.set()

    def note_associations(self, principal: str, open_now: int) -> None:
        """Record how many associations a peer has open, soon. Only the last number counts."""
        with self._lock:
            self._counts[principal] = self._open[principal] = open_now

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            try:
                self._step()
                pause_s = _FIRST_PAUSE_S
            except Exception as error:
                self._put_off(error)
                self._stopping.wait(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        try:
            self._step()
        except Exception as error:
            self._put_off(error)

    def _step(self) -> None:
        # New arrivals first: a scan that fails again and again must not keep them waiting.
        self._record_waiting()
        self._record_counts()
        if time.monotonic() >= self._scan_again_at:
            self._scan_again_at = math.inf
            self._scan_due.set()
        if self._scan_due.is_set() and not self._stopping.is_set():
            self._scan_due.clear()
            try:
                self._record_spool()
            except BaseException:
                self._scan_due.set()
                raise

    def _put_off(self, error: Exception) -> None:
        if isinstance(error, StoreUnavailable):
            _log.warning("index_waits_for_store", pending=self._waiting.qsize() + len(self._batch))
            return
        # Whatever it was, these rows may be its cause: let others pass, find them by a scan.
        self._batch.clear()
        self._scan_due.set()
        _log.error("index_failed", exc_info=error)

    def _record_waiting(self) -> None:
        if not self._batch:
            self._fill_batch()
        if self._batch:
            self._record(self._batch)
            self._batch = []
            self._last_commit = time.monotonic()

    def _record(self, arrivals: list[Arrival]) -> None:
        if not record(self._store, arrivals):
            self._scan_again_at = time.monotonic() + _LOOK_AGAIN_S

    def _fill_batch(self) -> None:
        try:
            self._batch.append(self._waiting.get(timeout=_LOOK_S))
        except queue.Empty:
            return
        # At least a moment, in which a burst gathers.
        self._stopping.wait(max(_LOOK_S, self._last_commit + _BETWEEN_COMMITS_S - time.monotonic()))
        limit = _BATCH if not self._stopping.is_set() else self._waiting.maxsize
        while len(self._batch) < limit:
            try:
                self._batch.append(self._waiting.get_nowait())
            except queue.Empty:
                return

    def _record_counts(self) -> None:
        with self._lock:
            if time.monotonic() >= self._tell_again_at:
                self._tell_again_at = time.monotonic() + _TELL_AGAIN_S
                self._counts |= {peer: number for peer, number in self._open.items() if number}
            counts, self._counts = self._counts, {}
        try:
            for principal, open_now in counts.items():
                self._store.note_associations(principal, open_now, self._listener)
        except BaseException:
            with self._lock:
                self._counts = counts | self._counts
            raise

    def _record_spool(self) -> None:
        uploads = list(self._spool.uploads())
        for upload in uploads:
            self._store.open_upload(upload.upload, upload.principal, upload.model, upload.channels)
        found = 0
        for batch in _batches(self._spool.scan(self._store.known_paths())):
            self._record(batch)
            found += len(batch)
        # Only what was closed before the scan: its files were all there to be found.
        closed = [upload.upload for upload in uploads if upload.closed]
        known = self._store.known_paths() if closed else set()
        for handle in closed:
            close_upload(self._store, self._spool, handle, known)
        _log.info("spool_scanned", instances_without_row=found, uploads=len(uploads))


def _batches(arrivals: Iterable[Arrival]) -> Iterator[list[Arrival]]:
    rest = iter(arrivals)
    while batch := list(islice(rest, _BATCH)):
        yield batch

"""A listener in this process, a store that can be switched off, and peers to talk to it."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE, Association

from peers import wait_for
from viscera.config import DicomSettings, Peer
from viscera.deliver import ReportScp
from viscera.domain.sources import Arrival
from viscera.errors import StoreUnavailable
from viscera.jobs.reports import ReportFiles
from viscera.jobs.spool import Spool
from viscera.metrics import Metrics
from viscera.receive import Indexer, Listener
from viscera.receive.classes import TRANSFER_SYNTAXES

PACS = Peer(name="pacs", ae_title="PACS", networks=("127.0.0.0/8",))


class FakeStore:
    """An `IntakeStore` in memory; `down` makes every call fail."""

    def __init__(self) -> None:
        self.down = False
        self.poison: str | None = None
        self.rows: dict[str, Arrival] = {}
        self.batches: list[int] = []
        self.associations: list[tuple[str, int]] = []
        self.uploads: list[tuple[str, ...]] = []
        self.asked = 0
        self._lock = threading.Lock()

    def _answer(self) -> None:
        self.asked += 1
        if self.down:
            raise StoreUnavailable("switched off")

    def record_arrivals(self, arrivals: Sequence[Arrival]) -> None:
        with self._lock:
            self._answer()
            if any(a.sop_uid == self.poison for a in arrivals):
                raise ValueError("a row that no store takes")
            self.batches.append(len(arrivals))
            self.rows |= {a.path.as_posix(): a for a in arrivals}

    def note_associations(self, principal: str, open_now: int, listener: str = "") -> None:
        with self._lock:
            self._answer()
            self.associations.append((principal, open_now))

    def open_upload(self, upload: str, principal: str, model: str, channels: object = ()) -> None:
        with self._lock:
            self._answer()
            self.uploads.append(("open", upload, principal, model))

    def close_upload(self, upload: str) -> None:
        with self._lock:
            self._answer()
            self.uploads.append(("close", upload, *sorted(self.rows)))

    def known_paths(self) -> set[str]:
        with self._lock:
            self._answer()
            return set(self.rows)


@dataclass
class Receiver:
    """What `receiver` runs."""

    spool: Spool
    store: FakeStore
    metrics: Metrics
    listener: Listener
    index: Indexer

    def files(self) -> list[Path]:
        return sorted(p for p in self.spool.root.rglob("*") if p.is_file())

    def count(self, outcome: str, reason: str = "") -> float:
        labels = {"outcome": outcome, "reason": reason}
        value = self.metrics.registry.get_sample_value("viscera_instances_total", labels)
        return value or 0.0

    def associations_open(self) -> float:
        value = self.metrics.registry.get_sample_value("viscera_associations_open")
        assert value is not None
        return value


@contextmanager
def receiver(
    root: Path,
    *,
    reserve_bytes: int = 0,
    max_pending: int = 1000,
    store: FakeStore | None = None,
    transfer_syntaxes: tuple[str, ...] = TRANSFER_SYNTAXES,
    reports: ReportFiles | None = None,
    **settings: object,
) -> Iterator[Receiver]:
    """Run a listener on loopback; `settings` are those of `DicomSettings`."""
    spool = Spool(root, reserve_bytes=reserve_bytes, clock=lambda: datetime.now(UTC))
    store, metrics = store or FakeStore(), Metrics()
    index = Indexer(store, spool, max_pending=max_pending)
    dicom = DicomSettings(**{"host": "127.0.0.1", "port": 0, "peers": (PACS,), **settings})
    report = ReportScp(reports, metrics).answer if reports is not None else None
    listener = Listener(dicom, spool, index, metrics, transfer_syntaxes, report=report)
    index.start()
    listener.start()
    try:
        yield Receiver(spool, store, metrics, listener, index)
    finally:
        listener.stop()
        index.stop()


@dataclass
class Sender:
    """pynetdicom as SCU."""

    port: int
    calling: str = "PACS"
    called: str = "VISCERA"
    address: str = "127.0.0.1"
    contexts: list[tuple[str, list[str]]] = field(default_factory=list)

    @contextmanager
    def association(self) -> Iterator[Association]:
        ae = AE(self.calling)
        for sop_class, syntaxes in self.contexts:
            ae.add_requested_context(sop_class, syntaxes)
        assoc = ae.associate(
            "127.0.0.1", self.port, ae_title=self.called, bind_address=(self.address, 0)
        )
        raw = assoc.dul.socket.socket
        try:
            yield assoc
        finally:
            if assoc.is_established:
                assoc.release()
            if raw is not None:
                raw.close()  # pynetdicom forgets where we hung up first

    def send(self, *datasets: Dataset) -> list[int]:
        """Return the status of each; -1 where the association was not accepted."""
        self.contexts = self.contexts or [
            (ds.SOPClassUID, [ds.file_meta.TransferSyntaxUID]) for ds in datasets[:1]
        ]
        with self.association() as assoc:
            if not assoc.is_established:
                return [-1] * len(datasets)
            with _held_reactor(assoc):
                return [assoc.send_c_store(ds).Status for ds in datasets]


@contextmanager
def _held_reactor(assoc: Association) -> Iterator[None]:
    """Keep pynetdicom's own thread from taking an answer away from the one that waits for it.

    It is paused for each message, but told so a moment early: under load it drops a quick answer.
    """
    checkpoint = assoc._reactor_checkpoint
    checkpoint.clear()
    wait_for(lambda: assoc._is_paused, 5, "pause", 0.001)
    time.sleep(0.01)
    checkpoint.set = lambda: None
    try:
        yield
    finally:
        del checkpoint.set
        checkpoint.set()


def fragment(context_id: int, control: int, data: bytes) -> bytes:
    """Return one P-DATA-TF with one fragment (PS3.8 9.3.5 and annex E)."""
    value = bytes([context_id, control]) + data
    item = len(value).to_bytes(4, "big") + value
    return b"\x04\0" + len(item).to_bytes(4, "big") + item


def store_request(context_id: int, sop_uid: str, data_set: bytes) -> bytes:
    """Return a C-STORE-RQ of a CT as bytes, in PDUs of 60 kB; libraries would encode anew."""
    uid = sop_uid.encode() + b"\0" * (len(sop_uid) % 2)
    elements = [
        (0x0002, CTImageStorage.encode() + b"\0"),
        (0x0100, b"\x01\x00"),
        (0x0110, b"\x07\x00"),
        (0x0700, b"\x00\x00"),
        (0x0800, b"\x01\x00"),
        (0x1000, uid),
    ]
    command = b"".join(
        b"\0\0" + tag.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value
        for tag, value in elements
    )
    command = b"\0\0\0\0\x04\0\0\0" + len(command).to_bytes(4, "little") + command
    pieces = [data_set[at : at + 60_000] for at in range(0, len(data_set), 60_000)] or [b""]
    last = len(pieces) - 1
    return fragment(context_id, 3, command) + b"".join(
        fragment(context_id, 2 * (number == last), piece) for number, piece in enumerate(pieces)
    )


def send_raw(assoc: Association, sop_uid: str, data_set: bytes) -> list[int]:
    """Send one C-STORE-RQ, the command in a write of its own, and return the status."""
    (context,) = assoc.accepted_contexts
    request = store_request(context.context_id, sop_uid, data_set)
    command_bytes = 6 + int.from_bytes(request[2:6], "big")
    # The reactor would take the answer away from us.
    assoc._reactor_checkpoint.clear()
    wait_for(lambda: assoc._is_paused, 5, "pause")
    assoc.dul.socket.send(request[:command_bytes])
    assoc.dul.socket.send(request[command_bytes:])
    assoc.dimse_timeout = 10
    _, answer = assoc.dimse.get_msg(block=True)
    assoc._reactor_checkpoint.set()
    return [answer.Status if answer is not None else -1]

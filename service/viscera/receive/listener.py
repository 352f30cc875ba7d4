"""The DICOM listener: C-STORE and C-ECHO for the peers in the settings, nobody else."""

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import cast

import structlog
from pydicom import config as pydicom_config
from pydicom.dataset import Dataset
from pynetdicom import _config, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import
from pynetdicom.transport import AddressInformation

from viscera import log
from viscera.config import DicomSettings
from viscera.errors import InvalidSettings
from viscera.jobs.spool import Spool
from viscera.metrics import REJECTIONS, USUAL_ENDS, Metrics
from viscera.receive.classes import (
    COMMITMENT,
    COMMITMENT_TRANSFER_SYNTAXES,
    DROPPED_TRANSFER_SYNTAXES,
    IMAGES,
    TRANSFER_SYNTAXES,
)
from viscera.receive.hardening import BoundedAssociation
from viscera.receive.indexer import Indexer
from viscera.receive.policy import Admissions, AdmittedPeer, Caller, Rejection
from viscera.receive.seats import Seats
from viscera.receive.server import BoundedServer
from viscera.receive.store_scp import StoreRequest, StoreScp
from viscera.receive.tls import ServerTls

_log = log.get(__name__)

_STOP_S = 5.0

AnswerReport = Callable[[evt.Event, str], int]
"""Takes an N-EVENT-REPORT and our name of the peer, and returns the status."""


class Listener:
    """Listens, plainly and by TLS as the settings say, until it is stopped.

    Parameters
    ----------
    settings
        Who may send, and the bounds.
    spool
        Where instances become durable.
    index
        Told of each; started and stopped by whoever made it.
    metrics
        Counts instances and open associations.
    transfer_syntaxes
        Offered for images, first choice first.
    seats_fd
        Where several processes share the port: what `Seats` counts on.
    report
        Answers reports on storage commitment; None: they are not taken.

    Raises
    ------
    InvalidSettings
        If a peer's `accept_and_drop` names an unknown kind, or TLS files cannot be used.
    """

    def __init__(
        self,
        settings: DicomSettings,
        spool: Spool,
        index: Indexer,
        metrics: Metrics,
        transfer_syntaxes: tuple[str, ...] = TRANSFER_SYNTAXES,
        *,
        seats_fd: int | None = None,
        report: AnswerReport | None = None,
    ) -> None:
        self._settings = settings
        self._index = index
        self._metrics = metrics
        self._transfer_syntaxes = transfer_syntaxes
        self._report = report
        self._shares_port = seats_fd is not None
        self._admissions = Admissions(settings, Seats(seats_fd))
        self._scp = StoreScp(spool, index, metrics)
        self._tls = ServerTls(settings) if settings.tls_port is not None else None
        self._servers: list[BoundedServer] = []

    @property
    def port(self) -> int:
        """The plain TCP port; known after `start`, also where the settings say 0."""
        return next(int(s.server_address[1]) for s in self._servers if s.tls is None)

    @property
    def ports(self) -> dict[str, int]:
        """The ports that are listened on, as they are announced."""
        return {
            "dicom_port" if server.tls is None else "dicom_tls_port": int(server.server_address[1])
            for server in self._servers
        }

    def start(self) -> None:
        """Listen.

        Raises
        ------
        InvalidSettings
            If the address cannot be bound.
        """
        _quiet_libraries()
        for peer in self._settings.peers:
            # A process that died may have left a number behind.
            self._index.note_associations(peer.name, 0)
        if self._tls is not None:
            for file in self._tls.expiries():
                # Asked at each scrape, which finds files that have changed since.
                expiry = self._metrics.certificate_expiry.labels(file)
                expiry.set_function(partial(self._expiry, file))
        if self._settings.plain:
            self._listen(self._settings.port, None)
        if self._settings.tls_port is not None:
            self._listen(self._settings.tls_port, self._tls)

    def stop(self) -> None:
        """Take no more associations and abort the open ones; what was answered is durable."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.shutdown()
        open_now = [
            cast(BoundedAssociation, one)
            for server in servers
            for one in server.active_associations
        ]
        for association in open_now:
            association.ends_by("stopped")
            association.abort(block=False)
        deadline = time.monotonic() + _STOP_S
        for association in open_now:
            association.join(max(0.0, deadline - time.monotonic()))

    def _expiry(self, file: str) -> float:
        return self._tls.expiries().get(file, 0.0) if self._tls is not None else 0.0

    def _listen(self, port: int, tls: ServerTls | None) -> None:
        try:
            server = self._make_server(port, tls)
        except OSError as error:
            name = "port" if tls is None else "tls_port"
            raise InvalidSettings(
                f"dicom.host, dicom.{name}: cannot listen on {self._settings.host}:{port}: "
                f"{error.strerror}"
            ) from error
        self._servers.append(server)
        threading.Thread(target=server.serve_forever, name="dicom-listener", daemon=True).start()

    def _make_server(self, port: int, tls: ServerTls | None) -> BoundedServer:
        settings = self._settings
        ae = ApplicationEntity(settings.ae_title)
        ae.maximum_pdu_size = settings.max_pdu_bytes
        ae.network_timeout = settings.idle_timeout_s
        ae.acse_timeout = settings.pdu_timeout_s
        ae.maximum_associations = 4 * settings.max_associations  # `Admissions` counts
        server = BoundedServer(
            ae,
            port,
            settings,
            handlers=[(evt.EVT_REQUESTED, self._on_request)],
            on_counted=self._count_end,
            shared=self._shares_port,
            tls=tls,
        )
        ae._servers.append(server)  # shutdown() takes it out again
        return server

    def _on_request(self, event: evt.Event) -> None:
        """Admit or reject; the rest of pynetdicom's negotiation follows where admitted."""
        association = cast(BoundedAssociation, event.assoc)
        request = cast(A_ASSOCIATE, association.requestor.primitive)
        structlog.contextvars.bind_contextvars(association_id=secrets.token_hex(6))
        address = cast(AddressInformation, association.requestor.address_info).address
        caller = Caller(
            request.called_ae_title,
            request.calling_ae_title,
            address,
            association.is_secured,
            association.certificate,
        )
        match self._admissions.enter(caller):
            case Rejection() as no:
                _log.warning(
                    "association_rejected",
                    because=no.because,
                    peer=no.peer,
                    address=address,
                    calling=ascii(caller.calling_ae_title)[1:-1],
                    called=ascii(caller.called_ae_title)[1:-1],
                )
                association.ends_by(no.because)
                association.acse.send_reject(no.result, no.source, no.diagnostic)
                association.kill()
            case AdmittedPeer() as peer:
                self._serve(association, peer)

    def _serve(self, association: BoundedAssociation, peer: AdmittedPeer) -> None:
        outcomes: Counter[str] = Counter()
        began = time.monotonic()

        def end() -> None:
            self._admissions.leave(peer.name)
            self._count_open(peer, -1)
            _log.info(
                "association_ended",
                peer=peer.name,
                released=association.is_released,
                seconds=round(time.monotonic() - began, 3),
                **outcomes,
            )

        def store(event: evt.Event) -> int | Dataset:
            return self._scp.answer(StoreRequest.of(event), peer, outcomes)

        self._count_open(peer, 1)
        association.on_end = end
        association.bind(evt.EVT_C_STORE, store)
        if self._report is not None:
            answer = self._report
            association.bind(evt.EVT_N_EVENT_REPORT, lambda event: (answer(event, peer.name), None))
        association.acceptor.supported_contexts = _contexts(
            association, peer, self._transfer_syntaxes, reports=self._report is not None
        )
        _log.info("association_accepted", peer=peer.name)

    def _count_end(self, end: str, address: str) -> None:
        self._metrics.associations.labels(end).inc()
        if end not in USUAL_ENDS + REJECTIONS:  # these have a line of their own, or need none
            _log.warning("connection_ended", because=end, address=address)

    def _count_open(self, peer: AdmittedPeer, change: int) -> None:
        self._metrics.associations_open.inc(change)
        self._index.note_associations(peer.name, self._admissions.open_now(peer.name))


def _quiet_libraries() -> None:
    """Set what is global to pynetdicom and pydicom.

    Their logs and warnings print what peers write, and pynetdicom's check of UIDs aborts the
    association where `StoreScp` names the fault and goes on.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    _config.VALIDATORS["UI"] = lambda uid: (True, "")
    pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE


def _contexts(
    association: BoundedAssociation,
    peer: AdmittedPeer,
    transfer_syntaxes: tuple[str, ...],
    *,
    reports: bool,
) -> list[PresentationContext]:
    """Return what `peer` asks for and may use, one presentation context a SOP class."""
    request = cast(A_ASSOCIATE, association.requestor.primitive)
    asked = request.presentation_context_definition_list
    contexts = []
    for uid in sorted({str(context.abstract_syntax) for context in asked}):
        if uid in IMAGES:
            contexts.append(_context(uid, transfer_syntaxes))
        elif uid == Verification:
            contexts.append(_context(uid, TRANSFER_SYNTAXES))
        elif uid == COMMITMENT and reports:
            contexts.append(_context(uid, COMMITMENT_TRANSFER_SYNTAXES))
            # The caller is the provider: PS3.4 J.3.3 has it say so by role selection.
            contexts[-1].scu_role, contexts[-1].scp_role = False, True
        elif uid in peer.dropped:
            contexts.append(_context(uid, DROPPED_TRANSFER_SYNTAXES))
    return contexts


def _context(abstract_syntax: str, transfer_syntaxes: tuple[str, ...]) -> PresentationContext:
    context = PresentationContext()
    context.abstract_syntax = abstract_syntax
    context.transfer_syntax = list(transfer_syntaxes)
    return context

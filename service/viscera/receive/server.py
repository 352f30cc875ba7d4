"""Accepts connections and makes bounded associations of them."""

import socket
import sys
from collections.abc import Callable
from typing import Any

from pynetdicom import ae as ae_module
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.transport import (
    AddressInformation,
    AssociationServer,
    RequestHandler,
    ThreadedAssociationServer,
)

from viscera import log
from viscera.config import DicomSettings
from viscera.receive.hardening import BoundedAssociation
from viscera.receive.sockets import BoundedSocket, SecureSocket
from viscera.receive.tls import ServerTls

_log = log.get(__name__)


class BoundedHandler(RequestHandler):
    """Makes a `BoundedAssociation` of a connection."""

    server: "BoundedServer"

    def _create_association(self) -> BoundedAssociation:
        # As stock's, less its copy of every presentation context: `Listener` sets those that
        # the caller asks for and may use.
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assoc = BoundedAssociation(self.ae, self.server.limits)
        assoc._server = self.server
        assoc.name = f"AcceptorThread@{self.remote.address}"
        assoc.on_counted = self.server.on_counted
        assoc.set_socket(self._socket_of(assoc))
        assoc.acceptor.maximum_length = self.ae.maximum_pdu_size
        assoc.acceptor.ae_title = self.server.ae_title
        assoc.acceptor.address_info = self.local
        assoc.acceptor.implementation_class_uid = self.ae.implementation_class_uid
        assoc.acceptor.implementation_version_name = self.ae.implementation_version_name
        assoc.requestor.address_info = self.remote
        bound: dict[Any, Any] = self.server._handlers
        for event, handlers in bound.items():
            for handler, args in [handlers] if event.is_intervention else handlers:
                assoc.bind(event, handler, args)
        return assoc

    def _socket_of(self, assoc: BoundedAssociation) -> BoundedSocket:
        limits, tls = self.server.limits, self.server.tls
        if tls is None:
            return BoundedSocket(assoc, self.request, limits, assoc)
        return SecureSocket(assoc, tls.wrap(self.request), limits, assoc)


class BoundedServer(ThreadedAssociationServer):
    """Accepts connections on one port, up to a number, and to a number from each address.

    Parameters
    ----------
    port
        0 takes a free one.
    limits
        Address, AE title and bounds.
    handlers
        pynetdicom's, by event.
    on_counted
        Called once for each connection with one of `metrics.ASSOCIATION_ENDS`, and its address.
    shared
        Whether other processes listen on this port too.
    tls
        None: plain DICOM.

    Raises
    ------
    OSError
        If the address cannot be bound.
    """

    request_queue_size = 128

    def __init__(
        self,
        ae: ae_module.ApplicationEntity,
        port: int,
        limits: DicomSettings,
        *,
        handlers: list[evt.EventHandlerType],
        on_counted: Callable[[str, str], None],
        shared: bool,
        tls: ServerTls | None,
    ) -> None:
        self.limits, self.tls, self.on_counted = limits, tls, on_counted
        self._shared = shared
        super().__init__(
            ae,
            (limits.host, port),
            limits.ae_title,
            [],  # whoever handles EVT_REQUESTED sets those of each caller
            evt_handlers=handlers,
            request_handler=BoundedHandler,
        )

    def server_bind(self) -> None:
        """Bind; the kernel spreads connections over all that share the port."""
        if self._shared:
            listening: Any = self.socket
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Close a connection unheard where too many are open, in all or from its address."""
        open_now = self.active_associations
        address = AddressInformation.from_tuple(client_address).address
        if len(open_now) >= 2 * self.limits.max_associations:
            self.on_counted("max_connections", address)
            return False
        if sum(_address(one) == address for one in open_now) >= self.limits.max_per_address:
            self.on_counted("max_per_address", address)
            return False
        return True

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the association here: it takes no time, and the next request must see it."""
        AssociationServer.process_request(self, request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say in one line what socketserver would print; it closes the connection."""
        address = AddressInformation.from_tuple(client_address).address
        self.on_counted("broken", address)
        _log.error("connection_broken", exc_info=sys.exc_info())


def _address(association: Association) -> str:
    remote: Any = association.requestor.address_info
    return str(remote.address)

"""pynetdicom's association, bounded and prompt.

Stock 3.0.4 has weaknesses that any peer can reach (reproduced; the pin in pyproject.toml is
because of them): a half-sent PDU defeats every timeout and holds its slot for ever, a PDU length
of 4 GiB is believed, fragments that never say "last" accumulate without bound. And it polls: two
threads an association that wake a thousand times a second, which costs up to 3 ms an instance.
"""

import contextlib
import os
import queue
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from pynetdicom import ae as ae_module
from pynetdicom import evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import (
    AssociationSocket,
    RequestHandler,
    ThreadedAssociationServer,
)

from viscera import log
from viscera.config import DicomSettings

_log = log.get(__name__)

_HEADER_BYTES = 6
_MIN_ASSOCIATE_BYTES = 1 << 16
"""Room for an A-ASSOCIATE-RQ of 128 presentation contexts, whatever P-DATA is limited to."""
_UNANSWERED = 2
"""Messages that may wait: we negotiate one operation at a time."""
_WAIT_S = 0.1
_LOOK_S = 0.005
_INVALID_UID = 0x0117
_INVALID_PDU = "Evt19"
"""PS3.8 9.2: unrecognised or invalid PDU; in any state it ends in an A-ABORT."""


class BoundedSocket(AssociationSocket):
    """Reads with a deadline and a cap; waits for the peer or for our own answer, no polling."""

    def __init__(self, assoc: Association, connection: socket.socket, limits: DicomSettings):
        super().__init__(assoc, client_socket=connection)
        self._pdu_timeout_s = limits.pdu_timeout_s
        self._max_bytes = max(limits.max_pdu_bytes, _MIN_ASSOCIATE_BYTES) + _HEADER_BYTES
        self._deadline = 0.0
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()  # select() cannot take descriptors above 1023
        self._poll.register(connection, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        # One bound for a peer that does not read our answers either.
        connection.settimeout(limits.pdu_timeout_s)

    def wake(self) -> None:
        """End the wait in `ready`; from any thread."""
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def forget(self) -> None:
        """Close the descriptor behind `wake`; after both threads are done."""
        with contextlib.suppress(OSError):
            os.close(self._wake)

    @property
    def ready(self) -> bool:
        """Whether the peer sent something; returns early when there is something to send."""
        if self.socket is None or not self._is_connected:
            return False
        try:
            descriptors = {fd for fd, _ in self._poll.poll(_WAIT_S * 1000)}
            if self._wake in descriptors:
                os.eventfd_read(self._wake)
            readable = self.socket.fileno() in descriptors
        except (OSError, ValueError):
            self.event_queue.put("Evt17")
            return False
        if readable:
            # Acknowledge at once, or a sender with Nagle's algorithm (dcmtk's default) waits
            # 40 ms for us at the end of every message. The kernel forgets it, so every time.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            self._deadline = time.monotonic() + self._pdu_timeout_s
        return readable

    def recv(self, nr_bytes: int) -> bytearray:
        """Read `nr_bytes`, or less where the peer closed.

        Raises
        ------
        OSError
            If the PDU is longer than the cap, or did not arrive within its time.
        """
        if nr_bytes > self._max_bytes:
            raise OSError(f"a PDU of {nr_bytes} bytes; the largest we take is {self._max_bytes}")
        assert self.socket is not None
        data = bytearray(nr_bytes)
        view, at = memoryview(data), 0
        while at < nr_bytes:
            left_s = self._deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("the PDU did not arrive within dicom.pdu_timeout_s")
            self.socket.settimeout(left_s)
            got = self.socket.recv_into(view[at:])
            if not got:
                break
            at += got
        view.release()
        del data[at:]
        self.socket.settimeout(self._pdu_timeout_s)
        return data

    def _shutdown_socket(self) -> None:
        # Stock forgets to close where the peer was first to hang up.
        if self.socket is not None:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()


class PromptProvider(DULServiceProvider):
    """Wakes up for what we want to send."""

    def __init__(self, assoc: Association) -> None:
        super().__init__(assoc)
        self._run_loop_delay = 0  # `BoundedSocket.ready` waits instead

    def run_reactor(self) -> None:
        """Run the state machine until the connection ends."""
        try:
            super().run_reactor()
        except Exception as error:
            # Such as an answer that comes after an abort: no transition of PS3.8 table 9-10.
            # The association's thread sees this one dead and closes the connection.
            _log.warning("association_broken", error=type(error).__name__)

    def send_pdu(self, primitive: Any) -> None:
        """Queue `primitive` and wake the thread that sends it."""
        super().send_pdu(primitive)
        self._wake()

    def kill_dul(self) -> None:
        """Ask the thread to end, and wake whoever waits for it."""
        super().kill_dul()
        self._wake()
        if not self.assoc.is_established:
            # Stock lets the association thread of a closed connection wait out its timeout.
            no_request: Any = None
            self.to_user_queue.put(no_request)

    def stop_dul(self) -> bool:
        """End the thread if the connection is closed; False where it is not yet."""
        if self.state_machine.current_state != "Sta1":
            return False
        self.kill_dul()
        self.join()
        return True

    def _wake(self) -> None:
        if isinstance(self.socket, BoundedSocket):
            self.socket.wake()


class BoundedMessages(DIMSEServiceProvider):
    """Caps what one message may hold and how many may wait; hands them over at once."""

    def __init__(self, assoc: Association, max_bytes: int) -> None:
        super().__init__(assoc)
        self._max_bytes = max_bytes
        self._received = 0

    def get_msg(self, block: bool = False) -> Any:
        """Return the next message, or (None, None) after a moment."""
        try:
            return self.msg_queue.get(timeout=self.dimse_timeout if block else _LOOK_S)
        except queue.Empty:
            return None, None

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take one P-DATA; too much of it ends the association."""
        self._received += sum(len(data) for _, data in primitive.presentation_data_value_list)
        if self._received > self._max_bytes or self.msg_queue.qsize() >= _UNANSWERED:
            self._give_up()
            return
        try:
            super().receive_primitive(primitive)
        except Exception as error:  # a command set that is none; stock's thread would die of it
            _log.warning("message_invalid", error=type(error).__name__)
            self._give_up()
        if self.message is None:
            self._received = 0

    def _give_up(self) -> None:
        self.message = None
        self.dul.event_queue.put(_INVALID_PDU)


class BoundedAssociation(Association):
    """An accepted association whose end is always told."""

    def __init__(self, ae: ae_module.ApplicationEntity, limits: DicomSettings) -> None:
        super().__init__(ae, MODE_ACCEPTOR)
        self.dul = PromptProvider(self)
        self.dimse = BoundedMessages(self, limits.max_instance_bytes)
        self.acse_timeout = ae.acse_timeout  # again, for the new provider's timers
        self.network_timeout = ae.network_timeout
        self.on_end: Callable[[], None] = lambda: None

    def run_reactor(self) -> None:
        """Serve the association; whatever happens, both threads end and `on_end` is called."""
        try:
            super().run_reactor()
        finally:
            self.on_end()
            self.dul.kill_dul()
            self.dul.join()
            if isinstance(self.dul.socket, BoundedSocket):
                self.dul.socket.forget()

    def _serve_request(self, msg: Any, context_id: int) -> None:
        # Stock ignores a C-STORE without a SOP Instance UID, and its sender waits for ever.
        if isinstance(msg, C_STORE) and not msg.AffectedSOPInstanceUID and msg.MessageID:
            answer = C_STORE()
            answer.MessageIDBeingRespondedTo = msg.MessageID
            answer.AffectedSOPClassUID = msg.AffectedSOPClassUID
            answer.Status = _INVALID_UID
            self.dimse.send_msg(answer, context_id)
            return
        super()._serve_request(msg, context_id)


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
        assoc.set_socket(BoundedSocket(assoc, self.request, self.server.limits))
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


class BoundedServer(ThreadedAssociationServer):
    """Accepts connections, up to a number.

    Parameters
    ----------
    limits
        Address, AE title and bounds.
    handlers
        pynetdicom's, by event.
    shared
        Whether other processes listen on this port too.

    Raises
    ------
    OSError
        If the address cannot be bound.
    """

    request_queue_size = 128

    def __init__(
        self,
        ae: ae_module.ApplicationEntity,
        limits: DicomSettings,
        *,
        handlers: list[evt.EventHandlerType],
        shared: bool,
    ) -> None:
        self.limits = limits
        self._shared = shared
        super().__init__(
            ae,
            (limits.host, limits.port),
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
        """Close a connection unheard where twice the associations we allow are open."""
        return len(self.active_associations) < 2 * self.limits.max_associations

"""pynetdicom's association, bounded and prompt.

Stock 3.0.4 has weaknesses that any peer can reach (reproduced; the pin in pyproject.toml is
because of them): a half-sent PDU defeats every timeout and holds its slot for ever, a PDU length
of 4 GiB is believed, fragments that never say "last" accumulate without bound. And it polls: two
threads an association that wake a thousand times a second, which costs up to 3 ms an instance.
`sockets` bounds what is read of a connection, this module what becomes of it.
"""

import queue
from collections.abc import Callable
from typing import Any

from pynetdicom import ae as ae_module
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import P_DATA

from viscera import log
from viscera.config import DicomSettings
from viscera.receive.sockets import BoundedSocket, SecureSocket
from viscera.receive.tls import PeerCertificate

_log = log.get(__name__)

_UNANSWERED = 2
"""Messages that may wait: we negotiate one operation at a time."""
_LOOK_S = 0.005
_INVALID_UID = 0x0117
_INVALID_PDU = "Evt19"
"""PS3.8 9.2: unrecognised or invalid PDU; in any state it ends in an A-ABORT."""
_MOST_CONTEXTS = 128
_ENDING_EVENTS = {
    "Evt16": "aborted_by_peer",
    "Evt17": "connection_closed",
    _INVALID_PDU: "pdu_invalid",
}


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
            association: Any = self.assoc
            association.ends_by("pdu_unexpected")
            _log.warning("association_broken", error=type(error).__name__)

    def _decode_pdu(self, bytestream: bytearray) -> tuple[Any, str]:
        pdu, event = super()._decode_pdu(bytestream)
        if isinstance(pdu, A_ASSOCIATE_RQ):
            _require_sane(pdu)
        return pdu, event

    def _read_pdu_data(self) -> None:
        super()._read_pdu_data()
        association: Any = self.assoc
        association.heard = True
        # It names its event and not its reason; the reader of the socket may have named one.
        last = self.event_queue.queue[-1] if self.event_queue.queue else ""
        if last in _ENDING_EVENTS:
            association.ends_by(_ENDING_EVENTS[last])

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


def _require_sane(request: A_ASSOCIATE_RQ) -> None:
    """Refuse what PS3.8 9.3.2.2 rules out, and stock negotiates at length: ids are odd bytes."""
    ids = [context.context_id for context in request.presentation_context]
    if len(ids) > _MOST_CONTEXTS or len(set(ids)) < len(ids):
        raise ValueError(f"{len(ids)} presentation contexts, or two of one id")


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
        if self._received > self._max_bytes:
            self._give_up("message_too_large")
            return
        if self.msg_queue.qsize() >= _UNANSWERED:
            self._give_up("answers_not_awaited")
            return
        try:
            super().receive_primitive(primitive)
        except Exception as error:  # a command set that is none; stock's thread would die of it
            _log.warning("message_invalid", error=type(error).__name__)
            self._give_up("message_invalid")
        if self.message is None:
            self._received = 0

    def _give_up(self, reason: str) -> None:
        association: Any = self.assoc
        association.ends_by(reason)
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

        self.on_counted: Callable[[str, str], None] = lambda reason, address: None
        self.heard = False
        self._end = ""

    @property
    def is_secured(self) -> bool:
        """Whether it came by TLS."""
        return isinstance(self.dul.socket, SecureSocket)

    @property
    def certificate(self) -> PeerCertificate | None:
        """The client certificate that its CA vouches for, where one was shown."""
        return self.dul.socket.certificate if isinstance(self.dul.socket, SecureSocket) else None

    def ends_by(self, reason: str) -> None:
        """Keep the first `reason`, one of `metrics.ASSOCIATION_ENDS`; see `sockets.Ending`."""
        self._end = self._end or reason

    def abort(self, block: bool = True) -> None:
        """Abort; the reactor does so after too long a silence."""
        self.ends_by("idle")
        super().abort(block)

    def run_reactor(self) -> None:
        """Serve the association; whatever happens, both threads end and `on_end` is called."""
        try:
            super().run_reactor()
        finally:
            self.on_end()
            self.dul.kill_dul()
            self.dul.join()
            remote: Any = self.requestor.address_info
            self.on_counted(self._how_it_ended(), str(remote.address))
            if isinstance(self.dul.socket, BoundedSocket):
                self.dul.socket.forget()

    def _how_it_ended(self) -> str:
        if self.is_released:
            return "released"
        if self.heard or self._end:
            return self._end or "pdu_unexpected"
        shakes = isinstance(self.dul.socket, SecureSocket) and not self.dul.socket.is_shaken
        return "tls_too_slow" if shakes else "silent"

    def _serve_request(self, msg: Any, context_id: int) -> None:
        if context_id not in self._accepted_cx:
            self.ends_by("message_invalid")  # stock aborts
        # Stock ignores a C-STORE without a SOP Instance UID, and its sender waits for ever.
        if isinstance(msg, C_STORE) and not msg.AffectedSOPInstanceUID and msg.MessageID:
            answer = C_STORE()
            answer.MessageIDBeingRespondedTo = msg.MessageID
            answer.AffectedSOPClassUID = msg.AffectedSOPClassUID
            answer.Status = _INVALID_UID
            self.dimse.send_msg(answer, context_id)
            return
        super()._serve_request(msg, context_id)

"""What a hostile peer does to a DICOM listener, in bytes: libraries would not send it.

An attack is a function of a `Target` that returns the sockets it still holds; a `Fault` is what
it may not achieve. The same functions run against Viscera and against an unhardened listener.
"""

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from instances import as_file, ct_dataset, with_uid
from receive_support import fragment, store_request

ADDRESS = "127.0.0.9"
"""Where attackers call from: loopback has a whole network of addresses."""
SOME_MB = 320 << 20
PACE_S = 0.2


@dataclass
class Target:
    """A listener: of a process of its own."""

    port: int
    tls_port: int
    pid: int
    folder: Path
    statuses: list[int] = field(default_factory=list)
    """Of the instances that the running attack sent."""
    answers: list[int] = field(default_factory=list)
    """PDU types that the running attack got for its association requests."""

    def connect(self, port: int | None = None) -> socket.socket:
        connection = socket.create_connection(
            ("127.0.0.1", port or self.port), timeout=3, source_address=(ADDRESS, 0)
        )
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def associate(self, **request) -> socket.socket:
        connection = self.connect()
        connection.sendall(associate_rq(**request))
        self.answers.append(read_pdu(connection)[0])
        return connection

    def store(self, sop_uid: str, data_set: bytes, sop_class: str = CTImageStorage) -> None:
        """Send one instance on an association of its own, and keep its status."""
        with self.associate() as connection, contextlib.suppress(OSError):
            request = store_request(1, sop_uid, data_set)
            connection.sendall(request.replace(CTImageStorage.encode(), sop_class.encode(), 1))
            self.statuses.append(status_of(read_pdu(connection)[1]))
            connection.sendall(RELEASE)
            read_pdu(connection)


RELEASE = b"\x05\0\0\0\0\x04\0\0\0\0"
ABORT = b"\x07\0\0\0\0\x04\0\0\0\0"


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def associate_rq(
    *,
    called: str = "VISCERA",
    calling: str = "ATTACKER",
    contexts: int = 1,
    sop_class=CTImageStorage,
) -> bytes:
    """Return an A-ASSOCIATE-RQ (PS3.8 9.3.2)."""
    syntaxes = item(0x30, sop_class.encode()) + item(0x40, ExplicitVRLittleEndian.encode())
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
    body += item(0x10, b"1.2.840.10008.3.1.1.1")
    for number in range(contexts):
        body += item(0x20, bytes([(2 * number + 1) % 256, 0, 0, 0]) + syntaxes)
    body += item(0x50, item(0x51, struct.pack(">L", 1 << 16)) + item(0x52, b"1.2.3"))
    return struct.pack(">BBL", 1, 0, len(body)) + body


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """Return type and value of the next PDU; type 0 where the peer hung up."""
    with contextlib.suppress(ConnectionError, TimeoutError):
        head = connection.recv(6, socket.MSG_WAITALL)
        if len(head) == 6:
            size = int.from_bytes(head[2:], "big")
            return head[0], connection.recv(size, socket.MSG_WAITALL) if size else b""
    return 0, b""


def status_of(response: bytes) -> int:
    """Return (0000,0900) of a C-STORE-RSP; -1 where there is none."""
    at = response.find(b"\0\0\x00\x09\x02\0\0\0")
    return int.from_bytes(response[at + 8 : at + 10], "little") if at >= 0 else -1


def flood(connection: socket.socket, pieces: Iterator[bytes]) -> None:
    """Send until the peer hangs up, or for some seconds."""
    deadline = time.monotonic() + 12
    with contextlib.suppress(OSError):
        for piece in pieces:
            connection.sendall(piece)
            if time.monotonic() > deadline:
                return


def repeat(piece: bytes, most_bytes: int = SOME_MB) -> Iterator[bytes]:
    for _ in range(most_bytes // len(piece)):
        yield piece


# --- Transport


def half_pdus(target: Target) -> list[socket.socket]:
    held = [target.associate() for _ in range(3)]
    halves = (b"\x04", b"\x04\0\0\0", b"\x04\0\0\0\x10\0" + b"\0" * 99)
    for connection, half in zip(held, halves, strict=True):
        connection.sendall(half)
    return held


def half_request(target: Target) -> list[socket.socket]:
    held = [target.connect() for _ in range(3)]
    for connection in held:
        connection.sendall(associate_rq()[:50])
    return held


def trickle(target: Target) -> list[socket.socket]:
    connection = target.associate()
    connection.sendall(b"\x04\0\0\0\x10\0")

    def drip() -> None:
        with contextlib.suppress(OSError):
            for _ in range(200):
                connection.sendall(b"\0")
                time.sleep(PACE_S)

    threading.Thread(target=drip, daemon=True).start()
    return [connection]


def huge_pdu(target: Target) -> list[socket.socket]:
    connection = target.associate()
    connection.sendall(b"\x04\0\xff\xff\xff\xff")
    flood(connection, repeat(b"\0" * (1 << 20)))
    return [connection]


def huge_request(target: Target) -> list[socket.socket]:
    connection = target.connect()
    connection.sendall(b"\x01\0\xff\xff\xff\xff")
    flood(connection, repeat(b"\0" * (1 << 20)))
    return [connection]


def endless_fragments(target: Target) -> list[socket.socket]:
    connection = target.associate()
    command, *_ = store_request(1, "1.2.3", b"").partition(b"\x04\0\0\0\0\x06")
    connection.sendall(command)
    flood(connection, repeat(fragment(1, 0, b"\0" * 60_000)))
    return [connection]


def endless_command(target: Target) -> list[socket.socket]:
    connection = target.associate()
    flood(connection, repeat(fragment(1, 1, b"\0" * 60_000)))
    return [connection]


def unread_answers(target: Target) -> list[socket.socket]:
    connection = target.associate()
    request = store_request(1, "../../x", b"\0" * 40_000) * 10
    flood(connection, repeat(request, 16 << 20))
    return [connection]


def thousands_of_contexts(target: Target) -> list[socket.socket]:
    held = [target.connect() for _ in range(4)]
    for connection, contexts in zip(held, (129, 1000, 2000, 5000), strict=True):
        with contextlib.suppress(OSError):
            connection.sendall(associate_rq(contexts=contexts))
            target.answers.append(read_pdu(connection)[0])
    return held


def silent_connections(target: Target) -> list[socket.socket]:
    return connected(target, target.port)


def silent_tls(target: Target) -> list[socket.socket]:
    return connected(target, target.tls_port)


def connected(target: Target, port: int, number: int = 12) -> list[socket.socket]:
    held = []
    with contextlib.suppress(OSError):  # a listener that is stuck accepts a few, and no more
        while len(held) < number:
            held.append(target.connect(port))
    return held


def half_handshakes(target: Target) -> list[socket.socket]:
    held = silent_tls(target)
    for connection in held:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    return held


def silent_after_handshake(target: Target) -> list[socket.socket]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    held: list[socket.socket] = []
    for connection in connected(target, target.tls_port, 6):
        held.append(context.wrap_socket(connection))
        held[-1].sendall(associate_rq()[:20])
    return held


def association_flood(target: Target) -> list[socket.socket]:
    held = []
    for _ in range(60):
        with contextlib.suppress(OSError):
            held.append(target.associate())
    return held


def noise(target: Target) -> list[socket.socket]:
    held = [target.connect() for _ in range(4)]
    texts = (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" * 99, bytes(range(256)) * 9, b"\xff" * 9999)
    for connection, text in zip(held, texts, strict=True):
        with contextlib.suppress(OSError):
            connection.sendall(text)
    return held


# --- State machine


def aborts(target: Target) -> list[socket.socket]:
    """A-ABORT, and a reset, in every state that a requestor can bring about (PS3.8 table 9-10)."""
    request = store_request(1, "1.2.3", b"\0" * 100_000)
    befores: list[Callable[[], socket.socket]] = [target.connect, target.associate]
    for sent in (request[:40], request[:200], request[: len(request) // 2], request, RELEASE):
        befores.append(lambda sent=sent: _sent(target.associate(), sent))
    befores.append(lambda: _sent(target.connect(), associate_rq()))
    for before in befores:
        with before() as connection, contextlib.suppress(OSError):
            connection.sendall(ABORT)
        connection = before()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    return []


def _sent(connection: socket.socket, data: bytes) -> socket.socket:
    connection.sendall(data)
    return connection


def pdus_out_of_turn(target: Target) -> list[socket.socket]:
    accept = b"\x02" + associate_rq()[1:]
    first = (fragment(1, 3, b"\0" * 12), accept, RELEASE, b"\x06" + RELEASE[1:])
    then = (associate_rq(), accept, b"\x03\0\0\0\0\x04\0\1\1\1", b"\x06" + RELEASE[1:])
    held = [_sent(target.connect(), data) for data in first]
    return held + [_sent(target.associate(), data) for data in then]


def bad_items(target: Target) -> list[socket.socket]:
    """Lengths inside an association request that lead out of it, or nowhere."""
    good = associate_rq()
    held = []
    for at in (76, 101, 109, len(good) - 20):
        bad = bytearray(good)
        bad[at : at + 2] = b"\xff\xff"
        held.append(_sent(target.connect(), bytes(bad)))
    return held


def bad_commands(target: Target) -> list[socket.socket]:
    held = []
    for command in (b"\0" * 12, b"\xff" * 64, b"\0\0\0\x01\x02\0\0\0\xff\xff"):
        held.append(_sent(target.associate(), fragment(1, 3, command)))
    held.append(_sent(target.associate(), fragment(99, 3, b"\0" * 12)))  # no such context
    return held


def wrong_titles(target: Target) -> list[socket.socket]:
    return [
        target.associate(called="OTHER"),
        target.associate(calling="STRANGER"),
        target.associate(calling="ELSEWHERE"),  # known, but not from here
        target.associate(called="VISCERA\0", calling="\xff"[:0] or "A\\B"),
    ]


# --- Data sets


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    if vr in (b"SQ", b"OW", b"UN", b"UT"):
        return head + struct.pack("<HL", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def data_set(**changes) -> tuple[str, bytes]:
    """Return the SOP Instance UID and bytes of a CT slice."""
    ds = ct_dataset(series_uid="1.2.3.666")
    ds.FrameOfReferenceUID = "1.2.3.6"
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    data = as_file(ds)
    return ds.SOPInstanceUID, data[144 + int.from_bytes(data[140:144], "little") :]


def _send(target: Target, *instances: tuple[str, bytes]) -> list[socket.socket]:
    for sop_uid, data in instances:
        target.store(sop_uid, data)
    return []


def nested_bombs(target: Target) -> list[socket.socket]:
    sop_uid, data = data_set()
    at = data.index(struct.pack("<HH", 0x0008, 0x0060))
    deep = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 20_000
    wide = element(0x00081140, b"SQ", b"\xfe\xff\x00\xe0\0\0\0\0" * 100_000)
    other, more = data_set()
    closed = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * 20_000
    return _send(
        target,
        (sop_uid, data[:at] + deep + data[at:]),
        (other, more[:at] + wide + deep + closed + more[at:]),
    )


def impossible_dimensions(target: Target) -> list[socket.socket]:
    slices = [
        data_set(
            ImagePositionPatient=[0, 0, z], Rows=65535, Columns=65535, PixelData=b"\0" * 88,
            SeriesInstanceUID="1.2.3.667",
        )
        for z in range(3)
    ]  # fmt: skip
    return _send(target, *slices, data_set(Rows=0, Columns=0, NumberOfFrames=2**31 - 1))


def wrong_vrs(target: Target) -> list[socket.socket]:
    sop_uid, data = data_set()
    at = data.index(b"\x20\x00\x0d\x00UI")
    as_sequence = data[:at] + data[at:].replace(b"UI", b"SQ", 1)
    other, more = data_set()
    number = more.replace(b"\x08\x00\x16\x00UI", b"\x08\x00\x16\x00FD", 1)
    third, last = data_set()
    unknown = last.replace(b"\x20\x00\x0d\x00UI", b"\x20\x00\x0d\x00\0\xff", 1)
    return _send(target, (sop_uid, as_sequence), (other, number), (third, unknown))


def lengths_that_lie(target: Target) -> list[socket.socket]:
    sop_uid, data = data_set()
    at = data.index(b"\x20\x00\x0e\x00UI") + 6
    return _send(
        target,
        (sop_uid, data[:at] + b"\xfe\xff" + data[at + 2 :]),
        (sop_uid, data[: len(data) // 8]),
        (sop_uid, b"\x08\x00\x16\x00UN\0\0\xfe\xff\xff\xff"),
        (sop_uid, b""),
    )


def bad_character_sets(target: Target) -> list[socket.socket]:
    kinds = ((b"NO SUCH\\ISO 2022 IR 999", b"\x1b$B\xff\xfe"), (b"\xff" * 16, b"\x1b" * 64))
    instances = []
    for z, (charset, name) in enumerate((*kinds, kinds[0])):
        sop_uid, data = data_set(ImagePositionPatient=[0, 0, z])
        at, end = data.index(b"\x08\x00\x16\x00"), data.index(b"\x10\x00\x20\x00")
        charset, name = charset + b" " * (len(charset) % 2), name + b" " * (len(name) % 2)
        named = (
            element(0x00080005, b"CS", charset) + data[at:end] + element(0x00100010, b"PN", name)
        )
        instances.append((sop_uid, data[:at] + named + data[end:]))
    return _send(target, *instances)


def path_tricks(target: Target) -> list[socket.socket]:
    """In the request, and where only the data set has them: many programs name files by that."""
    tricks = ("../escaped", "/tmp/escaped", "..", "1.2/../../3", "1.2\n3", "", "1" * 65)
    for trick in tricks:
        _send(target, (trick, data_set()[1]))
    for trick in (b"../escaped", b"../../escaped"):
        _send(target, ("1.2.3", with_uid(data_set()[1], 0x00080018, trick)))
    return []


def other_sop_class(target: Target) -> list[socket.socket]:
    """A class that was not negotiated; and one in the request, another in the data set."""
    sop_uid, data = data_set(SOPClassUID=MRImageStorage)
    target.store(sop_uid, data, sop_class=MRImageStorage)
    target.store(sop_uid, data)
    return []

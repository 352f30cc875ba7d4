"""Hostile peers: while each attacks, a proper client stores its series, and memory stays bounded.

What an unhardened pynetdicom listener falls to also runs against one, and `stock` says what that
lets happen; of the others, the statuses and answers show that they arrived. So a test that cannot
fail would be seen.
"""

import contextlib
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import attacks
import certificates
import peers
from attacks import Target
from instances import as_file, ct_dataset
from viscera import series
from viscera.config import SeriesSettings
from viscera.errors import ServiceError

MOST_MEMORY_MB = 300
PATIENCE_S = 8.0
STOCK = Path(__file__).parents[1] / "stock_receiver.py"

BLOCKED = "a proper client was not served"
BLOCKED_TLS = "a proper client was not served by TLS"
MEMORY = "memory grew beyond the limit"
HELD = "connections were held"
LET_IN = "associations were accepted"
STORED = "instances were stored"
ESCAPED = "a file was written elsewhere"

REJECTED, ABORTED = 0x03, 0x07
TAKEN, MISMATCH, INVALID_UID = 0x0000, 0xA900, 0x0117


@dataclass(frozen=True)
class Attack:
    run: Callable[[Target], list]
    counted: frozenset[str]
    """Reasons that Viscera counts: ends of associations, errors of instances, ``stored``."""
    stock: frozenset[str] = frozenset()
    """What an unhardened listener lets happen."""
    statuses: tuple[int, ...] = ()
    """What Viscera answers to its instances, one after the other."""
    answers: tuple[int, ...] = ()
    """PDU types with which Viscera answers the first association requests, odd themselves."""

    @property
    def refused(self) -> bool:
        """Whether no instance of it may be taken."""
        return bool(self.statuses) and 0 not in self.statuses


def attack(run, *counted: str, stock=(), statuses=(), answers=()):
    return Attack(run, frozenset(counted), frozenset(stock), tuple(statuses), tuple(answers))


def named(some: Sequence[Attack]) -> list:
    return [pytest.param(one, id=one.run.__name__) for one in some]


ATTACKS = [
    attack(attacks.half_pdus, "pdu_too_slow", stock=[HELD]),
    attack(attacks.half_request, "pdu_too_slow", stock=[HELD]),
    attack(attacks.trickle, "pdu_too_slow", stock=[HELD]),
    attack(attacks.huge_pdu, "pdu_too_long", stock=[MEMORY, HELD]),
    attack(attacks.huge_request, "pdu_too_long", stock=[MEMORY, HELD]),
    attack(attacks.endless_fragments, "message_too_large", stock=[MEMORY]),
    attack(attacks.endless_command, "message_too_large", stock=[MEMORY]),
    attack(attacks.unread_answers, "answers_not_awaited"),
    attack(
        attacks.thousands_of_contexts, "pdu_invalid", "pdu_too_long",
        stock=[LET_IN], answers=[ABORTED] * 2,  # of the long ones, a reset may overtake the answer
    ),
    attack(attacks.silent_connections, "silent"),
    attack(attacks.silent_tls, "tls_too_slow", stock=[BLOCKED_TLS, HELD]),
    attack(attacks.half_handshakes, "tls_too_slow", stock=[BLOCKED_TLS, HELD]),
    attack(attacks.silent_after_handshake, "pdu_too_slow", stock=[HELD]),
    attack(
        attacks.association_flood, "max_per_address", "max_associations_per_peer", stock=[BLOCKED]
    ),
    attack(attacks.noise, "pdu_invalid", stock=[HELD]),
    attack(attacks.aborts, "aborted_by_peer", "connection_closed"),
    attack(attacks.pdus_out_of_turn, "pdu_unexpected"),
    attack(attacks.bad_items, "pdu_invalid"),
    attack(attacks.bad_commands, "message_invalid"),
    attack(
        attacks.wrong_titles, "called_ae_title", "calling_ae_title", "source_network",
        stock=[LET_IN], answers=[REJECTED] * 3 + [ABORTED],
    ),
    attack(attacks.nested_bombs, "DatasetMismatch", "stored", statuses=[MISMATCH, TAKEN]),
    attack(attacks.impossible_dimensions, "stored", statuses=[TAKEN] * 4),
    attack(attacks.wrong_vrs, "DatasetMismatch", "stored", statuses=[MISMATCH, TAKEN, MISMATCH]),
    attack(attacks.lengths_that_lie, "DatasetMismatch", stock=[STORED], statuses=[MISMATCH] * 4),
    attack(attacks.bad_character_sets, "stored", statuses=[TAKEN] * 3),
    attack(attacks.path_tricks, "InvalidUID", stock=[ESCAPED, STORED], statuses=[INVALID_UID] * 9),
    attack(
        attacks.other_sop_class, "UnsupportedSOPClass", "DatasetMismatch",
        stock=[STORED], statuses=[0x0122, MISMATCH],
    ),
]  # fmt: skip
SIBLINGS = (
    attacks.half_request,
    attacks.huge_request,
    attacks.endless_command,
    attacks.half_handshakes,
)
"""Find the weakness of the attack before them; the unhardened listener takes seconds for each."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    ca = certificates.authority(folder, "ca")
    names = "DNS:localhost,IP:127.0.0.1"
    return ca, certificates.signed(ca, "server", names, kind="rsa")


@dataclass
class Hardened:
    target: Target
    service: peers.Service


@pytest.fixture(scope="module")
def hardened(tmp_path_factory, made) -> Iterator[Hardened]:
    folder = tmp_path_factory.mktemp("hardened")
    config = peers.write_config(folder, model_repo=folder, model="none", quiet_s=600.0)
    text = config.read_text()
    limits = f"""
processes = 1
tls_port = 0
tls_certificate = "{made[1].certificate}"
tls_key = "{made[1].key}"
pdu_timeout_s = 1.0
idle_timeout_s = 2.0
max_instance_bytes = 8388608
max_associations_per_peer = 8
max_per_address = 14
"""
    hostile = [
        ("attacker", "ATTACKER", f"{attacks.ADDRESS}/32"),
        ("elsewhere", "ELSEWHERE", "10.0.0.0/8"),
    ]
    tables = "".join(
        f'[[dicom.peers]]\nname = "{name}"\nae_title = "{title}"\nnetworks = ["{network}"]\n'
        for name, title, network in hostile
    )
    text = text.replace("[dicom]\n", f"[dicom]\n{limits}").replace(
        "[spool]\n", f"{tables}[spool]\n"
    )
    config.write_text(text)
    with peers.service(config, "receive", folder=folder, ready="role_ready") as running:
        running.ports["http_port"] = running.ports["receive_http_port"]
        ports = running.ports
        target = Target(
            ports["dicom_port"], ports["dicom_tls_port"], running.process.pid, folder / "spool"
        )
        yield Hardened(target, running)


class Unhardened:
    """A process of `stock_receiver.py`, a fresh one after each that fell."""

    def __init__(self, folder: Path, server: certificates.Made) -> None:
        self._folder, self._server = folder, server
        self._process: subprocess.Popen | None = None
        self._target: Target | None = None

    def target(self) -> Target:
        if self._target is not None:
            return self._target
        inside = self._folder / "a" / "b"
        inside.mkdir(parents=True, exist_ok=True)
        files = (self._server.certificate, self._server.key)
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(STOCK), *map(str, (inside, *files))],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        port, tls_port = map(int, self._process.stdout.readline().split())
        self._target = Target(port, tls_port, self._process.pid, self._folder)
        return self._target

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._process = self._target = None
        shutil.rmtree(self._folder)  # what it wrote elsewhere, too


@pytest.fixture(scope="module")
def unhardened(tmp_path_factory, made) -> Iterator[Unhardened]:
    listener = Unhardened(tmp_path_factory.mktemp("unhardened"), made[1])
    yield listener
    listener.end()


def stores(folder: Path, port: int, *options: str) -> bool:
    """Whether a proper client stores a small series within seconds."""
    sent = folder / f"series{time.monotonic_ns()}"
    sent.mkdir()
    for z in range(3):
        (sent / f"{z}.dcm").write_bytes(as_file(ct_dataset(z_mm=z)))
    patience = ["-to", "3", "-ta", "3", "-td", "3"]
    with contextlib.suppress(subprocess.TimeoutExpired):
        return peers.storescu(port, sent, extra=[*patience, *options], timeout_s=8).returncode == 0
    return False


def peak_mb(pid: int) -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1000


def hung_up(connection, until: float) -> bool:
    """Whether the listener ends this connection in time."""
    try:
        while (left_s := until - time.monotonic()) > 0:
            connection.settimeout(left_s)
            if not connection.recv(65536):
                return True
    except TimeoutError:
        return False
    except OSError:
        return True
    return False


def faults(
    attack: Attack, target: Target, scratch: Path, ca: Path, patience_s: float = PATIENCE_S
) -> frozenset[str]:
    """Run one attack with a proper client beside it; return what should not have happened."""
    Path(f"/proc/{target.pid}/clear_refs").write_text("5")  # the peak starts anew
    target.statuses.clear()
    target.answers.clear()
    held: list = []
    thread = threading.Thread(target=lambda: held.extend(attack.run(target)))
    thread.start()
    time.sleep(0.3)
    served = stores(scratch, target.port)
    served_tls = stores(scratch, target.tls_port, "+tla", "+cf", str(ca))
    thread.join(30)
    until = time.monotonic() + patience_s
    ended = [hung_up(connection, until) for connection in held]
    for connection in held:
        connection.close()
    let_in = bool(attack.answers) and 2 in target.answers
    found = {
        BLOCKED: not served,
        BLOCKED_TLS: not served_tls,
        MEMORY: peak_mb(target.pid) > MOST_MEMORY_MB,
        HELD: not all(ended) and not let_in,
        LET_IN: let_in,
        STORED: attack.refused and 0 in target.statuses,
        ESCAPED: any(target.folder.rglob("escaped*")) or Path("/tmp/escaped.dcm").exists(),
    }
    return frozenset(fault for fault, happened in found.items() if happened)


def counts(service: peers.Service) -> dict[str, float]:
    """Return what is counted by reason."""
    page = service.metrics()
    ends = re.findall(r'^viscera_associations_total\{end="(\w+)"\} (\S+)$', page, re.M)
    pattern = r'^viscera_instances_total\{outcome="(\w+)",reason="(\w*)"\} (\S+)$'
    instances = [(reason or outcome, n) for outcome, reason, n in re.findall(pattern, page, re.M)]
    return {name: float(value) for name, value in [*ends, *instances]}


@pytest.mark.parametrize("attack", named(ATTACKS))
def test_viscera_stands(attack, hardened, made, tmp_path):
    before = counts(hardened.service)
    assert faults(attack, hardened.target, tmp_path, made[0].certificate) == frozenset()
    print(
        "XX",
        attack.run.__name__,
        [hex(x) for x in hardened.target.statuses],
        hardened.target.answers,
    )

    def risen() -> set[str]:
        now = counts(hardened.service)
        return {name for name in now if now[name] > before.get(name, 0)}

    with contextlib.suppress(pytest.fail.Exception):
        peers.wait_for(lambda: attack.counted <= risen(), 8, "the counts")
    assert attack.counted <= risen()
    freed = re.compile(r"^viscera_associations_open 0\.0$", re.M)
    peers.wait_for(lambda: freed.search(hardened.service.metrics()), 10, "all slots freed")


@pytest.mark.parametrize("attack", named([a for a in ATTACKS if a.stock and a.run not in SIBLINGS]))
def test_what_an_unhardened_listener_lets_happen(attack, unhardened, made, tmp_path):
    # Its own timeouts are one and two seconds; where it should end, a loaded machine has time.
    patience_s = 2.5 if HELD in attack.stock else PATIENCE_S
    target = unhardened.target()
    try:
        assert faults(attack, target, tmp_path, made[0].certificate, patience_s) == attack.stock
    finally:
        if attack.stock - {STORED, LET_IN}:
            unhardened.end()


@pytest.mark.parametrize(
    ("run", "reasons"),
    [
        (attacks.nested_bombs, {"DatasetMismatch"}),
        (attacks.impossible_dimensions, {"DatasetMismatch", "GeometryMismatch"}),
        (attacks.wrong_vrs, {"DatasetMismatch"}),
        (attacks.bad_character_sets, {""}),  # a name is nothing that we read
    ],
)
@pytest.mark.filterwarnings("ignore:Unknown encoding")
def test_what_was_stored_is_refused_by_name_before_it_is_decoded(run, reasons, hardened):
    """The listener touches no pixel and no nesting; whoever plans the series does."""
    spool = hardened.target.folder
    before = set(spool.rglob("*.dcm"))
    run(hardened.target)
    by_series: dict[Path, list[Path]] = {}
    for path in set(spool.rglob("*.dcm")) - before:
        by_series.setdefault(path.parent, []).append(path)
    found = set()
    for paths in by_series.values():
        try:
            assembly = series.examine(paths, SeriesSettings(min_slices=3))
            found |= {one.error.reason for one in assembly.refused}
            found |= {""} if assembly.stacks else set()
        except ServiceError as error:
            found.add(error.reason)
    assert found == reasons

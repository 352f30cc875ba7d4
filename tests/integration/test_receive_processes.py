"""Several listener processes on one port: spread, limits, races, and the death of one."""

import contextlib
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

import peers
from instances import ct_dataset
from receive_support import Sender

PROCESSES = 3
CT = [(CTImageStorage, [ExplicitVRLittleEndian])]


@contextlib.contextmanager
def listeners(folder: Path, limits: str = "") -> Iterator[peers.Service]:
    config = peers.write_config(folder, model_repo=folder, model="none", quiet_s=600.0)
    text = config.read_text().replace("[dicom]\n", f"[dicom]\nprocesses = {PROCESSES}\n{limits}\n")
    config.write_text(text)
    with peers.service(config, "receive", folder=folder) as running:
        yield running


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with listeners(tmp_path_factory.mktemp("shared")) as service:
        yield service


def by_process(page: str, name: str) -> dict[str, float]:
    """Return the samples of one metric by listener process."""
    pattern = rf'^{re.escape(name)}\{{role="receive",process="(\d+)"[^}}]*\}} ([0-9.e+]+)$'
    if "{" in name:
        metric, labels = name.rstrip("}").split("{")
        pattern = rf'^{metric}\{{role="receive",process="(\d+)",{labels}[^}}]*\}} ([0-9.e+]+)$'
    return {number: float(value) for number, value in re.findall(pattern, page, re.MULTILINE)}


def count(running: peers.Service, outcome: str) -> dict[str, float]:
    return by_process(running.metrics(), f'viscera_instances_total{{outcome="{outcome}"}}')


def query(running: peers.Service, text: str) -> list[tuple]:
    (url,) = re.findall(r'^url = "(.+)"$', (folder_of(running) / "viscera.toml").read_text(), re.M)
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(sa.text(text))]
    engine.dispose()
    return rows


def folder_of(running: peers.Service) -> Path:
    return Path(running.process.args[running.process.args.index("--config") + 1]).parent


def in_parallel(*calls) -> list:
    """Return what each call returned; every one has a thread."""
    answers: list = [None] * len(calls)

    def keep(number, call):
        answers[number] = call()

    threads = [threading.Thread(target=keep, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers


def series(number: int, slices: int = 12, size: int = 64) -> list[Dataset]:
    return [ct_dataset(series_uid=f"1.2.3.{number}", z_mm=z, size=size) for z in range(slices)]


def test_parallel_associations_are_spread_and_every_instance_is_stored_once(running):
    port = running.ports["dicom_port"]
    sent = [series(number) for number in range(8)]
    shared = series(99, slices=4)  # everybody sends these, too: one UID, one file, one row
    answers = in_parallel(*(lambda s=s: Sender(port).send(*s, *shared) for s in sent))
    assert answers == [[0] * 16] * 8
    stored, repeated = count(running, "stored"), count(running, "repeated")
    assert sum(stored.values()) == 8 * 12 + 4
    assert sum(repeated.values()) == 7 * 4
    assert sum(value > 0 for value in stored.values()) >= 2
    files = list((folder_of(running) / "spool").rglob("*.dcm"))
    assert len(files) == 100
    peers.wait_for(lambda: query(running, "select count(*) from instances") == [(100,)], 20, "rows")
    assert query(running, "select count(*) from submissions") == [(9,)]
    assert peers.need("/usr/bin/promtool")
    page = running.metrics()
    checked = subprocess.run(
        ["/usr/bin/promtool", "check", "metrics"], input=page, text=True, capture_output=True,
        check=False,
    )  # fmt: skip
    assert checked.stdout + checked.stderr == ""
    assert set(by_process(page, "viscera_role_up")) == {"0", "1", "2"}


def test_open_associations_are_counted_over_all_processes(running):
    """So that a quiet period is not cut short by the process that has none open."""
    port = running.ports["dicom_port"]
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            assert stack.enter_context(Sender(port, contexts=CT).association()).is_established
        total = "select sum(associations_open) from listeners where principal = 'pacs'"
        peers.wait_for(lambda: query(running, total) == [(6,)], 10, "six noted")
        opened = by_process(running.metrics(), "viscera_associations_open")
        assert sum(opened.values()) == 6
        assert sum(value > 0 for value in opened.values()) >= 2
    peers.wait_for(lambda: query(running, "select * from listeners") == [], 10, "none noted")


def test_conflicting_bytes_meet_between_processes(running):
    """Of two objects under one UID one wins, whichever processes their associations reached."""
    port = running.ports["dicom_port"]
    (one,) = series(7, slices=1)
    others = [
        ct_dataset(sop_uid=one.SOPInstanceUID, series_uid="1.2.3.7", z_mm=n) for n in range(6)
    ]
    answers = in_parallel(*(lambda ds=ds: Sender(port).send(ds) for ds in others))
    assert sorted(answers) == [[0x0000]] + [[0x0111]] * 5


def acknowledged(port: int, datasets: list[Dataset], failures: list[int]) -> None:
    """Send until each has its 0x0000, on a new association after each that broke."""
    left = list(datasets)
    while left:
        with (
            contextlib.suppress(RuntimeError, ValueError),
            Sender(port, contexts=CT).association() as assoc,
        ):
            assoc.dimse_timeout = 3
            while left and assoc.is_established:
                if getattr(assoc.send_c_store(left[0]), "Status", -1) == 0:
                    left.pop(0)
        if left:
            failures.append(len(left))


def sop_uid_of(path: Path) -> str:
    return str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)


def test_one_listener_killed_while_others_receive(running):
    port = running.ports["dicom_port"]
    sent = [series(100 + number, slices=40, size=256) for number in range(6)]
    failures: list[list[int]] = [[] for _ in sent]
    before = sum(count(running, "stored").values())

    def kill():
        peers.wait_for(lambda: sum(count(running, "stored").values()) > before + 20, 20, "the push")
        busy = by_process(running.metrics(), "viscera_associations_open")
        victim = max(busy, key=busy.__getitem__)
        line = next(
            event for event in reversed(running.events("role_started"))
            if event["number"] == int(victim)
        )  # fmt: skip
        assert running.kill_child(line["child_pid"])
        return victim

    victim, *_ = in_parallel(
        kill,
        *(lambda s=s, f=f: acknowledged(port, s, f) for s, f in zip(sent, failures, strict=True)),
    )
    assert 0 < sum(map(bool, failures)) < len(sent)  # some felt it, the others did not
    uids = [ds.SOPInstanceUID for s in sent for ds in s]
    rows = "select sop_uid from instances where series_uid like '1.2.3.10_'"
    peers.wait_for(lambda: {u for (u,) in query(running, rows)} == set(uids), 20, "all rows")
    held = map(sop_uid_of, (folder_of(running) / "spool").rglob("*.dcm"))
    assert Counter(uid for uid in held if uid in uids) == Counter(uids)
    peers.wait_for(
        lambda: by_process(running.metrics(), "viscera_role_up")[victim] == 1, 20, "its successor"
    )
    peers.wait_for(lambda: query(running, "select * from listeners") == [], 10, "none noted")


def test_limits_hold_over_all_processes_and_a_dead_one_frees_its_seats(tmp_path):
    with (
        listeners(tmp_path, "max_associations_per_peer = 2") as service,
        contextlib.ExitStack() as s,
    ):
        port = service.ports["dicom_port"]
        tried = [s.enter_context(Sender(port, contexts=CT).association()) for _ in range(8)]
        assert sum(assoc.is_established for assoc in tried) == 2
        for event in service.events("role_started"):
            assert service.kill_child(event["child_pid"])
        service.wait_event("role_ready", 30, count=2 * PROCESSES)
        tried = [s.enter_context(Sender(port, contexts=CT).association()) for _ in range(8)]
        assert sum(assoc.is_established for assoc in tried) == 2


def test_a_port_that_another_program_has_is_not_shared_with_it(tmp_path):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        config = peers.write_config(
            tmp_path, model_repo=tmp_path, model="none", dicom_port=other.getsockname()[1]
        )
        program = (
            "import viscera.roles.shared_port as s, sys; s._PATIENCE_S = 0.5; "
            "from viscera.cli import main; sys.exit(main())"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, "--config", config, "receive"],
            env={**peers.ENVIRONMENT, "VISCERA_DICOM__PROCESSES": "2"},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert "dicom.port: cannot listen on" in done.stderr
    assert "Traceback" not in done.stderr

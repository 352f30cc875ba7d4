"""Durable before 0x0000, and what happens when it cannot be."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from instances import ct_dataset
from peers import need, wait_for
from receive_support import FakeStore, Sender, receiver

PROGRAM = Path(__file__).parents[1] / "receive_process.py"


@contextmanager
def process(root: Path, *before: str):
    command = [*before, sys.executable, str(PROGRAM), str(root)]
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        line = running.stdout.readline()
        while line and not line.strip().isdigit():
            line = running.stdout.readline()  # logs
        yield running, int(line or -1)
    finally:
        running.stdin.close()
        running.wait(20)
        running.stdout.close()


def test_strace_sees_file_and_folder_synced_before_the_answer(tmp_path):
    probe = [need("/usr/bin/strace"), "-o", "/dev/null", "true"]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("ptrace is not permitted here")
    trace = tmp_path / "trace"
    calls = "trace=openat,write,fsync,link,linkat,unlink,sendto"
    with process(tmp_path / "spool", "strace", "-f", "-yy", "-o", str(trace), "-e", calls) as (
        _, port
    ):  # fmt: skip
        sender = Sender(port)
        assert sender.send(ct_dataset(), ct_dataset()) == [0, 0]
    lines = [re.sub(r"^\d+ +", "", line) for line in trace.read_text().splitlines()]
    steps = [step for step in map(step_of, lines) if step]
    began = steps.index("write")
    # Folders that are new here: root, dicom and dicom/pacs got names as well.
    assert steps[:began].count("sync folder") >= 3
    assert (
        steps[began:][:12] == ["write", "sync file", "link", "unlink", "sync folder", "answer"] * 2
    )


def step_of(line: str) -> str | None:
    """Return what one system call of the trace means for us; its second half says nothing."""
    if "resumed>" in line:
        return None
    spool = "/spool"
    if line.startswith("write(") and ".part>" in line:
        # Two writes an instance: our header and the peer's data set. The header begins with 0.
        return None if '"\\0\\0\\0' in line else "write"
    if line.startswith("fsync("):
        return "sync file" if ".part>" in line else "sync folder" if spool in line else None
    if line.startswith("link") and spool in line:
        return "link"
    if line.startswith("unlink(") and ".part" in line:
        return "unlink"
    if line.startswith("sendto(") and "TCP" in line:
        return "answer"
    return None


def test_kill_after_the_answer_loses_nothing(tmp_path):
    root = tmp_path / "spool"
    sent = [ct_dataset(z_mm=z) for z in range(10)]
    with process(root) as (running, port):
        assert Sender(port).send(*sent) == [0] * 10
        running.kill()
        running.wait()
    (root / "dicom" / "pacs" / "0123.part").write_bytes(b"half")
    with receiver(root) as receive:
        wait_for(lambda: len(receive.store.rows) == 10, 10, "10 rows")
        rows = {row.sop_uid for row in receive.store.rows.values()}
        assert rows == {ds.SOPInstanceUID for ds in sent}
        assert not list(root.rglob("*.part"))


def test_receiving_goes_on_while_the_store_is_down(tmp_path):
    store = FakeStore()
    store.down = True
    sent = [ct_dataset(z_mm=z) for z in range(10)]
    with receiver(tmp_path, store=store) as receive:
        assert Sender(receive.listener.port).send(*sent) == [0] * 10
        assert len(receive.files()) == 10
        assert store.rows == {}
        store.down = False
        wait_for(lambda: len(store.rows) == 10, 10, "10 rows")
        wait_for(lambda: ("pacs", 0) in store.associations, 10, "the release noted")


def test_reserve_reached_is_out_of_resources(tmp_path):
    with receiver(tmp_path, reserve_bytes=2 * shutil.disk_usage(tmp_path).free) as receive:
        assert Sender(receive.listener.port).send(ct_dataset()) == [0xA700]
        assert receive.files() == []
        assert receive.count("rejected", "SpoolFull") == 1


def test_full_disk_is_out_of_resources_and_passes(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        with receiver(tmp_path / "spool") as receive:
            receive.spool._require_room = lambda size: None  # so that write() itself meets it
            large = ct_dataset(size=512)
            sender = Sender(receive.listener.port)
            assert sender.send(ct_dataset(), large, ct_dataset()) == [0, 0xA700, 0]
            assert [path.suffix for path in receive.files()] == [".dcm", ".dcm"]
            assert receive.count("rejected", "SpoolFull") == 1
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_broken_disk_is_a_processing_failure_and_the_association_lives(tmp_path, monkeypatch):
    with receiver(tmp_path) as receive:
        broken = True

        def fsync(fd, real=os.fsync):
            if broken:
                raise OSError(5, "broken")
            real(fd)

        monkeypatch.setattr("viscera.files.durable.os.fsync", fsync)
        ds = ct_dataset()
        with Sender(
            receive.listener.port, contexts=[(ds.SOPClassUID, [ds.file_meta.TransferSyntaxUID])]
        ).association() as assoc:
            assert assoc.send_c_store(ds).Status == 0x0110
            broken = False
            assert assoc.send_c_store(ds).Status == 0x0000
        assert receive.count("rejected", "ServiceError") == 1
        assert len(receive.files()) == 1

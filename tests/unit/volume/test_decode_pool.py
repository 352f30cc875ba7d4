"""Children that hang, die, grow or are orphaned cost one job, never the role."""

import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import RLELossless
from volume_builders import image, save, stack_of

from viscera.config import DecodeSettings
from viscera.domain.sources import Stack
from viscera.errors import HostMemoryFull, StorageUnavailable, UndecodablePixels
from viscera.volume import DecodePool, child, load_volume
from viscera.volume import pool as pool_module
from viscera.volume.work import DecodedSlice, FrameWork

STORED = np.arange(64, dtype=np.int16).reshape(8, 8)


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    path = save(image(STORED), tmp_path / "a.dcm")
    return stack_of([(path, "1.2.3.1", 1)], (8, 8))


@pytest.fixture
def lone(request: pytest.FixtureRequest):
    """A pool of one child, so that a test knows which one works."""
    settings = DecodeSettings(processes=1, memory_mb=512, timeout_s=1.0)
    with DecodePool(settings) as pool:
        yield pool


def works(pool: DecodePool, stack: Stack) -> bool:
    return np.array_equal(load_volume(stack, pool).voxels[0], STORED - 1024)


def test_children_are_programs_of_their_own_with_a_memory_limit(lone: DecodePool) -> None:
    (pid,) = lone.pids
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    assert b"viscera.volume.child" in command
    assert resource.prlimit(pid, resource.RLIMIT_AS) == (512 << 20, 512 << 20)
    assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)


def test_hung_child_fails_its_job_and_is_replaced(lone: DecodePool, stack: Stack) -> None:
    (hung,) = lone.pids
    os.kill(hung, signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(UndecodablePixels, match=r"1\.2\.3\.1.*longer than 1 s"):
        load_volume(stack, lone)
    assert time.monotonic() - start < 10
    assert lone.pids != (hung,)
    assert not Path(f"/proc/{hung}").exists()
    assert works(lone, stack)


def test_child_that_is_killed_at_work_is_replaced_and_its_work_done(
    lone: DecodePool, stack: Stack
) -> None:
    (victim,) = lone.pids
    os.kill(victim, signal.SIGSTOP)
    killer = threading.Timer(0.3, os.kill, (victim, signal.SIGKILL))
    killer.start()
    assert works(lone, stack)
    killer.join()
    assert lone.pids != (victim,)


def test_work_that_kills_two_children_is_refused(
    lone: DecodePool, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ask(one: pool_module._Child, work: object, fds: object) -> tuple[DecodedSlice, ...]:
        asked.append(one.pid)
        os.kill(one.pid, signal.SIGKILL)
        raise pool_module._ChildLost("it crashed")

    with monkeypatch.context() as patched:
        patched.setattr(pool_module._Child, "ask", ask)
        with pytest.raises(UndecodablePixels, match=r"1\.2\.3\.1.*crashed"):
            load_volume(stack, lone)
    assert len(set(asked)) == len(asked) == 2
    assert works(lone, stack)


def test_a_file_system_that_is_away_is_not_the_instances_fault(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    work = FrameWork(
        path=str(stack.frames[0].path),
        sop_uid="1.2.3.1",
        modality="CT",
        rows=8,
        columns=8,
        frames=((1, 0),),
    )
    monkeypatch.setattr(Path, "open", away)
    with pytest.raises(StorageUnavailable, match="ESTALE"):
        child.decode(work, ())
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(work.to_json())
        ours.shutdown(socket.SHUT_WR)
        child.serve(theirs, 60.0)
        assert ours.recv(99) == b"{}"
        assert json.loads(ours.recv(9999))["error"] == "StorageUnavailable", "and it lives on"


def test_child_that_died_idle_costs_nothing(lone: DecodePool, stack: Stack) -> None:
    os.kill(lone.pids[0], signal.SIGKILL)
    os.waitid(os.P_PID, lone.pids[0], os.WEXITED | os.WNOWAIT)
    assert works(lone, stack)


def test_image_that_needs_more_than_a_child_may_use_is_refused(
    lone: DecodePool, stack: Stack, tmp_path: Path
) -> None:
    # 20000x20000 in RLE is 6 MB in the file and 800 MB decoded; the child may use 512 MB.
    side = 20000
    ds = image(np.zeros((side, 1), np.int16), "1.2.3.9")
    ds.Columns = side
    row = bytes([129, 0]) * (side * side // 128) + bytes([129, 0])
    frame = np.array([2, 64, 64 + len(row), *[0] * 13], "<u4").tobytes() + row + row
    ds.file_meta.TransferSyntaxUID = RLELossless
    from pydicom.encaps import encapsulate

    ds.PixelData = encapsulate([frame + b"\0" * (len(frame) % 2)])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    path = save(ds, tmp_path / "big.dcm")
    with pytest.raises(UndecodablePixels, match=r"1\.2\.3\.9") as refusal:
        load_volume(stack_of([(path, "1.2.3.9", 1)], (side, side)), lone)
    assert "memory" in str(refusal.value) or "stopped" in str(refusal.value)
    assert works(lone, stack)


def test_pool_that_cannot_start_says_which_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(HostMemoryFull, match=r"decode\.memory_mb"):
        DecodePool(DecodeSettings(processes=2))


def test_children_end_when_their_pool_is_killed() -> None:
    script = (
        "import time; from viscera.config import DecodeSettings; from viscera.volume import"
        " DecodePool\n"
        "pool = DecodePool(DecodeSettings(processes=2)); print(*pool.pids, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        owner.kill()
    assert len(pids) == 2
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "children outlived their pool"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether it runs; a zombie that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_close_is_idempotent_and_ends_the_children(stack: Stack) -> None:
    pool = DecodePool(DecodeSettings(processes=2))
    pids = pool.pids
    pool.close()
    pool.close()
    assert not any(alive(pid) for pid in pids)


def test_one_bad_file_does_not_disturb_another_job(
    pool: DecodePool, stack: Stack, tmp_path: Path
) -> None:
    bad = image(STORED, "1.2.3.2")
    bad.PixelData = b"\0" * 88
    bad.Rows = bad.Columns = 65535
    path = save(bad, tmp_path / "bad.dcm")
    broken = stack_of([(path, "1.2.3.2", 1)] * 40, (65535, 65535))
    failures: list[Exception] = []

    def fail() -> None:
        try:
            load_volume(broken, pool)
        except UndecodablePixels as error:
            failures.append(error)

    thread = threading.Thread(target=fail)
    thread.start()
    assert all(works(pool, stack) for _ in range(20))
    thread.join()
    assert len(failures) == 1

"""What tests themselves rely on: they end only their own processes, and get ports of their own."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import peers


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen]:
    """A process that has the number which a log remembers from one that died."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def ports_of(session: str, count: int) -> list[int]:
    program = f"import peers; print(*(peers.free_port() for _ in range({count})))"
    output = subprocess.check_output(
        [sys.executable, "-c", program],
        cwd=Path(peers.__file__).parent,
        env={**os.environ, "TEST_PORTS": session},
        text=True,
    )
    return [int(word) for word in output.split()]


def test_a_session_has_its_own_ports_one_after_the_other() -> None:
    given = ports_of("21000-21049", 40)
    assert len(set(given)) == 40
    assert all(21000 <= port <= 21049 for port in given)


def test_a_taken_port_is_not_given() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert port not in ports_of(f"{port - 1}-{port + 1}", 4)


def service_that_logged(child_pid: int, config: str) -> peers.Service:
    command = [sys.executable, "-c", "import time; time.sleep(60)", "--config", config]
    line = {"event": "role_started", "started": "work", "number": None, "child_pid": child_pid}
    return peers.Service(subprocess.Popen(command), log=[line])


@pytest.mark.parametrize(("config", "killed"), [("/a/viscera.toml", True), ("/b", False)])
def test_only_a_child_with_this_service_s_settings_is_killed(config: str, killed: bool) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)", "--config", config, "work"]
    with subprocess.Popen(command) as child:
        service = service_that_logged(child.pid, "/a/viscera.toml")
        try:
            assert service.kill_child(child.pid) == killed
            assert (child.wait(5) if killed else child.poll()) == (-9 if killed else None)
            child.kill()
            child.wait()
            assert not service.kill_child(child.pid)
        finally:
            child.kill()
            service.process.kill()
            service.process.wait()


def test_a_number_that_is_somebody_else_s_by_now_is_left_alone(
    stranger: subprocess.Popen,
) -> None:
    service = service_that_logged(stranger.pid, "/a/viscera.toml")
    try:
        assert not service.kill_child(service.child_pid("work"))
        assert stranger.poll() is None
    finally:
        service.process.kill()
        service.process.wait()

"""Real programs that tests talk to: Orthanc, dcmtk, and Viscera itself as its users start it.

Each is started on loopback and a free port and stopped by its process id.
"""

import contextlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

# Nagle's algorithm against delayed ACK makes dcmtk's programs forty times slower.
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


def need(program: str) -> str:
    """Return `program`'s path; a missing peer skips locally and fails in CI."""
    if Path(program).is_file():
        return program
    if os.environ.get("CI"):
        pytest.fail(f"{program} is missing; tests/install-peers.sh installs it")
    pytest.skip(f"{program} is not installed here")


def _ports() -> Iterator[int]:
    """Go round and round through this session's own ports, from any of them.

    They lie below those that the kernel gives to connections, which could come between.
    """
    first, last = map(int, os.environ.get("TEST_PORTS", "20000-27999").split("-"))
    start = random.SystemRandom().randint(first, last)
    return itertools.cycle([*range(start, last + 1), *range(first, start)])


_PORTS = _ports()


def free_port() -> int:
    """Return a TCP port that was free a moment ago, and that no test of a minute ago was given.

    Two sessions side by side race for none where each has a ``TEST_PORTS`` (first-last) of its own.
    """
    for port in itertools.islice(_PORTS, 10_000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    pytest.fail("every port of TEST_PORTS is taken")


def wait_for(condition, timeout_s: float, what: str, poll_s: float = 0.05):
    """Return `condition()` once it is truthy; fail after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(poll_s)
    pytest.fail(f"{what} did not happen within {timeout_s:g} s")


def answers(port: int) -> bool:
    """Whether something accepts TCP connections there."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def storescu(
    port: int,
    *inputs: Path,
    calling: str = "PACS",
    called: str = "VISCERA",
    extra=(),
    timeout_s: float = 120,
):
    """Push files or folders with dcmtk's storescu."""
    program = need("/usr/bin/storescu")
    command = [program, "-aet", calling, "-aec", called, "+sd", "+r", *extra]
    command += ["127.0.0.1", str(port), *map(str, inputs)]
    return subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout_s, check=False
    )


@dataclass
class Orthanc:
    """A PACS with a REST interface."""

    http_port: int
    dicom_port: int
    ae_title: str = "ORTHANC"
    process: subprocess.Popen | None = None

    def get(self, path: str):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as a:
            return json.loads(a.read())

    def file(self, instance: str) -> bytes:
        url = f"http://127.0.0.1:{self.http_port}/instances/{instance}/file"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.read()

    def instances_of(self, modality: str) -> list[str]:
        """Return Orthanc's ids of all instances of one modality, e.g. ``SEG``."""
        found = []
        for series in self.get("/series?expand"):
            if series["MainDicomTags"].get("Modality") == modality:
                found += series["Instances"]
        return found


@contextlib.contextmanager
def orthanc(folder: Path, dicom_port: int | None = None, **options: object) -> Iterator[Orthanc]:
    """Run Orthanc with its storage in `folder`; `options` go over its configuration."""
    program = need("/usr/sbin/Orthanc")
    pacs = Orthanc(http_port=free_port(), dicom_port=dicom_port or free_port())
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "HttpPort": pacs.http_port,
        "DicomPort": pacs.dicom_port,
        "DicomAet": pacs.ae_title,
        "RemoteAccessAllowed": False,
        "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": False,
        "SyncStorageArea": True,
        "Plugins": [],
        "LuaScripts": [],
        **options,
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(config))
    with (folder / "orthanc.log").open("wb") as output:
        pacs.process = subprocess.Popen(
            [program, str(path)], env=ENVIRONMENT, stdout=output, stderr=output
        )
        try:
            wait_for(lambda: answers(pacs.http_port) and answers(pacs.dicom_port), 30, "Orthanc")
            yield pacs
        finally:
            pacs.process.kill()
            pacs.process.wait()


@dataclass
class Service:
    """A running `viscera` process and what its log says."""

    process: subprocess.Popen
    log: list[dict] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)

    def events(self, event: str) -> list[dict]:
        return [line for line in list(self.log) if line.get("event") == event]

    def wait_event(self, event: str, timeout_s: float = 60, count: int = 1) -> dict:
        def seen():
            found = self.events(event)
            return found[count - 1] if len(found) >= count else None

        return wait_for(seen, timeout_s, f"log event {event}")

    def metrics(self) -> str:
        url = f"http://127.0.0.1:{self.ports['http_port']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.read().decode()

    def child_pid(self, role: str) -> int:
        """Process id of a role's newest process."""
        return next(
            line["child_pid"]
            for line in reversed(list(self.log))
            if line.get("event") == "role_started" and line["started"] == role
        )

    def kill_child(self, pid: int) -> bool:
        """SIGKILL a role's process; False where `pid` is dead, or somebody else's by now.

        What holds the process while it is looked at is a descriptor: its number cannot pass on.
        """
        arguments = self.process.args
        config = str(arguments[arguments.index("--config") + 1])
        try:
            held = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if config.encode() not in words:
                return False
            signal.pidfd_send_signal(held, signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            return False
        finally:
            os.close(held)
        return True

    def stop(self, timeout_s: float = 40) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


@contextlib.contextmanager
def service(
    config: Path, *command: str, folder: Path, ready: str = "serve_ready", timeout_s: float = 120
) -> Iterator[Service]:
    """Run `viscera COMMAND` (default: serve) with `folder` as working folder."""
    arguments = [sys.executable, "-m", "viscera", "--config", str(config), *(command or ("serve",))]
    process = subprocess.Popen(
        arguments, cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    running = Service(process)
    reader = threading.Thread(target=read_log, args=(running, folder / "log.txt"), daemon=True)
    reader.start()
    try:
        event = running.wait_event(ready, timeout_s)
        running.ports = {k: v for k, v in event.items() if k.endswith("_port")}
        yield running
        assert running.stop() == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        reader.join(10)
        process.stderr.close()


def read_log(running: Service, copy: Path) -> None:
    with copy.open("ab") as output:
        for line in running.process.stderr:
            output.write(line)
            output.flush()
            with contextlib.suppress(json.JSONDecodeError):
                running.log.append(json.loads(line))


def write_config(
    folder: Path,
    *,
    model_repo: Path,
    model: str,
    destinations: Sequence[str] = (),
    quiet_s: float = 1.0,
    peers: Sequence[str] = ("PACS",),
    dicom_port: int = 0,
    max_attempts: int = 3,
    extra: str = "",
) -> Path:
    """Write settings for a service on free ports that keeps everything under `folder`."""
    peer_tables = "".join(
        f'[[dicom.peers]]\nname = "{p.lower()}"\nae_title = "{p}"\nnetworks = ["127.0.0.0/8"]\n'
        for p in peers
    )
    text = f"""
[dicom]
host = "127.0.0.1"
port = {dicom_port}
{peer_tables}
[spool]
folder = "{folder}/spool"
reserve_mb = 1
[series]
quiet_s = {quiet_s}
[models]
repo = "{model_repo}"
default = "{model}"
[jobs]
url = "sqlite:///{folder}/viscera.db"
results = "{folder}/results"
poll_s = 0.1
lease_s = 5
backoff_s = 0.2
max_attempts = {max_attempts}
[engine]
numba_cache = "{Path(__file__).parents[1]}/.cache/numba"
[deliver]
backoff_s = 0.2
backoff_max_s = 2
{"".join(destinations)}
[grpc]
port = 0
[http]
port = 0
[log]
format = "json"
{extra}
"""
    path = folder / "viscera.toml"
    path.write_text(text)
    return path


def reports_to(port: int, name: str = "VISCERA") -> dict[str, object]:
    """Return the options of an Orthanc that commits, and reports to our listener at `port`."""
    us = {"AET": name, "Host": "127.0.0.1", "Port": port, "AllowStorageCommitment": True}
    return {"DicomModalities": {name.lower(): us}}


def dicom_destination(
    name: str, port: int, ae_title: str = "ORTHANC", commitment: str = "off"
) -> str:
    """Return the settings of a C-STORE destination."""
    return (
        f'[[deliver.destinations]]\nname = "{name}"\nkind = "dicom"\nhost = "127.0.0.1"\n'
        f'port = {port}\nae_title = "{ae_title}"\nallow_unvalidated = true\n'
        f'commitment = "{commitment}"\n'
    )


def folder_destination(name: str, folder: Path) -> str:
    """Return the settings of a folder destination."""
    return f'[[deliver.destinations]]\nname = "{name}"\nkind = "folder"\nfolder = "{folder}"\n'

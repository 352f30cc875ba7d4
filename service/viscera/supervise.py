"""`viscera serve`: every role as an exec'ed child; restarts what dies, dies with them cleanly.

The role `receive` may be several children, which share the DICOM port.

Each child says through a pipe where its page is (`Ready`), and gets SIGTERM from the kernel when
this process dies in any way. One page gathers the roles' metrics under a `role` label; it
answers while a role is dead.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field

from viscera import log
from viscera.api.gather import merge_pages
from viscera.api.http_server import HttpServer
from viscera.config import Settings
from viscera.roles.shared_port import SharedPort, listener_count, shared_port

_log = log.get(__name__)

ROLES = ("receive", "api", "work", "deliver")

_STOP_TIMEOUT_S = 30.0
_RESTART_FIRST_S = 0.5
_RESTART_MAX_S = 30.0
_STABLE_S = 10.0
_SCRAPE_TIMEOUT_S = 2.0


@dataclass(slots=True)
class Child:
    """One role's process, over its restarts."""

    role: str
    number: int | None = None
    """Of several with one role."""
    process: subprocess.Popen[bytes] | None = None
    ports: dict[str, int] = field(default_factory=dict)
    started_at: float = 0.0
    pause_s: float = _RESTART_FIRST_S
    start_after: float = 0.0
    restarts: int = 0

    @property
    def name(self) -> str:
        """Role and number, as the gathered page takes it."""
        return self.role if self.number is None else f"{self.role}/{self.number}"

    @property
    def is_up(self) -> bool:
        """Whether it runs and has said that it is ready."""
        return self.process is not None and self.process.poll() is None and bool(self.ports)


class Supervisor:
    """Starts the roles, watches them, serves the gathered page."""

    def __init__(
        self, arguments: Sequence[str], settings: Settings, roles: Sequence[str] = ROLES
    ) -> None:
        """`arguments` stand before the role's name on each child's command line."""
        self._arguments = list(arguments)
        self._dicom = settings.dicom
        self._children = [child for role in roles for child in _children(role, settings)]
        http = settings.http
        self._http = HttpServer(
            http.host, http.port, self.page, health=lambda: True, ready=self.is_ready
        )
        self._announced = False

    def run(self, stop: threading.Event) -> None:
        """Supervise until `stop` is set. Call from the main thread: children hang on it."""
        self._http.start()
        _log.info("serve_started", http_port=self._http.port, pid=os.getpid())
        try:
            with shared_port(self._dicom) as shared:
                self._tend_all(shared, stop)
        finally:
            self._http.stop()
            _log.info("serve_stopped")

    def _tend_all(self, shared: SharedPort, stop: threading.Event) -> None:
        try:
            while not stop.wait(0.1):
                for child in self._children:
                    self._tend(child, shared)
                self._announce_once()
        finally:
            self._stop_children()

    def is_ready(self) -> bool:
        """Whether every role is up."""
        return all(child.is_up for child in self._children)

    def page(self) -> bytes:
        """Return the metrics of all roles that answer."""
        pages = {child.name: _scrape(child) for child in self._children}
        return merge_pages(pages, {one.name: one.restarts for one in self._children}).encode()

    def _announce_once(self) -> None:
        if not self._announced and self.is_ready():
            self._announced = True
            ports = {name: port for c in self._children for name, port in c.ports.items()}
            _log.info("serve_ready", **{**ports, "http_port": self._http.port})

    def _tend(self, child: Child, shared: SharedPort) -> None:
        now = time.monotonic()
        if child.process is None:
            if now >= child.start_after:
                self._start(child, shared)
            return
        status = child.process.poll()
        if status is None:
            return
        # Only one that was ready: a start that takes long and fails must not be tried at once.
        if child.ports and now - child.started_at > _STABLE_S:
            child.pause_s = _RESTART_FIRST_S
        _log.error("role_died", died=child.name, status=status, restart_in_s=child.pause_s)
        child.process, child.ports = None, {}
        child.restarts += 1
        child.start_after = now + child.pause_s
        child.pause_s = min(2 * child.pause_s, _RESTART_MAX_S)

    def _start(self, child: Child, shared: SharedPort) -> None:
        reader, writer = os.pipe()
        command = [sys.executable, "-P", "-m", "viscera", *self._arguments, child.role]
        command += ["--ready-fd", str(writer), "--parent", str(os.getpid())]
        given, environment = [writer], dict(os.environ)
        if child.role == "receive":
            command += ["--seats-fd", str(shared.seats_fd)]
            given.append(shared.seats_fd)
            environment |= shared.environment
        if child.number is not None:
            command += ["--number", str(child.number)]
        child.process = subprocess.Popen(
            command, pass_fds=given, env=environment, stdin=subprocess.DEVNULL
        )
        os.close(writer)
        child.started_at = time.monotonic()
        _log.info(
            "role_started", started=child.role, number=child.number, child_pid=child.process.pid
        )
        threading.Thread(target=_read_ready, args=(child, reader), daemon=True).start()

    def _stop_children(self) -> None:
        for child in self._children:
            if child.process is not None:
                child.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        for child in self._children:
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _log.error("role_killed", killed=child.name)
                child.process.kill()
                child.process.wait()


def _children(role: str, settings: Settings) -> list[Child]:
    many = listener_count(settings.dicom) if role == "receive" else 1
    return [Child(role, number) for number in range(many)] if many > 1 else [Child(role)]


def _read_ready(child: Child, reader: int) -> None:
    """Take the child's one line of ports; ends at its death too."""
    with os.fdopen(reader) as pipe:
        line = pipe.readline()
    if line:
        child.ports = json.loads(line)


def _scrape(child: Child) -> str | None:
    """Return the child's page; None while it is dead or dumb."""
    port = child.ports.get(f"{child.role}_http_port")
    if port is None:
        return None
    url = f"http://127.0.0.1:{port}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=_SCRAPE_TIMEOUT_S) as answer:
            page: bytes = answer.read()
            return page.decode()
    except (OSError, urllib.error.URLError):
        return None

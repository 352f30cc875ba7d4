"""What every role has: clock, store, spool, a page, and a way to say that it is ready."""

import ctypes
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from prometheus_client import generate_latest

from viscera import log
from viscera.api.http_server import HttpServer
from viscera.config import Settings
from viscera.errors import StoreUnavailable
from viscera.jobs.spool import Spool
from viscera.jobs.store import SqlJobStore
from viscera.metrics import Metrics
from viscera.series.closing import close_after

_log = log.get(__name__)

_PR_SET_PDEATHSIG = 1
_MIGRATE_PAUSE_S = 2.0


def now() -> datetime:
    """Return the time, aware and UTC; the only clock that roles inject."""
    return datetime.now(UTC)


def die_with(parent: int) -> None:
    """Ask the kernel for SIGTERM when the supervisor dies, however it dies."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the line above
        raise SystemExit(1)


def open_store(settings: Settings) -> SqlJobStore:
    """Return the job store, not yet migrated."""
    return SqlJobStore(
        settings.jobs.url.get_secret_value(),
        clock=now,
        settings=settings.jobs,
        close_after=partial(close_after, settings=settings.series),
        spool_root=settings.spool.folder,
    )


@contextmanager
def opened_store(settings: Settings) -> Iterator[SqlJobStore]:
    """Open the job store of a service for one command; raises `InvalidSettings`."""
    store = open_store(settings)
    try:
        store.require_current()
        yield store
    finally:
        store.close()


def open_spool(settings: Settings) -> Spool:
    """Return the spool, its folder made where it is missing."""
    return Spool(
        settings.spool.folder, reserve_bytes=settings.spool.reserve_mb * 1_000_000, clock=now
    )


def migrate_until_done(store: SqlJobStore, stop: threading.Event) -> None:
    """Bring the schema up to date, however long the database is away."""
    while not stop.is_set():
        try:
            store.migrate()
            return
        except StoreUnavailable as error:
            _log.warning("store_unavailable", error=str(error))
            stop.wait(_MIGRATE_PAUSE_S)


@dataclass(slots=True)
class Face:
    """What a role shows: its page, and once that it is ready.

    Parameters
    ----------
    role
        Its name.
    settings
        Address of the page where the role runs alone.
    ready_fd
        Where to write the ports under `viscera serve`; the page then takes a free port on
        loopback, for the supervisor's page gathers it.
    seats_fd
        Of a listener that shares its port: see `roles.shared_port`.
    """

    role: str
    settings: Settings
    ready_fd: int | None
    seats_fd: int | None = None

    @contextmanager
    def shown(self, metrics: Metrics) -> Iterator["Announce"]:
        """Serve the page; yield what says that the role is ready."""
        supervised = self.ready_fd is not None
        ready = threading.Event()
        page = HttpServer(
            "127.0.0.1" if supervised else self.settings.http.host,
            0 if supervised else self.settings.http.port,
            lambda: generate_latest(metrics.registry),
            health=lambda: True,
            ready=ready.is_set,
        )
        page.start()
        try:
            yield Announce(self, page, ready)
        finally:
            page.stop()
        _log.info("role_stopped")


@dataclass(frozen=True, slots=True)
class Announce:
    """Says once that a role is ready, and on which ports."""

    face: Face
    page: HttpServer
    ready: threading.Event

    def __call__(self, **ports: int) -> None:
        """Log the ports, and write them to the supervisor."""
        ports[f"{self.face.role}_http_port"] = self.page.port
        self.ready.set()
        _log.info("role_ready", **ports)
        if self.face.ready_fd is not None:
            with os.fdopen(self.face.ready_fd, "w") as pipe:
                pipe.write(json.dumps(ports) + "\n")

"""What the listener processes of one machine share: the DICOM ports, and the count of seats."""

import errno
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from viscera.config import DicomSettings
from viscera.errors import InvalidSettings

_MOST_BY_DEFAULT = 4
_PATIENCE_S = 15.0
"""How long listeners of a supervisor that died may take to end and leave the port."""
_PAUSE_S = 0.2


def listener_count(settings: DicomSettings) -> int:
    """Return how many processes listen: `dicom.processes`, or what the cores suggest."""
    return settings.processes or min(_MOST_BY_DEFAULT, len(os.sched_getaffinity(0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPort:
    """Held by the supervisor as long as it runs."""

    environment: Mapping[str, str]
    """For the listeners: the ports, also where the settings say 0."""
    seats_fd: int
    """For the listeners: see `receive.seats`."""


@contextmanager
def shared_port(settings: DicomSettings) -> Iterator[SharedPort]:
    """Keep the ports for our listeners, without listening ourselves.

    Raises
    ------
    InvalidSettings
        If the address cannot be bound, or another program has it.
    """
    wanted = {"port": settings.port if settings.plain else None, "tls_port": settings.tls_port}
    seats_fd = os.memfd_create("viscera-seats")
    with ExitStack() as stack:
        stack.callback(os.close, seats_fd)
        environment = {
            f"VISCERA_DICOM__{name.upper()}": str(
                stack.enter_context(_reserved(settings.host, name, port))
            )
            for name, port in wanted.items()
            if port is not None
        }
        yield SharedPort(environment=environment, seats_fd=seats_fd)


@contextmanager
def _reserved(host: str, name: str, port: int) -> Iterator[int]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as holder:
        try:
            _require_free(family, host, port)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind((host, port))
        except OSError as error:
            raise InvalidSettings(
                f"dicom.host, dicom.{name}: cannot listen on {host}:{port}: {error.strerror}"
            ) from error
        yield holder.getsockname()[1]


def _require_free(family: int, host: str, port: int) -> None:
    """Another `viscera serve` would share the port with us in silence, so ask without sharing."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE_S)

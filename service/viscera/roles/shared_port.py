"""What the listener processes of one machine share: the DICOM port, and the count of seats."""

import errno
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
    """For the listeners: the port, also where the settings say 0."""
    seats_fd: int
    """For the listeners: see `receive.seats`."""


@contextmanager
def shared_port(settings: DicomSettings) -> Iterator[SharedPort]:
    """Keep the port for our listeners, without listening ourselves.

    Raises
    ------
    InvalidSettings
        If the address cannot be bound, or another program has it.
    """
    seats_fd = os.memfd_create("viscera-seats")
    try:
        with _reserved(settings) as port:
            yield SharedPort(environment={"VISCERA_DICOM__PORT": str(port)}, seats_fd=seats_fd)
    finally:
        os.close(seats_fd)


@contextmanager
def _reserved(settings: DicomSettings) -> Iterator[int]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as holder:
        try:
            _require_free(family, settings.host, settings.port)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind((settings.host, settings.port))
        except OSError as error:
            raise InvalidSettings(
                f"dicom.host, dicom.port: cannot listen on {settings.host}:{settings.port}: "
                f"{error.strerror}"
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

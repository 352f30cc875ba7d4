"""Fixtures that every suite may use."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import structlog
from hypothesis import settings
from pynetdicom.transport import AssociationSocket

# As the service has it, whichever test compiles the first kernel: with OpenVINO's libraries in the
# process Numba would find TBB in them.
os.environ.setdefault("NUMBA_THREADING_LAYER", "omp")

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("viscera", deadline=None)
settings.load_profile("viscera")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real series that lie beside the project; skipped with a plain reason elsewhere."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data not found at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(autouse=True, scope="session")
def _refused_sockets_are_closed() -> Iterator[None]:
    """Close what pynetdicom 3.0.4 leaves to the garbage collector.

    It shuts a socket down before it closes it, and the first fails where nobody listens.
    """

    def shut_and_close(self: AssociationSocket) -> None:
        if self.socket is not None:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AssociationSocket, "_shutdown_socket", shut_and_close)
        yield


@pytest.fixture(autouse=True, scope="session")
def _loggers_are_not_cached() -> Iterator[None]:
    """Let `capture_logs` see what a logger says that was used under a command line before."""
    configure = structlog.configure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            structlog,
            "configure",
            lambda **how: configure(**how | {"cache_logger_on_first_use": False}),
        )
        yield


@pytest.fixture(autouse=True)
def _logs_are_as_they_were() -> Iterator[None]:
    """Undo what a command line that ran in this process did to logging."""
    loggers = [logging.getLogger(name) for name in ("", "pynetdicom", "pydicom", "alembic")]
    handlers, levels = loggers[0].handlers[:], [logger.level for logger in loggers]
    yield
    loggers[0].handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    structlog.reset_defaults()

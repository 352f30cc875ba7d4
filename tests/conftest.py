"""Fixtures that every suite may use."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings
from pynetdicom.transport import AssociationSocket

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

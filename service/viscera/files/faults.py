"""Which of the operating system's errors are the machine's fault and not the data's."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from viscera.errors import StorageUnavailable
from viscera.files.durable import NO_ROOM

_PASSING = NO_ROOM | {
    errno.EROFS,  # what a kernel makes of a file system with errors
    # A network file system that is away
    errno.ESTALE,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EREMOTEIO,
    # Too many open files, here or on the machine
    errno.EMFILE,
    errno.ENFILE,
}


@contextmanager
def storage_faults_named() -> Iterator[None]:
    """Turn what says nothing about the data into `StorageUnavailable`.

    A missing file, a damaged one and a block that cannot be read are left as they are.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _PASSING:
            raise
        raise StorageUnavailable(
            f"a file cannot be read or written ({errno.errorcode[error.errno]}); make room, or "
            "bring the file system back: this is tried again by itself"
        ) from error

"""What is made of files that may be replaced while a role runs: certificates, tokens."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from viscera import log
from viscera.errors import InvalidSettings

_log = log.get(__name__)

_LOOK_EVERY_S = 1.0

T = TypeVar("T")
_Signature = tuple[tuple[int, ...], ...]


class Reloaded(Generic[T]):
    """A value, made anew when its files have changed. Safe for threads.

    Files that cannot be used leave the value as it is, and the log says so once for each change:
    they may be halfway through being replaced.

    Parameters
    ----------
    paths
        The files; looked at once a second, when the value is asked for.
    load
        Makes the value.
    what
        Of which setting or section, for the log.

    Raises
    ------
    InvalidSettings
        What `load` raises at first.
    """

    def __init__(self, paths: Sequence[Path], load: Callable[[], T], what: str) -> None:
        self._paths, self._load, self._what = paths, load, what
        self._lock = threading.Lock()
        self._looked_at = time.monotonic()
        self._seen = self._refused = self._signature()
        self._value = load()

    def current(self) -> T:
        """Return the value in force."""
        with self._lock:
            if time.monotonic() - self._looked_at >= _LOOK_EVERY_S:
                self._looked_at = time.monotonic()
                self._reload_if_changed()
            return self._value

    def _reload_if_changed(self) -> None:
        signature = self._signature()
        if signature == self._seen:
            return
        try:
            self._value = self._load()
        except InvalidSettings as error:
            # Tried again at each look: a file system may have been away.
            if signature != self._refused:
                _log.error("reload_failed", what=self._what, error=str(error))
            self._refused = signature
            return
        self._seen = signature
        _log.info("reloaded", what=self._what)

    def _signature(self) -> _Signature:
        return tuple(map(_identity, self._paths))


def _identity(path: Path) -> tuple[int, ...]:
    with suppress(OSError):
        status = path.stat()
        # The change time, too: new rights make a file readable without touching it.
        return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
    return ()

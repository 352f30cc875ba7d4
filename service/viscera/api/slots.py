"""How many streaming calls are open: altogether, and of one principal."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from viscera.api.auth import LOCAL
from viscera.config import GrpcSettings
from viscera.errors import TooManyCalls


class Slots:
    """Counts them. Safe for threads."""

    def __init__(self, settings: GrpcSettings) -> None:
        self._most = settings.max_streams
        self._most_each = settings.max_streams_per_principal or max(1, self._most // 2)
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()

    @contextmanager
    def held(self, principal: str) -> Iterator[None]:
        """Count one call for as long as the block takes.

        Raises
        ------
        TooManyCalls
            If too many are open.
        """
        with self._lock:
            self._require_room(principal)
            self._open[principal] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open -= Counter({principal: 1})  # a principal without calls is forgotten

    def _require_room(self, principal: str) -> None:
        if self._open.total() >= self._most:
            raise TooManyCalls(
                f"{self._most} streaming calls are open, as many as grpc.max_streams "
                "allows; try again later"
            )
        # Where nobody has a name, there are no others to leave room for.
        if principal != LOCAL and self._open[principal] >= self._most_each:
            raise TooManyCalls(
                f"{self._most_each} streaming calls of yours are open, as many as "
                "grpc.max_streams_per_principal allows; end one, or try again later"
            )

"""Uploads that nobody will complete: refused, and their folders removed."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from viscera.jobs.protocol import RetentionStore

ABANDONED = "IncompleteSeries: the client went away before it had sent everything"

# Whatever `spool.keep_days` says: a call that is still sending is younger.
_OLD_DAYS = 1.0


class UploadFolders(Protocol):
    """What is asked of the spool."""

    def is_closed(self, upload: str) -> bool:
        """Whether its client has sent everything."""

    def uploaded(self, upload: str) -> Sequence[Path]:
        """Return its instances."""

    def old_uploads(self, before: datetime) -> Iterator[str]:
        """Give the uploads to whose folder nothing was added since `before`."""

    def remove_upload(self, upload: str) -> None:
        """Remove its folder."""


def sweep_uploads(store: RetentionStore, spool: UploadFolders, keep_days: float) -> int:
    """Refuse what was abandoned, and remove the folders that a crash left of such uploads.

    Returns
    -------
    int
        How many folders there were.

    Raises
    ------
    StoreUnavailable
        Call again later.
    """
    for upload in store.unclosed_uploads(max(keep_days, _OLD_DAYS)):
        # One that is closed on disk is whole, and only its row is late.
        if not spool.is_closed(upload):
            store.refuse_upload(upload, ABANDONED)
    removed = 0
    for upload in spool.old_uploads(datetime.now(UTC) - timedelta(days=_OLD_DAYS)):
        if not spool.uploaded(upload) or store.is_abandoned(upload):
            spool.remove_upload(upload)
            removed += 1
    return removed

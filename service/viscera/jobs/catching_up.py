"""Rows for what the spool holds: both doors write them, late or after a crash."""

from collections.abc import Sequence

from viscera import log
from viscera.domain.sources import Arrival
from viscera.errors import IncompleteSeries, StoreUnavailable
from viscera.jobs.protocol import IntakeStore
from viscera.jobs.spool import Spool

_log = log.get(__name__)


def record(store: IntakeStore, arrivals: Sequence[Arrival]) -> bool:
    """Record arrivals together, or each by itself where one of them cannot be recorded.

    Returns
    -------
    bool
        Whether all have a row now. The log names those that have none.

    Raises
    ------
    StoreUnavailable
        Call again later.
    """
    try:
        store.record_arrivals(arrivals)
    except StoreUnavailable:
        raise
    except Exception:
        return all([_record_one(store, one) for one in arrivals])
    return True


def close_upload(store: IntakeStore, spool: Spool, upload: str, known: set[str]) -> bool:
    """Close an upload that its client has completed, if every file of it has a row.

    Without one that cannot be read or recorded, a part would be segmented as the whole.

    Parameters
    ----------
    known
        What `store.known_paths` gave after the upload's instances were recorded.

    Raises
    ------
    StoreUnavailable
        Call again later.
    """
    missing = {path.as_posix() for path in spool.uploaded(upload)} - known
    if missing:
        _log.error("upload_not_whole", upload=upload, instances_without_row=len(missing))
        return False
    try:
        store.close_upload(upload)
    except IncompleteSeries:
        return False  # refused before, and its folder is about to go
    return True


def _record_one(store: IntakeStore, arrival: Arrival) -> bool:
    try:
        store.record_arrivals((arrival,))
    except StoreUnavailable:
        raise
    except Exception as error:
        # Not the error's text: a database repeats the row's values in it.
        path, kind = arrival.path.as_posix(), type(error).__name__
        _log.error("instance_not_recorded", path=path, error=kind)
        return False
    return True

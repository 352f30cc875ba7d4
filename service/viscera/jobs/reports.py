"""Commitment reports as files: what a PACS was told "taken" for must not be lost.

::

    commitment/asked/<hash of transaction UID>      made before the request goes out
    commitment/reports/<hash of transaction UID>    made before the report is answered

The listener knows by the first what may be reported, and keeps the second, both without the job
store; the deliverer brings reports there. As in the spool, a file is the record.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from viscera import log
from viscera.domain.jobs import CommitmentReport
from viscera.files import durable

_log = log.get(__name__)

_ASKED_FOR_S = 60 * 86400.0
"""How long a request may be answered: much longer than the longest pause between two of them."""


class ReportFiles:
    """Requests and reports; safe for threads and for several processes on one folder.

    Parameters
    ----------
    spool
        The spool's root, which every role shares.
    """

    def __init__(self, spool: Path) -> None:
        self._root = spool.absolute()
        self._asked = self._root / "commitment" / "asked"
        self._reports = self._root / "commitment" / "reports"

    def ask(self, transaction_uid: str) -> None:
        """Remember durably that this transaction may be reported on."""
        self._put(self._asked, transaction_uid, transaction_uid.encode("ascii"))

    def is_asked(self, transaction_uid: str) -> bool:
        """Whether we asked this."""
        return (self._asked / _name(transaction_uid)).is_file()

    def keep(self, report: CommitmentReport) -> None:
        """Keep a report; when this returns, it survives a power cut. Again is nothing.

        Raises
        ------
        SpoolFull
            If the disk has no room.
        """
        record = {
            "transaction_uid": report.transaction_uid,
            "committed": sorted(report.committed),
            "failed": dict(report.failed),
        }
        self._put(self._reports, report.transaction_uid, json.dumps(record).encode())

    def waiting(self) -> Iterator[CommitmentReport]:
        """Give every report that is not in the job store yet; a damaged one is set aside."""
        for path in sorted(self._reports.glob("[0-9a-f]" * 32)):
            try:
                yield _read(path)
            except FileNotFoundError:
                continue  # another deliverer was quicker
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                _log.error("commitment_report_unreadable", reason=type(error).__name__)
                with suppress(OSError):
                    path.rename(path.with_suffix(".unreadable"))

    def forget(self, report: CommitmentReport) -> None:
        """It is in the job store."""
        (self._reports / _name(report.transaction_uid)).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Forget requests that nobody will answer any more."""
        for path in self._asked.glob("*"):
            with suppress(FileNotFoundError):  # another deliverer sweeps too
                if time.time() - path.stat().st_mtime > _ASKED_FOR_S:
                    path.unlink()

    def _put(self, folder: Path, transaction_uid: str, content: bytes) -> None:
        with durable.full_disk_named():
            durable.make_folder(self._root, folder)
            durable.put_new(folder / _name(transaction_uid), time.time_ns(), [memoryview(content)])


def _name(transaction_uid: str) -> str:
    return hashlib.sha256(transaction_uid.encode("ascii")).hexdigest()[:32]


def _read(path: Path) -> CommitmentReport:
    record = json.loads(path.read_bytes())
    return CommitmentReport(
        transaction_uid=str(record["transaction_uid"]),
        committed=frozenset(map(str, record["committed"])),
        failed={str(uid): int(reason) for uid, reason in record["failed"].items()},
    )

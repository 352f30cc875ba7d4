"""What a listener answers to N-EVENT-REPORT, without a network."""

from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

from viscera.deliver import event_report
from viscera.deliver.event_report import PUSH_MODEL, ReportScp
from viscera.domain.jobs import CommitmentReport
from viscera.errors import SpoolFull
from viscera.metrics import Metrics


class Files:
    """Knows one transaction."""

    def __init__(self, error: Exception | None = None) -> None:
        self.kept: list[CommitmentReport] = []
        self._error = error

    def is_asked(self, transaction_uid: str) -> bool:
        return transaction_uid == "2.25.7"

    def keep(self, report: CommitmentReport) -> None:
        if self._error is not None:
            raise self._error
        self.kept.append(report)


def information(transaction_uid: str = "2.25.7", **failed: int) -> Dataset:
    def item(uid: str) -> Dataset:
        ds = Dataset()
        ds.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
        ds.ReferencedSOPInstanceUID = uid
        return ds

    report = Dataset()
    with disable_value_validation():
        report.TransactionUID = transaction_uid
    report.ReferencedSOPSequence = [item("1.2.3")]
    report.FailedSOPSequence = []
    for uid, reason in failed.items():
        with disable_value_validation():
            one = item(uid.replace("_", "."))
        one.FailureReason = reason
        report.FailedSOPSequence.append(one)
    return report


def answer(files: Files, ds: Dataset | None, event_type: int = 1, syntax: str = PUSH_MODEL) -> int:
    encoded = BytesIO(encode(ds, True, True) or b"") if ds is not None else None
    event: Any = SimpleNamespace(
        context=SimpleNamespace(abstract_syntax=syntax),
        event_type=event_type,
        request=SimpleNamespace(EventInformation=encoded),
        event_information=ds if ds is not None else Dataset(),
    )
    metrics = Metrics(CollectorRegistry())
    return ReportScp(files, metrics).answer(event, "pacs")  # type: ignore[arg-type]


def test_a_report_is_kept_with_what_failed_and_why() -> None:
    files = Files()
    assert answer(files, information(**{"1_2_5": 0x0112}), event_type=2) == 0x0000
    expected = CommitmentReport(
        transaction_uid="2.25.7", committed=frozenset({"1.2.3"}), failed={"1.2.5": 0x0112}
    )
    assert files.kept == [expected]


@pytest.mark.parametrize(
    ("ds", "event_type", "syntax", "status"),
    [
        (information("2.25.8"), 1, PUSH_MODEL, 0x0115),
        (information("../../etc"), 1, PUSH_MODEL, 0x0115),
        (information(**{"1_2_x": 1}), 2, PUSH_MODEL, 0x0115),
        (None, 1, PUSH_MODEL, 0x0115),
        (information(), 3, PUSH_MODEL, 0x0113),
        (information(), 1, "1.2.840.10008.5.1.4.1.1.2", 0x0118),
        (information(**{f"1_2_{n}": 1 for n in range(1000)}), 2, PUSH_MODEL, 0x0115),
    ],
)
def test_what_is_no_report_of_ours_is_not_kept(
    ds: Dataset | None, event_type: int, syntax: str, status: int
) -> None:
    files = Files()
    assert answer(files, ds, event_type, syntax) == status
    assert files.kept == []


def test_too_much_is_not_even_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_report, "_MOST_BYTES", 10)
    monkeypatch.setattr(event_report, "_read", lambda ds: pytest.fail("read"))
    assert answer(Files(), information()) == 0x0115


def test_what_cannot_be_kept_is_not_taken() -> None:
    assert answer(Files(SpoolFull("no room")), information()) == 0x0213
    assert answer(Files(OSError(5, "Input/output error")), information()) == 0x0110

"""Reports on commitment as files: kept once, given until they are forgotten, damage set aside."""

import os
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from viscera.domain.jobs import CommitmentReport
from viscera.errors import SpoolFull
from viscera.files import durable
from viscera.jobs.reports import ReportFiles


def report(number: int) -> CommitmentReport:
    return CommitmentReport(
        transaction_uid=f"2.25.{number}",
        committed=frozenset({"1.2.3", "1.2.4"}),
        failed={"1.2.5": 0x0112},
    )


def test_a_report_is_given_until_it_is_forgotten(tmp_path: Path) -> None:
    files = ReportFiles(tmp_path)
    assert (list(files.waiting()), files.is_asked("2.25.1")) == ([], False)
    files.ask("2.25.1")
    files.ask("2.25.1")
    for _ in range(2):
        files.keep(report(1))
    files.keep(report(2))
    # Another process sees the same; what it asked is known here.
    other = ReportFiles(tmp_path)
    assert other.is_asked("2.25.1")
    assert sorted(one.transaction_uid for one in other.waiting()) == ["2.25.1", "2.25.2"]
    assert report(1) in list(files.waiting())
    other.forget(report(1))
    other.forget(report(1))
    assert list(files.waiting()) == [report(2)]
    assert files.is_asked("2.25.1")  # its report may be repeated


def test_a_damaged_report_holds_up_no_other(tmp_path: Path) -> None:
    files = ReportFiles(tmp_path)
    files.keep(report(1))
    (damaged,) = (tmp_path / "commitment" / "reports").iterdir()
    damaged.write_bytes(b'{"transaction_uid": "2.25')
    files.keep(report(2))
    with capture_logs() as logs:
        assert list(files.waiting()) == [report(2)]
        assert list(files.waiting()) == [report(2)]
    assert [line["event"] for line in logs] == ["commitment_report_unreadable"]


def test_requests_are_forgotten_when_nobody_will_answer_them(tmp_path: Path) -> None:
    files = ReportFiles(tmp_path)
    files.ask("2.25.1")
    (old,) = (tmp_path / "commitment" / "asked").iterdir()
    os.utime(old, (time.time() - 61 * 86400,) * 2)
    files.ask("2.25.2")
    files.sweep()
    assert (files.is_asked("2.25.1"), files.is_asked("2.25.2")) == (False, True)


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, buffer: memoryview) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "_write_all", full)
    with pytest.raises(SpoolFull):
        ReportFiles(tmp_path).keep(report(1))
    assert list(ReportFiles(tmp_path).waiting()) == []

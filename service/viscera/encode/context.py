"""What results need to know of the job that made them."""

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import NamedTuple

from pydicom import dcmread

from viscera.domain.models import Grade, Model

WARNING = "NOT FOR CLINICAL USE"


class Predecessor(NamedTuple):
    """The report that a new one follows."""

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultContext:
    """The job's row, as far as results show it."""

    job_id: str
    job_key: str
    """Every UID comes from it and from the label map."""
    created_at: datetime
    """Aware; every time in a result is this one."""
    model: Model
    engine: str
    predecessor: Predecessor | None = None
    site: tzinfo = UTC
    """For sources that do not say their own."""

    @property
    def warning(self) -> str:
        """What must stand on every result of this model, or an empty string."""
        return "" if self.model.grade is Grade.VALIDATED else WARNING

    def describe(self, what: str) -> str:
        """Return a SeriesDescription: the warning first, for lists cut their columns short."""
        words = f"{what}, {self.model.full_name}"
        return (f"{self.warning} - {words}" if self.warning else words)[:64]


def read_predecessor(report: Path) -> Predecessor | None:
    """Return how a later report names the one in `report`; None if the file is gone."""
    if not report.is_file():
        return None
    ds = dcmread(report, stop_before_pixels=True)
    return Predecessor(
        study_uid=str(ds.StudyInstanceUID),
        series_uid=str(ds.SeriesInstanceUID),
        sop_class_uid=str(ds.SOPClassUID),
        sop_uid=str(ds.SOPInstanceUID),
    )

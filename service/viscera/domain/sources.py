"""What comes in: instances, their frames, and the stacks that frames form."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from viscera.domain.geometry import Geometry

CT, MR = "CT", "MR"

SINGLE_FRAME = {"1.2.840.10008.5.1.4.1.1.2": CT, "1.2.840.10008.5.1.4.1.1.4": MR}
MULTI_FRAME = {
    "1.2.840.10008.5.1.4.1.1.2.1": CT,  # Enhanced CT
    "1.2.840.10008.5.1.4.1.1.2.2": CT,  # Legacy Converted Enhanced CT
    "1.2.840.10008.5.1.4.1.1.4.1": MR,  # Enhanced MR
    "1.2.840.10008.5.1.4.1.1.4.4": MR,  # Legacy Converted Enhanced MR
}
MODALITIES = SINGLE_FRAME | MULTI_FRAME
"""By SOP class: what we take and stack. The class decides, not Modality, which peers write
freely."""


class Origin(StrEnum):
    """Which door a submission came through."""

    DICOM = "dicom"
    GRPC = "grpc"
    FILE = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One instance that is durable in the spool.

    The file is the record; this is what an index of the spool needs to know of it.
    """

    origin: Origin
    principal: str
    """Settings name of the DICOM peer, or the gRPC principal. Never peer text."""
    upload: str
    """The gRPC upload's id; empty for DICOM."""
    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class_uid: str
    path: Path
    """Relative to the spool's root."""
    sha256: str
    """Of the file's bytes after the file meta: the data set as the peer sent it."""
    size_bytes: int
    arrived_at: datetime
    position_lps: tuple[float, float, float] | None = None
    expected_count: int | None = None
    """NumberOfSeriesRelatedInstances, where the peer says it."""


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """A slice's identity. A slice is not an instance: enhanced objects hold many."""

    sop_uid: str
    frame: int
    """From 1, as DICOM counts; 1 for single-frame objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One slice with what stacking needs to know of it."""

    source: SourceFrame
    path: Path
    sha256: str
    rows: int
    columns: int
    position_lps: tuple[float, float, float]
    orientation_lps: tuple[float, float, float, float, float, float]
    spacing_mm: tuple[float, float]
    """(between rows, between columns)."""
    instance_number: int | None = None
    acquisition_number: int | None = None
    image_type: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFacts:
    """What holds for a whole series and rules may ask for."""

    study_uid: str
    series_uid: str
    sop_class_uid: str
    modality: str
    frame_of_reference_uid: str
    description: str = ""
    body_part: str = ""
    patient_sex: str = ""
    """``M``, ``F``, ``O`` or empty."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stack:
    """Frames that form one regular grid, in slice order along the grid's first axis."""

    facts: SeriesFacts
    frames: tuple[Frame, ...]
    geometry: Geometry

    @property
    def paths(self) -> tuple[Path, ...]:
        """Each source file once, in slice order."""
        return tuple(dict.fromkeys(frame.path for frame in self.frames))


Channels = tuple[tuple[str, str], ...]
"""Of an upload of several series: (name of the model's channel, SeriesInstanceUID)."""


class SubmissionState(StrEnum):
    """Where a submission stands. `open` takes instances; the others do not."""

    OPEN = "open"
    CLOSED = "closed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A PACS series, or one gRPC upload, which is never merged with another."""

    id: str
    origin: Origin
    principal: str
    series_uid: str
    study_uid: str
    version: int
    """From 1; a late instance after closing opens the next one."""
    state: SubmissionState
    model: str
    """``name`` or ``name/version`` that a gRPC client asked for; empty: the rules choose."""
    opened_at: datetime
    paths: tuple[Path, ...]
    """Absolute paths of its instances, all versions' together."""
    channels: Channels = ()
    """Which series is which channel, where a gRPC client sent several; empty: one series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """What is known of an open submission's arrival; `series.closing` turns it into a time."""

    arrivals: tuple[datetime, ...]
    """Of the last instances of this submission, oldest first; at most 64."""
    instances: int
    expected_count: int | None
    positions_lps: tuple[tuple[float, float, float], ...]
    """Of all its instances that have one."""
    peer_last_arrival: datetime
    """Of anything from the same peer, over all its associations."""
    peer_associations_open: int

"""What goes out: measurements, the verdict, and the written objects."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from viscera.domain.models import Label


class Presence(StrEnum):
    """What can be said of an organ. An algorithm cannot know that one is absent."""

    FOUND = "found"
    FOUND_TRUNCATED = "found_truncated"
    NOT_FOUND = "not_found"
    OUTSIDE_FIELD_OF_VIEW = "outside_field_of_view"
    NOT_SEGMENTED = "not_segmented"


class FlagKind(StrEnum):
    """What may be wrong with one organ."""

    VOLUME_UNUSUAL = "volume_unusual"
    VOLUME_IMPOSSIBLE = "volume_impossible"
    SIDE_CONTRADICTED = "side_contradicted"
    MISPLACED = "misplaced"  # along the body
    REMOVED = "removed"  # much of what the network painted was taken away


@dataclass(frozen=True, slots=True)
class Flag:
    """A reason to look at one organ closely."""

    kind: FlagKind
    text: str
    """A sentence without patient data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganMeasurement:
    """One organ, with units. Intensities are HU for CT, the scanner's own for MR."""

    label: Label
    presence: Presence
    voxels: int = 0
    volume_ml: float = 0.0
    mean_intensity: float | None = None
    sd_intensity: float | None = None
    extent_mm: tuple[float, float, float] | None = None
    """Size of the bounding box along (slice, row, column)."""
    centroid_lps: tuple[float, float, float] | None = None
    """Centre of its voxels, mm."""
    truncated_by: tuple[str, ...] = ()
    """Of ``array_edge``, ``reconstruction_circle``."""
    removed_ml: float = 0.0
    """What postprocessing took away from it; not in `volume_ml`."""
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What postprocessing took away from one organ."""

    name: str
    """Of the label, as in the model."""
    outside_body_voxels: int = 0
    wrong_side_voxels: int = 0
    """In pieces on the wrong side of the patient."""
    apart_voxels: int = 0
    """In pieces that were not connected to the largest one."""

    @property
    def voxels(self) -> int:
        """All of them."""
        return self.outside_body_voxels + self.wrong_side_voxels + self.apart_voxels


class Decision(StrEnum):
    """What becomes of a result."""

    DELIVER = "deliver"
    FLAG = "flag"
    WITHHOLD = "withhold"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision with its reasons, as sentences without patient data."""

    decision: Decision
    reasons: tuple[str, ...] = ()


class ResultKind(StrEnum):
    """The files of one result."""

    SEG = "seg"
    SR = "sr"
    QC = "qc"
    VOLUMES = "volumes"
    LABELS = "labels"  # `viscera segment` of a NIfTI, NRRD or MHA: the label map itself


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFile:
    """One written file; it counts once its digest is committed."""

    kind: ResultKind
    path: Path
    """Relative to the results root."""
    sha256: str
    size_bytes: int
    sop_class_uid: str = ""
    sop_uid: str = ""

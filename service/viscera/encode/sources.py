"""The source's headers, as highdicom needs them: one small single-frame header per slice.

A slice is not an instance. For highdicom every slice of a stack looks like an instance of its
own, whatever it came from; `seg` writes the true references afterwards. So one path serves
single-frame, enhanced and legacy converted sources, several stacks in one object, and objects
whose orientation stands in each frame. Positions come from the stack, where `series` checked
them; only the first file is read again, for patient, study and equipment.
"""

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.valuerep import DA, TM

from viscera.domain.sources import MULTI_FRAME, SINGLE_FRAME, Frame, Stack
from viscera.encode.identity import derived_uid
from viscera.errors import DatasetMismatch

CHARACTER_SET = "ISO_IR 192"
"""UTF-8: whatever the source's was, the patient's name keeps all its letters."""

_SINGLE_FRAME = {modality: uid for uid, modality in SINGLE_FRAME.items()}
_REQUIRED = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
"""Type 2: may lack a value, and in the field lack altogether."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sources:
    """A stack and what stands in its first header."""

    stack: Stack
    header: Dataset
    """Patient, study and equipment, decoded; no pixels, no functional groups."""

    @property
    def is_multi_frame(self) -> bool:
        """Whether references need frame numbers."""
        return self.stack.facts.sop_class_uid in MULTI_FRAME

    def slices(self) -> list[Dataset]:
        """Return one header per slice, in the stack's order; the first holds the patient."""
        headers = [self._patient(), *(Dataset() for _ in self.stack.frames[1:])]
        shared = _shared_plane(self.stack, self.header)
        sop_class_uid = _SINGLE_FRAME[self.stack.facts.modality]
        for ds, frame in zip(headers, self.stack.frames, strict=True):
            ds.update(deepcopy(shared))
            _identify(ds, self.stack, frame, sop_class_uid)
            ds.ImagePositionPatient = list(frame.position_lps)
        return headers

    def instances(self) -> list[Dataset]:
        """Return one header per instance, under its own SOP class; the first holds the patient."""
        frames = {frame.source.sop_uid: frame for frame in self.stack.frames}
        headers = [self._patient(), *(Dataset() for _ in range(len(frames) - 1))]
        for ds, frame in zip(headers, frames.values(), strict=True):
            _identify(ds, self.stack, frame, self.stack.facts.sop_class_uid)
        return headers

    def _patient(self) -> Dataset:
        """Return the header without the patient's name, which `stamp.finish` writes."""
        ds = deepcopy(self.header)  # a Dataset's copy would share its elements
        ds.PatientName = None
        return ds

    def series_number(self, nth: int) -> int:
        """Return the number of our `nth` series: 302 becomes 30201, so that lists sort well."""
        try:
            number = int(self.header.get("SeriesNumber") or 0)
        except ValueError:
            number = 0
        return (number * 100 if 0 < number < 10_000_000 else 9000) + nth


def read_sources(stack: Stack) -> Sources:
    """Read the header of `stack`'s first file.

    Raises
    ------
    DatasetMismatch
        If it cannot be read any more.
    """
    try:
        header = pydicom.dcmread(stack.frames[0].path, stop_before_pixels=True)
        header.decode()
    except (OSError, InvalidDicomError, LookupError, ValueError) as error:
        raise DatasetMismatch(
            f"the first file of series {stack.facts.series_uid} cannot be read again: "
            f"{type(error).__name__}; send the series again"
        ) from error
    return Sources(stack=stack, header=_cleaned(header))


def _cleaned(header: Dataset) -> Dataset:
    """Keep what results copy, with values that may be written again."""
    thickness = _thickness(header)
    kept = Dataset()
    kept.update({e.tag: e for e in header if not e.tag.is_private and e.VR != "SQ"})
    for keyword in _REQUIRED:
        if kept.get(keyword) is None:
            setattr(kept, keyword, "")
    if kept.PatientSex not in ("M", "F", "O"):
        kept.PatientSex = ""
    for keyword, parse in (("PatientBirthDate", DA), ("StudyDate", DA), ("StudyTime", TM)):
        try:
            parse(kept.get(keyword))
        except ValueError:
            setattr(kept, keyword, "")
    kept.SliceThickness = thickness
    return kept


def _thickness(header: Dataset) -> float | None:
    groups = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
    measures = groups[0].get("PixelMeasuresSequence") or [header]
    try:
        return float(measures[0].get("SliceThickness") or 0.0) or None
    except ValueError:
        return None


def _shared_plane(stack: Stack, header: Dataset) -> Dataset:
    """Return what all slices of a stack have in common."""
    geometry, frame = stack.geometry, stack.frames[0]
    columns = geometry.affine_lps[:3, :3]
    normal = np.cross(columns[:, 2], columns[:, 1])
    between = abs(float(columns[:, 0] @ normal) / float(np.linalg.norm(normal)))
    ds = Dataset()
    ds.Rows, ds.Columns = frame.rows, frame.columns
    ds.ImageOrientationPatient = list(frame.orientation_lps)
    ds.PixelSpacing = list(frame.spacing_mm)
    # Of the source only the stack's own gap is true: the attribute may be missing or negative.
    ds.SpacingBetweenSlices = between
    ds.SliceThickness = header.get("SliceThickness") or between
    return ds


def _identify(ds: Dataset, stack: Stack, frame: Frame, sop_class_uid: str) -> None:
    facts = stack.facts
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class_uid, frame.source.sop_uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID = facts.study_uid, facts.series_uid
    ds.Modality = facts.modality
    # A SEG must have a frame of reference; a source without one gets one of its own.
    ds.FrameOfReferenceUID = facts.frame_of_reference_uid or derived_uid("frame", facts.series_uid)

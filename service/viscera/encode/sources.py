"""What results need to know of the source: the stack, and its first header.

Positions come from the stack, where `series` checked them; only the first file is read again, for
patient, study and equipment. So one path serves single-frame, enhanced and legacy converted
sources, several stacks in one object, and objects whose orientation stands in each frame.
"""

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM

from viscera.domain.sources import MULTI_FRAME, Frame, Stack
from viscera.encode.identity import derived_uid
from viscera.encode.inherited import EQUIPMENT, LOSSY, PATIENT, STUDY
from viscera.errors import DatasetMismatch, StorageUnavailable
from viscera.files.faults import storage_faults_named

CHARACTER_SET = "ISO_IR 192"
"""UTF-8: whatever the source's was, the patient's name keeps all its letters."""

_READ = (
    "SpecificCharacterSet",
    *PATIENT,
    *STUDY,
    *LOSSY,
    *EQUIPMENT,
    *("TimezoneOffsetFromUTC", "AcquisitionDateTime", "SeriesNumber", "SeriesDescription"),
    *("SliceThickness", "PositionReferenceIndicator", "SharedFunctionalGroupsSequence"),
)
"""Nothing else is touched: pydicom cannot convert every private element that scanners write."""
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

    @property
    def frame_of_reference_uid(self) -> str:
        """A result must have one; a source without gets one of its own."""
        facts = self.stack.facts
        return facts.frame_of_reference_uid or derived_uid("frame", facts.series_uid)

    @property
    def slice_gap_mm(self) -> float:
        """Distance between neighbouring slices, square to them."""
        step, down, along = self.stack.geometry.affine_lps[:3, :3].T
        normal = np.cross(along, down)
        return abs(float(step @ normal) / float(np.linalg.norm(normal)))

    def instances(self) -> list[Dataset]:
        """Return one header per instance, under its own SOP class; the first holds the patient."""
        frames = {frame.source.sop_uid: frame for frame in self.stack.frames}
        headers = [self._patient(), *(Dataset() for _ in range(len(frames) - 1))]
        for ds, frame in zip(headers, frames.values(), strict=True):
            self._identify(ds, frame)
        return headers

    def _identify(self, ds: Dataset, frame: Frame) -> None:
        facts = self.stack.facts
        ds.SOPClassUID, ds.SOPInstanceUID = facts.sop_class_uid, frame.source.sop_uid
        ds.StudyInstanceUID, ds.SeriesInstanceUID = facts.study_uid, facts.series_uid
        ds.Modality = facts.modality
        ds.FrameOfReferenceUID = self.frame_of_reference_uid

    def _patient(self) -> Dataset:
        """Return the header without the patient's name, which `stamp.finish` writes."""
        ds = deepcopy(self.header)  # a Dataset's copy would share its elements
        ds.PatientName = None
        return ds

    def series_number(self, nth: int) -> int:
        """Return the number of our `nth` series: 302 becomes 30201, so that lists sort well."""
        try:
            number = int(self.header.get("SeriesNumber") or 0)
        except (TypeError, ValueError):  # several values, too
            number = 0
        return (number * 100 if 0 < number < 10_000_000 else 9000) + nth


def read_sources(stack: Stack) -> Sources:
    """Read the header of `stack`'s first file.

    Raises
    ------
    DatasetMismatch
        If it cannot be read any more.
    StorageUnavailable
        If the machine is at fault.
    """
    path = stack.frames[0].path
    try:
        with storage_faults_named():
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_READ))
        return Sources(stack=stack, header=_cleaned(header))
    except StorageUnavailable:
        raise
    except Exception as error:  # a damaged file makes pydicom raise whatever its code meets
        raise DatasetMismatch(
            f"the first file of series {stack.facts.series_uid} cannot be read again: "
            f"{type(error).__name__}; send the series again"
        ) from error


def _cleaned(header: Dataset) -> Dataset:
    """Keep what results copy, with values that may be written again."""
    thickness = _thickness(header)
    header.pop("SharedFunctionalGroupsSequence", None)
    kept = Dataset()
    for keyword in _READ:
        element = _element(header, keyword)
        if element is not None and element.VR != "SQ":
            kept[keyword] = element
    kept.decode()
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


def _element(header: Dataset, keyword: str) -> DataElement | None:
    """Return one element, None where there is none or its bytes are no value of its VR."""
    if keyword not in header:
        return None
    try:
        return header[keyword]
    except Exception:  # pydicom's own for a wrong length derives from nothing else
        return None


def _thickness(header: Dataset) -> float | None:
    groups = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
    measures = groups[0].get("PixelMeasuresSequence") or [header]
    try:
        return float(measures[0].get("SliceThickness") or 0.0) or None
    except Exception:  # several values, or none of its VR
        return None

"""Headers of CT and MR instances, single-frame or multi-frame, as frames that can be stacked."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from pydicom.uid import UID

from viscera.domain.sources import MODALITIES, MULTI_FRAME, Frame, SourceFrame
from viscera.errors import DatasetMismatch
from viscera.series.elements import Elements, tag_of
from viscera.series.functional_groups import frame_views
from viscera.series.image_types import no_slice
from viscera.series.part10 import read_part10
from viscera.series.planes import matrix_of, orientation_of, position_of, spacing_of
from viscera.series.traits import TRAITS, Trait

_KEYWORDS = (
    *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID"),
    *("SeriesInstanceUID", "FrameOfReferenceUID", "SeriesDescription", "BodyPartExamined"),
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "ImageType"),
    *("InstanceNumber", "AcquisitionNumber", "NumberOfFrames", "SamplesPerPixel"),
    *("Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *(keyword for trait in TRAITS for macro, keyword in trait.places if not macro),
)
_TAGS = tuple(sorted({tag_of(keyword) for keyword in _KEYWORDS}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A frame, and by what it may differ from another at the same position."""

    frame: Frame
    traits: tuple[str, ...]
    """One value for each of `TRAITS`; only compared, never read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What one instance says of itself. Holds no patient data but sex."""

    path: Path
    sha256: str
    sop_uid: str
    sop_class_uid: str
    study_uid: str
    series_uid: str
    frame_of_reference_uid: str = ""
    patient: bytes = b""
    """A digest that only tells whether two patients are one."""
    description: str = ""
    body_part: str = ""
    patient_sex: str = ""
    slices: tuple[Slice, ...] = ()
    left_out: tuple[str, ...] = ()
    """Of each frame that is no slice, why: localiser, projection, another kind of object ..."""

    @property
    def is_image(self) -> bool:
        """Whether its SOP class is one of those that we stack."""
        return self.sop_class_uid in MODALITIES


class _View(Protocol):
    """Where the attributes of one frame are found."""

    def find(self, macro: str, keyword: str) -> Elements | None: ...


@dataclass(frozen=True, slots=True)
class _SingleFrame:
    elements: Elements

    def find(self, macro: str, keyword: str) -> Elements | None:
        return self.elements


def read_header(path: Path) -> Header:
    """Read one instance without its pixels.

    Raises
    ------
    InvalidUID
        If one of its UIDs is missing or breaks PS3.5 section 9.
    DatasetMismatch
        If the file cannot be parsed, or an element is not of its type.
    GeometryMismatch
        If a slice does not say where it lies.
    UndecodablePixels
        If the data set is deflated.
    """
    ds, sha256 = read_part10(path, _TAGS)
    sop_uid = Elements(ds, "an instance").uid("SOPInstanceUID")
    elements = Elements(ds, f"instance {sop_uid}")
    sop_class_uid = elements.uid("SOPClassUID")
    header = Header(
        path=path,
        sha256=sha256,
        sop_uid=sop_uid,
        sop_class_uid=sop_class_uid,
        study_uid=elements.uid("StudyInstanceUID"),
        series_uid=elements.uid("SeriesInstanceUID"),
        left_out=(f"{UID(sop_class_uid).name} is not a CT or MR image",),
    )
    return _with_frames(header, elements) if header.is_image else header


def _with_frames(header: Header, elements: Elements) -> Header:
    slices, left_out = [], []
    for number, view in enumerate(_views(header, elements), start=1):
        because = _no_slice(view, elements)
        if because:
            left_out.append(because)
        else:
            slices.append(_slice(header, elements, view, number))
    return replace(
        header,
        frame_of_reference_uid=elements.uid("FrameOfReferenceUID") if slices else "",
        patient=_patient(elements),
        description=elements.text("SeriesDescription"),
        body_part=elements.text("BodyPartExamined"),
        patient_sex=_sex(elements),
        slices=tuple(slices),
        left_out=tuple(left_out),
    )


def _views(header: Header, elements: Elements) -> Iterator[_View]:
    if header.sop_class_uid in MULTI_FRAME:
        yield from frame_views(elements)
        return
    if (elements.whole("NumberOfFrames") or 1) != 1:
        raise DatasetMismatch(f"{elements.who} is single-frame by its class, but says it has more")
    yield _SingleFrame(elements)


def _image_type(view: _View) -> tuple[str, ...]:
    for macro in ("CTImageFrameTypeSequence", "MRImageFrameTypeSequence"):
        found = view.find(macro, "FrameType")
        if found is not None and found.words("FrameType"):
            return found.words("FrameType")
    found = view.find("", "ImageType")
    return found.words("ImageType") if found else ()


def _technique(view: _View) -> tuple[str, ...]:
    keyword = "VolumeBasedCalculationTechnique"
    for macro in ("CTImageFrameTypeSequence", "MRImageFrameTypeSequence"):
        found = view.find(macro, keyword)
        if found is not None and found.words(keyword):
            return found.words(keyword)
    return ()


def _no_slice(view: _View, elements: Elements) -> str:
    if (elements.whole("SamplesPerPixel") or 1) != 1:
        return "colour image"
    return no_slice(_image_type(view), _technique(view))


def _slice(header: Header, elements: Elements, view: _View, number: int) -> Slice:
    rows, columns = matrix_of(elements)
    return Slice(
        frame=Frame(
            source=SourceFrame(header.sop_uid, number),
            path=header.path,
            sha256=header.sha256,
            rows=rows,
            columns=columns,
            position_lps=position_of(
                view.find("PlanePositionSequence", "ImagePositionPatient"), elements.who
            ),
            orientation_lps=orientation_of(
                view.find("PlaneOrientationSequence", "ImageOrientationPatient"), elements.who
            ),
            spacing_mm=spacing_of(view.find("PixelMeasuresSequence", "PixelSpacing"), elements.who),
            instance_number=elements.whole("InstanceNumber"),
            acquisition_number=elements.whole("AcquisitionNumber"),
            image_type=_image_type(view),
        ),
        traits=tuple(_trait(trait, header, view) for trait in TRAITS),
    )


def _trait(trait: Trait, header: Header, view: _View) -> str:
    if not trait.places:
        return header.sop_uid if header.sop_class_uid in MULTI_FRAME else ""
    for macro, keyword in trait.places:
        found = view.find(macro, keyword)
        value = found.raw(keyword) if found else b""
        if value:
            return value.decode("latin-1")
    return ""


def _patient(elements: Elements) -> bytes:
    """Where PatientID is empty, name and birth date stand in for it."""
    keywords = ("PatientID",) if elements.raw("PatientID") else ("PatientName", "PatientBirthDate")
    return hashlib.sha256(b"\\".join(elements.raw(keyword) for keyword in keywords)).digest()


def _sex(elements: Elements) -> str:
    sex = elements.raw("PatientSex").decode("latin-1").upper()
    return sex if sex in ("M", "F", "O") else ""

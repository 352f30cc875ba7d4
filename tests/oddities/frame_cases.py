"""Objects of many frames: legacy converted by highdicom, and enhanced ones written by hand."""

import warnings
from collections.abc import Callable, Sequence

import highdicom
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
)

from oddities.case import UIDS, Case, Files, change, datasets, plain, scanned, slices, values
from oddities.judge import Scanned

GROUP = "Many frames in one object"


def legacy_converted(sources: Sequence[Dataset], *, mr: bool = False) -> Dataset:
    """Return one Legacy Converted Enhanced object of single frames, made by highdicom."""
    kind = (
        highdicom.legacy.LegacyConvertedEnhancedMRImage
        if mr
        else highdicom.legacy.LegacyConvertedEnhancedCTImage
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = kind(
            list(sources),
            series_instance_uid=UIDS["series_uid"] + ".9",
            series_number=9,
            sop_instance_uid=UIDS["series_uid"] + ".9.1",
            instance_number=1,
        )
    return converted


def enhanced(
    planes: Sequence[tuple[np.ndarray, np.ndarray, dict[str, object]]], *, mr: bool = False
) -> Dataset:
    """Return an enhanced object of (stored values, position, frame's macros by keyword)."""
    rows, columns = planes[0][0].shape
    (plain_one,) = datasets(slices(values()[:1]))
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = EnhancedMRImageStorage if mr else EnhancedCTImageStorage
    ds.SOPInstanceUID = UIDS["series_uid"] + ".8.1"
    for keyword in (
        *("PatientName", "PatientID", "PatientSex", "PatientBirthDate", "StudyInstanceUID"),
        *("SeriesInstanceUID", "FrameOfReferenceUID", "StudyDate", "StudyTime", "StudyID"),
        *("SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored"),
        *("HighBit", "PixelRepresentation", "SeriesNumber", "AccessionNumber"),
        *("ReferringPhysicianName", "Manufacturer", "ContentDate", "ContentTime"),
    ):
        setattr(ds, keyword, plain_one.get(keyword))
    ds.Modality = "MR" if mr else "CT"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.InstanceNumber, ds.NumberOfFrames = 1, len(planes)
    ds.Rows, ds.Columns = rows, columns
    ds.SharedFunctionalGroupsSequence = Items([_shared(mr=mr)])
    ds.PerFrameFunctionalGroupsSequence = Items(
        [_own(position, macros) for _, position, macros in planes]
    )
    ds.PixelData = np.stack([stored for stored, _, _ in planes]).astype("<i2").tobytes()
    ds["PixelData"].VR = "OW"
    return change(ds)


def _item(**elements: object) -> Dataset:
    return change_plain(Dataset(), elements)


def change_plain(ds: Dataset, elements: dict[str, object]) -> Dataset:
    """Set `elements` of an item."""
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def _shared(*, mr: bool) -> Dataset:
    s = slices(values()[:1])
    frame_type = _item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])
    macro = "MRImageFrameTypeSequence" if mr else "CTImageFrameTypeSequence"
    return _item(
        PixelMeasuresSequence=Items([_item(PixelSpacing=list(s.spacing), SliceThickness=2.5)]),
        PlaneOrientationSequence=Items([_item(ImageOrientationPatient=list(s.orientation))]),
        PixelValueTransformationSequence=Items(
            [_item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="US" if mr else "HU")]
        ),
        **{macro: Items([frame_type])},
    )


def _own(position: np.ndarray, macros: dict[str, object]) -> Dataset:
    return _item(
        PlanePositionSequence=Items([_item(ImagePositionPatient=position.tolist())]), **macros
    )


def _legacy(*, mr: bool = False) -> Files:
    files = plain()
    if mr:
        for ds in files.datasets:
            change(ds, SOPClassUID=MRImageStorage, Modality="MR", RescaleType="US")
    order = np.random.default_rng(2).permutation(len(files.datasets))
    made = legacy_converted([files.datasets[k] for k in order], mr=mr)
    return Files(datasets=[made], scanned=files.scanned)


def _descending() -> Files:
    hu = values()
    s = slices(hu)
    planes = [(s.stored[k], s.position(k), {}) for k in reversed(range(len(hu)))]
    return Files(datasets=[enhanced(planes)], scanned=(scanned(s, hu),))


def _in_turn(macro: str, items: tuple[Dataset, Dataset], *, mr: bool) -> Files:
    """Return two images of each slice in turn, in one object; `macro` tells them apart."""
    planes, truth = [], []
    for n, item in enumerate(items):
        hu = values(seed=n)
        s = slices(hu)
        own = {macro: Items([item])}
        planes.append([(s.stored[k], s.position(k), own) for k in range(10)])
        truth.append(scanned(s, hu))
    mixed = [plane for pair in zip(*planes, strict=True) for plane in pair]
    return Files(datasets=[enhanced(mixed, mr=mr)], scanned=tuple(truth))


def _echoes() -> Files:
    items = (_item(EffectiveEchoTime=2.3), _item(EffectiveEchoTime=4.6))
    return _in_turn("MREchoSequence", items, mr=True)


def _voltages() -> Files:
    return _in_turn("CTXRayDetailsSequence", (_item(KVP=80), _item(KVP=140)), mr=False)


def _missing() -> Files:
    hu = values()
    s = slices(hu)
    keep = [k for k in range(len(hu)) if k != 4]
    planes = [(s.stored[k], s.position(k), {}) for k in keep]
    return Files(datasets=[enhanced(planes)], scanned=(scanned(s, hu, keep=keep),))


def _in_two_objects() -> Files:
    """Return one volume whose halves came as two converted objects of one series."""
    files = plain()
    halves = [legacy_converted(files.datasets[:5]), legacy_converted(files.datasets[5:])]
    change(halves[1], SOPInstanceUID=UIDS["series_uid"] + ".9.2")
    return Files(datasets=halves, scanned=_one(files.scanned))


def _one(scans: tuple[Scanned, ...]) -> tuple[Scanned, ...]:
    return scans


def _case(
    name: str, make: Callable[[], Files], *, usable: bool = True, names: tuple[str, ...] = ()
) -> Case:
    return Case(group=GROUP, name=name, make=make, usable=usable, names=names)


CASES = (
    _case("Legacy Converted Enhanced CT, converted out of order", _legacy),
    _case("Legacy Converted Enhanced MR, converted out of order", lambda: _legacy(mr=True)),
    _case("one volume as two Legacy Converted objects", _in_two_objects),
    _case("Enhanced CT, frames from the head down", _descending),
    _case("Enhanced MR, two echoes frame by frame", _echoes),
    _case("Enhanced CT, two tube voltages frame by frame", _voltages),
    _case(
        "Enhanced CT with a frame missing",
        _missing,
        usable=False,
        names=("IncompleteSeries", "(-50.00, -40.00, 20.00)"),
    ),
)

"""Source series written for a test, by pydicom and highdicom."""

from pathlib import Path

import numpy as np
import pydicom
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
)

STUDY, SERIES, FRAME = "1.2.3.4", "1.2.3.4.5", "1.2.3.4.6"
SHAPE = (11, 20, 27)
"""20 x 27 is no multiple of eight: frames of the SEG begin within bytes."""
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)
FLIPPED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SPACING = (0.9, 1.1)


def _header(sop_class: str, sop_uid: str, modality: str) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = sop_class, sop_uid, modality
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = STUDY, SERIES, FRAME
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName, ds.PatientID, ds.PatientSex = "Müller^Änne", "p1", "M"
    ds.PatientBirthDate, ds.StudyDate, ds.StudyTime = "19500101", "20260101", "080000"
    ds.AccessionNumber, ds.StudyID, ds.ReferringPhysicianName = "a1", "s1", "Doe^Jo"
    ds.Manufacturer, ds.SeriesNumber, ds.InstanceNumber = "Maker", 7, 1
    ds.ContentDate, ds.ContentTime = "20260101", "080000"
    ds.Rows, ds.Columns = SHAPE[1:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleIntercept, ds.RescaleSlope = 0, 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    return ds


def _save(ds: Dataset, path: Path) -> Path:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True)
    return path


def positions(orientation, step_mm=2.5, count=SHAPE[0]) -> np.ndarray:
    cosines = np.array(orientation)
    normal = np.cross(cosines[:3], cosines[3:])
    return np.array([-20.0, 11.0, 300.0]) + np.arange(count)[:, None] * step_mm * normal


def write_single_frames(
    folder: Path, orientation=AXIAL, modality="CT", shape=SHAPE, **more
) -> list[Path]:
    sop_class, paths = CTImageStorage if modality == "CT" else MRImageStorage, []
    for k, position in enumerate(positions(orientation, count=shape[0])):
        ds = _header(sop_class, f"{SERIES}.{k + 1}", modality)
        ds.ImageOrientationPatient, ds.PixelSpacing = list(orientation), list(SPACING)
        ds.ImagePositionPatient = [pydicom.valuerep.DSfloat(x, auto_format=True) for x in position]
        ds.SliceThickness, ds.InstanceNumber = 2.5, k + 1
        ds.Rows, ds.Columns = shape[1:]
        ds.PixelData = np.full(shape[1:], k, dtype=np.int16).tobytes()
        for keyword, value in more.items():
            setattr(ds, keyword, value)
            if value is None:
                del ds[keyword]
        paths.append(_save(ds, folder / f"{k}.dcm"))
    return paths


def write_enhanced(folder: Path, orientation=OBLIQUE, modality="CT") -> list[Path]:
    """Write two enhanced objects of one stack, frames shuffled, orientation in each frame."""
    sop_class = EnhancedCTImageStorage if modality == "CT" else EnhancedMRImageStorage
    order = np.random.default_rng(4).permutation(SHAPE[0])
    return [
        _write_enhanced(
            folder / f"{n}.dcm", sop_class, f"{SERIES}.{n}", modality, part, orientation
        )
        for n, part in enumerate((order[:5], order[5:]), 1)
    ]


def _write_enhanced(path, sop_class, sop_uid, modality, slices, orientation) -> Path:
    ds = _header(sop_class, sop_uid, modality)
    ds.NumberOfFrames = len(slices)
    measures = Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(SPACING), 3.0
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    ds.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for k in slices:
        own, place, turn = Dataset(), Dataset(), Dataset()
        position = positions(orientation)[k]
        place.ImagePositionPatient = [
            pydicom.valuerep.DSfloat(x, auto_format=True) for x in position
        ]
        turn.ImageOrientationPatient = list(orientation)
        own.PlanePositionSequence, own.PlaneOrientationSequence = [place], [turn]
        groups.append(own)
    ds.PerFrameFunctionalGroupsSequence = groups
    ds.PixelData = np.zeros((len(slices), *SHAPE[1:]), dtype=np.int16).tobytes()
    return _save(ds, path)


def write_legacy_converted(folder: Path) -> list[Path]:
    """Have highdicom convert a single-frame series."""
    parts = [pydicom.dcmread(path) for path in write_single_frames(folder, KVP="120")]
    for ds in parts:
        ds.FrameOfReferenceUID, ds.AcquisitionNumber = FRAME, 1
        ds.PositionReferenceIndicator = ""
    converted = LegacyConvertedEnhancedCTImage(
        legacy_datasets=parts,
        series_instance_uid=f"{SERIES}.9",
        series_number=9,
        sop_instance_uid=f"{SERIES}.9.1",
        instance_number=1,
    )
    converted.save_as(folder / "converted.dcm", enforce_file_format=True)
    return [folder / "converted.dcm"]

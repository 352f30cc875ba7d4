"""CT series written by pydicom alone, with known stored values; no code of ours takes part."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass
class Slices:
    """What a scanner would store: one array per slice with its own rescale."""

    stored: np.ndarray  # (slice, row, column), int16 or uint16
    orientation: Sequence[float] = AXIAL
    first_position: Sequence[float] = (-50.0, -40.0, 10.0)
    step: Sequence[float] = (0.0, 0.0, 2.5)  # from one slice to the next, LPS mm
    spacing: Sequence[float] = (0.8, 0.7)
    slopes: Sequence[float] | None = None
    intercepts: Sequence[float] | None = None
    padding: int | None = None
    sex: str = "F"
    description: str = "synthetic"
    study_uid: str = field(default_factory=generate_uid)
    series_uid: str = field(default_factory=generate_uid)
    frame_of_reference_uid: str = field(default_factory=generate_uid)
    patient_id: str = "TEST"

    def position(self, k: int) -> np.ndarray:
        return np.asarray(self.first_position, float) + k * np.asarray(self.step, float)

    def rescale(self, k: int) -> tuple[float, float]:
        slope = 1.0 if self.slopes is None else float(self.slopes[k])
        intercept = -1024.0 if self.intercepts is None else float(self.intercepts[k])
        return slope, intercept


def dataset_of(s: Slices, k: int, sop_uid: str | None = None) -> Dataset:
    """Return slice `k` as a CT Image Storage instance."""
    rows, columns = s.stored.shape[1:]
    slope, intercept = s.rescale(k)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = sop_uid or generate_uid(entropy_srcs=[s.series_uid, str(k)])
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = s.study_uid, s.series_uid
    ds.FrameOfReferenceUID = s.frame_of_reference_uid
    ds.PatientName, ds.PatientID, ds.PatientSex = "Test^Patient", s.patient_id, s.sex
    ds.PatientBirthDate = ds.AccessionNumber = ds.ReferringPhysicianName = ""
    ds.StudyDate, ds.StudyTime, ds.StudyID = "20260101", "120000", "1"
    ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20260101"
    ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "120000"
    ds.Modality, ds.SeriesNumber, ds.SeriesDescription = "CT", 2, s.description
    ds.InstanceNumber, ds.AcquisitionNumber = k + 1, 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Manufacturer, ds.KVP, ds.PatientPosition = "none", "120", "HFS"
    ds.PositionReferenceIndicator = ds.Laterality = ""
    ds.ImageOrientationPatient = [f"{x:.10g}"[:16] for x in s.orientation]
    ds.ImagePositionPatient = [f"{x:.8g}"[:16] for x in s.position(k)]
    ds.PixelSpacing = [f"{x:.8g}" for x in s.spacing]
    ds.SliceThickness = f"{np.linalg.norm(s.step):.6g}"
    ds.Rows, ds.Columns = rows, columns
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    signed = s.stored.dtype.kind == "i"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.PixelRepresentation = int(signed)
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = str(slope), str(intercept), "HU"
    if s.padding is not None:
        ds.add_new("PixelPaddingValue", "SS" if signed else "US", s.padding)
    ds.PixelData = (
        np.ascontiguousarray(s.stored[k]).astype(s.stored.dtype.newbyteorder("<")).tobytes()
    )
    return ds


def write_series(s: Slices, folder: Path, order: Sequence[int] | None = None) -> list[Path]:
    """Write the slices in `order`; names and InstanceNumbers then follow that order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, k in enumerate(order if order is not None else range(len(s.stored))):
        ds = dataset_of(s, k)
        ds.InstanceNumber = number + 1
        path = folder / f"{number:04d}.dcm"
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def body(shape: tuple[int, int, int] = (12, 48, 40), seed: int = 0) -> np.ndarray:
    """Return HU, int16: noise, smooth hills and an asymmetric bright corner; every band occurs."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, n) for n in shape], indexing="ij"))
    hills = sum(
        rng.uniform(100, 900)
        * np.exp(-(((grid - rng.uniform(0, 1, (3, 1, 1, 1))) ** 2).sum(0)) * 12)
        for _ in range(5)
    )
    hu = -1000 + hills + rng.normal(0, 60, shape)
    hu[: shape[0] // 3, : shape[1] // 4, : shape[2] // 5] += 1500
    return np.clip(np.rint(hu), -1024, 3000).astype(np.int16)
